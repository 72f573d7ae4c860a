"""Reads the answers of the API server: an object, a list, or an error."""

import re
from typing import Any, NamedTuple

from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster.errors import UNREACHABLE, ApiError
from kimi_linear_operator.kubernetes.kinds import Manifest

# An overloaded API server asks to wait up to 32 s (k8s.io/apiserver, maxRetryAfter of flowcontrol). A longer time comes
# from a proxy in front of the API server, and the API server may answer sooner.
LONGEST_RETRY_SECONDS = 60.0

# Resource versions have 64 bits: up to 20 digits.
_RESOURCE_VERSION = re.compile("[0-9]{1,20}")


class Answer(NamedTuple):
    """An answer of the API server.

    Attributes:
        status: HTTP status code.
        content: The body, usually JSON.
        retry_after: The header `Retry-After`: whole seconds, empty if there was none. The API server sends no dates.
    """

    status: int
    content: bytes
    retry_after: str


def decoded(answer: Answer) -> Manifest:
    """Return the object in an answer.

    Raises:
        ApiError: The answer is an error, or is not a JSON object.
    """
    retry_seconds = retry_seconds_of(answer.retry_after)
    try:
        content: Any = jsontext.decode(answer.content)
    except ValueError as error:
        if answer.status >= 400:
            # The API server answers with plain text when it gets too many requests.
            text = answer.content[:200].decode(errors="replace").strip()
            raise ApiError(answer.status, text, retry_seconds) from error
        # The message does not quote the answer, because an answer can contain secrets, and a status shows the message.
        raise ApiError(UNREACHABLE, f"the answer is not readable: {error}") from error
    if answer.status >= 400:
        message = content.get("message", "") if isinstance(content, dict) else str(content)
        raise ApiError(answer.status, str(message), retry_seconds)
    if not isinstance(content, dict):
        raise ApiError(UNREACHABLE, f"not an object, but a JSON {type(content).__name__}")
    return content


def text_of(answer: Answer) -> str:
    """Return the text in an answer. Bytes that are not UTF-8 become U+FFFD.

    Raises:
        ApiError: The answer is an error.
    """
    if answer.status >= 400:
        decoded(answer)
    return answer.content.decode(errors="replace")


def retry_seconds_of(header: str) -> float:
    """Return the seconds of a `Retry-After` header, at most LONGEST_RETRY_SECONDS; 0 for a date or an empty header."""
    seconds = float(header) if header.isdecimal() else 0.0
    return min(seconds, LONGEST_RETRY_SECONDS)


def following(answer: Manifest) -> str:
    """Return the continue token for the next page of a list, empty after the last page."""
    metadata: Any = answer.get("metadata")
    return str(metadata.get("continue") or "") if isinstance(metadata, dict) else ""


def items(answer: Manifest) -> list[Manifest]:
    """Return the objects of a list.

    Raises:
        ApiError: The answer is not a list.
    """
    objects = answer.get("items")
    if not isinstance(objects, list) or not all(isinstance(item, dict) for item in objects):
        raise ApiError(UNREACHABLE, "not a list: its items are not objects")
    return objects


def resource_version(answer: Any) -> str:
    """Return the resource version of a list.

    Raises:
        ApiError: The answer is not a list.
    """
    metadata = answer.get("metadata") if isinstance(answer, dict) else None
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not _RESOURCE_VERSION.fullmatch(version):
        raise ApiError(UNREACHABLE, "not a list: it has no metadata.resourceVersion")
    return version
