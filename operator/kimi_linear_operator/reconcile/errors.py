"""Why a pass over a resource cannot go on as planned."""

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.conditions import Reason

_CONFLICT = 409


class NameTakenError(Exception):
    """An object with a child's name exists and belongs to somebody else."""


class GoneError(Exception):
    """The resource was deleted, and the cache does not show it yet."""


class LeftoverError(Exception):
    """An object with a child's name belonged to a deleted resource of the same name, and will be deleted soon."""


class NotReadYetError(Exception):
    """Whether a kind that the resource asks for can be read is not known yet."""


class BehindError(ApiError):
    """The cache is older than the cluster."""

    def __init__(self, message: str) -> None:
        super().__init__(_CONFLICT, message)


def lasting_reason(error: NameTakenError | LeftoverError | ApiError) -> Reason:
    """Return the condition's reason for a write error that does not pass by itself.

    Raises:
        ApiError: The error passes by itself, so no condition reports it.
    """
    if isinstance(error, NameTakenError):
        return Reason("NameConflict", str(error), blames_spec=True)
    if isinstance(error, LeftoverError):
        return Reason("Replacing", str(error))
    if error.is_passing:
        raise error
    return Reason("ApplyFailed", error.message, blames_spec=error.is_about_content)
