"""What an answer of the API server says: an object, a list, or an error."""

import re
from typing import Any, NamedTuple

from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster.errors import UNREACHABLE, ApiError
from kimi_linear_operator.kubernetes.kinds import Manifest

# An API server with too much to do asks for up to 32 s (k8s.io/apiserver, maxRetryAfter of flowcontrol). What asks for
# more is something before it, and may be back sooner than it thinks.
LONGEST_RETRY_SECONDS = 60.0

# The API server counts in 64 bits.
_RESOURCE_VERSION = re.compile("[0-9]{1,20}")


class Answer(NamedTuple):
    """What the API server sent back.

    Attributes:
        status: HTTP status code.
        content: JSON, mostly.
        retry_after: The header of this name: whole seconds, empty if there was none. The API server sends no dates.
    """

    status: int
    content: bytes
    retry_after: str


def decoded(answer: Answer) -> Manifest:
    """Return the object that an answer is.

    Raises:
        ApiError: It is an error, or nothing that can be read.
    """
    retry_seconds = retry_seconds_of(answer.retry_after)
    try:
        content: Any = jsontext.decode(answer.content)
    except ValueError as error:
        # Of too many requests, the API server says so in plain text.
        text = answer.content[:200].decode(errors="replace").strip()
        if answer.status >= 400:
            raise ApiError(answer.status, text, retry_seconds) from error
        raise ApiError(UNREACHABLE, f"not readable ({error}): {text}") from error
    if answer.status >= 400:
        message = content.get("message", "") if isinstance(content, dict) else str(content)
        raise ApiError(answer.status, str(message), retry_seconds)
    if not isinstance(content, dict):
        raise ApiError(UNREACHABLE, f"not an object, but a JSON {type(content).__name__}")
    return content


def retry_seconds_of(header: str) -> float:
    """Return how long a Retry-After header asks for, within reason; 0 for a date, which the API server never sends."""
    asked = float(header) if header.isdecimal() else 0.0
    return min(asked, LONGEST_RETRY_SECONDS)


def following(answer: Manifest) -> str:
    """Return where the next page of a list begins, empty if there is none."""
    metadata: Any = answer.get("metadata")
    return str(metadata.get("continue") or "") if isinstance(metadata, dict) else ""


def items(answer: Manifest) -> list[Manifest]:
    """Return the objects of a list.

    Raises:
        ApiError: It is none.
    """
    found = answer.get("items")
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ApiError(UNREACHABLE, "not a list: its items are no objects")
    return found


def resource_version(answer: Any) -> str:
    """Return the version of a list.

    Raises:
        ApiError: It is none.
    """
    metadata = answer.get("metadata") if isinstance(answer, dict) else None
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not _RESOURCE_VERSION.fullmatch(version):
        raise ApiError(UNREACHABLE, "not a list: it has no metadata.resourceVersion")
    return version
