"""Reads the answers of the API server: an object, a list, or an error."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster.errors import UNREACHABLE, ApiError, code_of
from kimi_linear_operator.cluster.light import light, may_decode, unread_object, without_managed_fields
from kimi_linear_operator.cluster.request import METADATA_KIND
from kimi_linear_operator.jsontext import TooLongError
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest

# An overloaded API server asks to wait up to 32 s (k8s.io/apiserver, maxRetryAfter of flowcontrol). A longer time comes
# from a proxy in front of the API server, and the API server may answer sooner.
LONGEST_RETRY_SECONDS = 60.0

# The part of an unknown answer that the message of its error quotes.
_QUOTED_BYTES = 200

_FORBIDDEN = 403
_NOT_FOUND = 404

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


def decoded(answer: Answer, decode: Callable[[bytes], Any] = jsontext.decode_quickly) -> Manifest:
    """Return the object in an answer.

    Args:
        answer: The answer.
        decode: Decodes its text.

    Raises:
        ApiError: The answer is an error, or is not a JSON object.
        TooLongError: The answer is long, and the parser refuses it (see `jsontext.decode_quickly`).
    """
    if answer.status >= 400:
        raise error_of(answer)
    try:
        content = decode(answer.content)
    except ValueError as error:
        # The message does not quote the answer, because an answer can contain secrets, and a status shows the message.
        raise ApiError(UNREACHABLE, f"the answer is not readable: {error}") from error
    if not isinstance(content, dict):
        raise ApiError(UNREACHABLE, f"not an object, but a JSON {type(content).__name__}")
    return content


def error_of(answer: Answer) -> ApiError:
    """Return the error in an answer whose status is 400 or higher.

    Only a Status of Kubernetes certainly comes from the API server. Any other answer can come from a proxy in front of
    the API server. A proxy knows nothing about permissions, objects or specs, so the error then has the status
    UNREACHABLE. The API server itself also answers with plain texts (`http.Error` in k8s.io/apiserver). They say only
    that it is overloaded, has failed, or does not serve a kind: see also `cluster/refusals.py`.
    """
    retry_seconds, status = retry_seconds_of(answer.retry_after), _object_in_error(answer)
    if _is_status(status):
        return ApiError(code_of(answer.status, status), str(status.get("message", "")), retry_seconds)
    text = answer.content[:_QUOTED_BYTES].decode(errors="replace").strip()
    message = f"status {answer.status} without a Status of Kubernetes: {text}"
    return ApiError(UNREACHABLE, message, retry_seconds, answered=answer.status)


def shows_forbidden(answer: Answer) -> bool:
    """Return whether the API server itself says in an answer that a permission is missing.

    A proxy in front of the API server can answer with status 403, too.
    """
    status = _object_in_error(answer)
    return answer.status == _FORBIDDEN and _is_status(status) and status.get("reason") == "Forbidden"


def shows_missing(answer: Answer, name: str) -> bool:
    """Return whether an answer of the API server says that there is no object with a name.

    A proxy in front of the API server can also answer with status 404. The API server itself does so if it does not
    serve the kind. In both cases, nobody knows whether the object exists.
    """
    if answer.status != _NOT_FOUND:
        return False
    status = _object_in_error(answer)
    details = status.get("details")
    is_named = isinstance(details, dict) and details.get("name") == name
    return is_named and _is_status(status) and status.get("reason") == "NotFound"


def _object_in_error(answer: Answer) -> Manifest:
    """Return the JSON object in an error, empty if there is none."""
    try:
        content = jsontext.decode_quickly(answer.content)
    except (ValueError, TooLongError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_status(content: Manifest) -> bool:
    """Return whether this is a Status of Kubernetes.

    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
    """
    return content.get("kind") == "Status"


def check_deletion(answer: Answer, kind: str, metadata: Manifest) -> None:
    """Check that an answer shows that the API server deletes an object, or that the object does not exist.

    The API server answers with a success, or with the object if the object stays for a while, for example because of a
    finalizer.

    Args:
        answer: The answer to the DELETE.
        kind: The object's kind.
        metadata: The object's metadata.

    Raises:
        ApiError: The answer is an error, or something else.
    """
    if shows_missing(answer, metadata["name"]):
        return
    content = decoded(answer)
    if _is_status(content) and content.get("status") == "Success":
        return
    if object_in(answer, kind, metadata["name"])["metadata"]["uid"] != metadata["uid"]:
        raise ApiError(UNREACHABLE, f"the answer is another {kind} {metadata['name']} than the deleted one")


def object_in(answer: Answer, kind: str, name: str, *, is_stored: bool = True) -> Manifest:
    """Return the object of Kubernetes in an answer, without the parts that are too large to hold (see `light`).

    A proxy in front of the API server can answer with status 200 and some other JSON object. Callers need not check
    this, because the metadata of the returned object is complete.

    Args:
        answer: The answer.
        kind: The object's kind.
        name: The object's name, empty if the API server chooses it.
        is_stored: Whether the object is stored. An object of a dry run may have no resource version.

    Raises:
        ApiError: The answer is an error, or is not this object.
        TooLongError: The object is too large to decode it.
    """
    if answer.status < 400 and not may_decode(answer.content):
        raise TooLongError
    content = decoded(answer)
    metadata = content.get("metadata")
    if content.get("kind") != kind or not _is_complete(metadata, name, is_stored=is_stored):
        found = str(content.get("kind") or "JSON object without a kind")[:64]
        raise ApiError(UNREACHABLE, f"the answer is not the {kind} {name}, but a {found}")
    return light(content, answer.content)


def metadata_in(answer: Answer, kind: Kind, name: str) -> Manifest:
    """Return the object in an answer that contains only its metadata; see `unread_object`.

    Raises:
        ApiError: The answer is an error, or is not the metadata of an object with this name.
    """
    found = _without_managed_fields(answer, b"}}")
    if found.get("kind") != METADATA_KIND or not _is_complete(found.get("metadata"), name, is_stored=True):
        raise ApiError(UNREACHABLE, f"the answer is not the metadata of the {kind.kind} {name}")
    return unread_object(kind.api_version, kind.kind, found["metadata"])


def metadata_list_in(answer: Answer) -> Manifest:
    """Return a list of one object in an answer that contains only its metadata, without managed fields.

    Raises:
        ApiError: The answer is an error, or is not a JSON object.
    """
    return _without_managed_fields(answer, b"}}]}")


def _without_managed_fields(answer: Answer, end: bytes) -> Manifest:
    # The API server limits the number of values in the rest of the metadata, and none of them is nested.
    return decoded(answer, lambda text: jsontext.decode(without_managed_fields(text, end)))


def _is_complete(metadata: Any, name: str, *, is_stored: bool) -> bool:
    """Return whether an object's metadata has this name, a UID, and a resource version if the object is stored."""
    if not isinstance(metadata, dict) or not isinstance(metadata.get("uid"), str):
        return False
    found = metadata.get("name")
    is_named = found == name if name else isinstance(found, str)
    return is_named and (_is_version(metadata.get("resourceVersion")) or not is_stored)


def _is_version(version: Any) -> bool:
    return isinstance(version, str) and _RESOURCE_VERSION.fullmatch(version) is not None


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
    if not _is_version(version):
        raise ApiError(UNREACHABLE, "not a list: it has no metadata.resourceVersion")
    return str(version)
