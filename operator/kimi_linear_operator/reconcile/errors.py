"""The causes for which a pass over a resource cannot continue."""

from dataclasses import dataclass

from kimi_linear_operator.cluster.errors import CONFLICT, ApiError
from kimi_linear_operator.kubernetes.conditions import Reason

# How often to retry while the cache differs from the cluster, for example because a resource is gone.
BEHIND_RETRY_SECONDS = 5.0
# How often to check whether an object outside the watches still blocks a child.
BLOCKED_RETRY_SECONDS = 15.0
# How often to check whether a field is still contested.
CONTESTED_RETRY_SECONDS = 30.0
# After this many failures in a row, a condition reports an error that may end by itself. This is after about ten
# seconds of the queue's back-off.
REPORTED_FAILURES = 5


class NameTakenError(Exception):
    """An object with a child's name exists and belongs to somebody else."""


class GoneError(Exception):
    """The resource was deleted, but the cache does not show this yet."""


class LeftoverError(Exception):
    """An object with a child's name is left over from a deleted resource of the same name. It will soon be deleted."""


class NotReadYetError(Exception):
    """The operator does not know yet whether it can read a kind that the resource asks for."""


class BehindError(ApiError):
    """The cache is older than the cluster."""

    def __init__(self, message: str) -> None:
        super().__init__(CONFLICT, message)


@dataclass(frozen=True)
class Failures:
    """The failures of writes of children.

    Attributes:
        lasting: The worst failure that does not end by itself.
        passing: An error that may end by itself.
    """

    lasting: Reason | None = None
    passing: ApiError | None = None

    def to_report(self, failures: int) -> Reason | None:
        """Return the failure for the status.

        This is a lasting failure, or an error that may end by itself but has lasted long.

        Args:
            failures: How many passes before this one failed in a row.
        """
        if self.passing and not self.lasting and failures >= REPORTED_FAILURES:
            return Reason("ApplyFailed", self.passing.message)
        return self.lasting


def lasting_reason(error: NameTakenError | LeftoverError | ApiError) -> Reason:
    """Return the condition's reason for a write error that does not end by itself.

    Raises:
        ApiError: The error may end by itself, so no condition reports it.
    """
    if isinstance(error, NameTakenError):
        return Reason("NameConflict", str(error), blames_spec=True)
    if isinstance(error, LeftoverError):
        return Reason("Replacing", str(error))
    if error.is_passing:
        raise error
    return Reason("ApplyFailed", error.message, blames_spec=error.is_about_content)
