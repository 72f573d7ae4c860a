"""Errors of the API server, and their meaning. No other module classifies these errors."""

import re
from enum import Enum
from typing import Any

from kimi_linear_operator import foreigntext

UNREACHABLE = 0
"""The status of a request without an answer, or with an answer that does not come from the API server."""
GONE = 410
"""The status of a list or a watch that cannot continue, because the API server no longer has its resource version."""
CONFLICT = 409
"""The status of a write for an object, or for a state of it, that no longer exists."""
UNDECLARED_FIELD = "field not declared in schema"
"""The end of the message about a field that the kind does not have (k8s.io/apimachinery, util/managedfields)."""
_FIRST_SERVER_ERROR = 500
# The answer of an overloaded API server. It is plain text, and comes before the API server looks at the request
# (k8s.io/apiserver, server/filters, tooManyRequests).
_TOO_MANY_REQUESTS = 429
_INVALID = 422
# The message about a JSON patch that does not fit the object: a tested field has another value, or the place of a
# change is missing (k8s.io/apimachinery, api/errors, NewGenericServerResponse).
_UNFIT_PATCH = "the server rejected our request due to an error in our request"
# The field that the API server names if a write is for an object with another UID (k8s.io/apimachinery,
# api/validation/objectmeta.go).
_UID = "metadata.uid"


class Meaning(Enum):
    """What to do about an error."""

    RETRY = "the same request may succeed in a moment"
    WRONG_SPEC = "the API server refuses the object itself, so only a change of the spec helps"
    DENIED = "an admission policy or webhook refuses the object, so the spec or the policy must change"
    FORBIDDEN = "a permission or a quota is missing, so an administrator must act"
    FENCED = "this replica is not allowed to write"


NO_ANSWER = "no answer from"
"""The beginning of the message about a request without an answer."""
NOT_SERVED = "the API server does not serve"
"""The beginning of the message about a kind that the API server does not serve, as its discovery has proven."""
# The answer to a path of a kind that the API server does not serve (k8s.io/apiserver, and http.NotFound of Go).
_NOT_FOUND = 404
_UNKNOWN_PATH = "404 page not found"
# The beginning of the answer to a write in a namespace that does not exist (k8s.io/apimachinery, NewNotFound).
_MISSING_NAMESPACE = 'namespaces "'

# Causes: overload, a lost race, rotated credentials, a namespace or kind that does not exist (yet), or a server behind
# the API server (a webhook, etcd, an aggregated API) that does not answer.
_PASSING_STATUSES = (401, 404, 408, 409, 429, 500, 502, 503, 504)
_CONTENT_STATUSES = (400, 413, 415, 422)

# These messages mean a wrong spec, although the status may be 500. Either the object does not match its schema (an
# unknown field, a wrong type, a duplicate key: k8s.io/apimachinery, util/managedfields), or it is too large for etcd
# (etcdserver, ErrRequestTooLarge) or for grpc.
_WRONG_SPEC = re.compile(
    f"failed to (create typed|convert) (patch|live|new) object|{UNDECLARED_FIELD}|"
    "request is too large|message larger than max"
)
# k8s.io/apiserver, plugin/pkg/admission/plugin/policy/validating and webhook/errors.
_DENIED = re.compile("ValidatingAdmissionPolicy '.*' with binding '.*' denied request|admission webhook .* denied")
# k8s.io/apiserver, plugin/namespace/lifecycle. The resource is deleted together with its namespace, so this error needs
# no condition.
_TERMINATING = "because it is being terminated"
# The answer to a request without permission (k8s.io/apiserver, endpoints/handlers/responsewriters, `Forbidden`). Quotas
# and admission have status 403, too, but another message. They concern one object, whose status quotes the message.
_FORBIDDEN = 403
_NO_PERMISSION = re.compile(rb'User \\?"[^"\\]*\\?" cannot ')
_LONGEST_BEGINNING = 2048


class ApiError(Exception):
    """The API server refused a request, or could not be reached.

    Attributes:
        status: HTTP status code, UNREACHABLE if there was no answer of the API server.
        message: The beginning of the API server's message. The rest is cut, because the message may quote large
            objects.
        retry_seconds: Seconds of the answer's `Retry-After`, 0 without one.
        may_be_stored: Whether the API server may have stored a write, or may still store it, although this error came.
    """

    def __init__(self, status: int, message: str, retry_seconds: float = 0.0, *, answered: int = 0) -> None:
        """Take the parts of an error.

        Args:
            status: See the attribute.
            message: The API server's message.
            retry_seconds: See the attribute.
            answered: HTTP status code of an answer that is no Status of Kubernetes, 0 if there is none.
        """
        message = message[: foreigntext.LONGEST_TEXT]
        super().__init__(f"{status}: {message}" if status else message)
        self.status = status
        self.message = message
        self.retry_seconds = retry_seconds
        self.may_be_stored = may_be_stored(status) and answered != _TOO_MANY_REQUESTS

    @property
    def meaning(self) -> Meaning:
        """Return what to do about the error."""
        return classify(self.status, self.message, self.retry_seconds)

    @property
    def is_unknown_kind(self) -> bool:
        """Return whether the API server probably serves the kind of the requested object in no version."""
        is_proven = self.status == _NOT_FOUND and self.message.startswith(NOT_SERVED)
        # A proxy can send this text, too, so only people read it: no decision of the operator depends on it.
        return is_proven or (self.status == UNREACHABLE and self.message.endswith(_UNKNOWN_PATH))

    @property
    def is_missing_namespace(self) -> bool:
        """Return whether the namespace of the object does not exist."""
        return self.status == _NOT_FOUND and self.message.startswith(_MISSING_NAMESPACE)

    @property
    def is_without_answer(self) -> bool:
        """Return whether the API server has not answered."""
        return self.status == UNREACHABLE and self.message.startswith(NO_ANSWER)

    @property
    def is_passing(self) -> bool:
        """Return whether the same request may succeed in a moment."""
        return self.meaning in (Meaning.RETRY, Meaning.FENCED)

    @property
    def is_about_content(self) -> bool:
        """Return whether the API server refused the content of the object, so that a retry does not help."""
        return self.meaning in (Meaning.WRONG_SPEC, Meaning.DENIED)


class OtherVersionError(ApiError):
    """The API server serves a kind only in versions that the operator does not know. So there may be such objects.

    The message names the needed version and the served versions.
    """

    @property
    def is_unknown_kind(self) -> bool:
        """Return False, because the kind itself is installed."""
        return False


def code_of(status: int, answer: Any) -> int:
    """Return the status code of an error. For some writes that the API server calls invalid, return CONFLICT.

    Such a write names the UID of an object that was deleted, or tests a field that has changed. So nothing is wrong
    with the content of the write.

    Args:
        status: HTTP status code.
        answer: The decoded answer.
    """
    if status != _INVALID or not isinstance(answer, dict):
        return status
    return CONFLICT if answer.get("message") == _UNFIT_PATCH or _UID in _blamed_fields(answer) else status


def _blamed_fields(answer: dict[str, Any]) -> list[Any]:
    details = answer.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return [cause.get("field") for cause in causes or () if isinstance(cause, dict)]


def lacks_permission(status: int, content: bytes) -> bool:
    """Return whether the API server refused a request because the client lacks the permission for it.

    Args:
        status: HTTP status code.
        content: The answer, not decoded.
    """
    return status == _FORBIDDEN and _NO_PERMISSION.search(content[:_LONGEST_BEGINNING]) is not None


def may_be_stored(status: int) -> bool:
    """Return whether the API server may have stored a write, or may still store it, although it answered with an error.

    Args:
        status: HTTP status code, 0 if there was no answer.
    """
    return status == UNREACHABLE or status >= _FIRST_SERVER_ERROR


def classify(status: int, message: str, retry_seconds: float = 0.0) -> Meaning:
    """Return what to do about an error of the API server.

    Args:
        status: HTTP status code, 0 if there was no answer.
        message: The API server's message.
        retry_seconds: Seconds of the answer's `Retry-After`, 0 without one.
    """
    if status == UNREACHABLE:
        return Meaning.RETRY
    head = foreigntext.head(message)
    if _WRONG_SPEC.search(head):
        return Meaning.WRONG_SPEC
    if _DENIED.search(head):
        return Meaning.DENIED
    # When etcd does not answer, the API server sends status 500 with `Retry-After`.
    if retry_seconds > 0 or status in _PASSING_STATUSES or _TERMINATING in head:
        return Meaning.RETRY
    return Meaning.WRONG_SPEC if status in _CONTENT_STATUSES else Meaning.FORBIDDEN
