"""Errors of the API server, and what each means: the only place where they are told apart."""

import re
from enum import Enum

from kimi_linear_operator import foreigntext

UNREACHABLE = 0
"""The status of a request that got no answer."""
GONE = 410
"""The status where what is asked for was forgotten: the moment of a list, or from when on to watch."""


class Meaning(Enum):
    """What to do about an error."""

    RETRY = "the same request may succeed in a moment"
    WRONG_SPEC = "the API server refuses the object itself: only a change of the spec helps"
    DENIED = "an admission policy or webhook refuses the object: the spec or the policy has to change"
    FORBIDDEN = "a permission or a quota is missing: an administrator has to act"
    FENCED = "this replica may not write"


# Overload, a lost race, credentials that are being rotated, a namespace or kind that is not there (yet), a server
# behind the API server (a webhook, etcd, an aggregated API) that does not answer.
_PASSING = (UNREACHABLE, 401, 404, 408, 409, 429, 500, 502, 503, 504)
_ABOUT_CONTENT = (400, 413, 415, 422)
_FORBIDDEN = 403

# 500, too, when an object does not fit its schema, by an unknown field, a wrong type or a duplicate key
# (k8s.io/apimachinery, util/managedfields), and when it is too large for etcd (etcdserver, ErrRequestTooLarge; grpc,
# when it is larger still).
_WRONG = re.compile(
    "failed to (create typed|convert) (patch|live|new) object|field not declared in schema|"
    "request is too large|message larger than max"
)
# k8s.io/apiserver, plugin/pkg/admission/plugin/policy/validating and webhook/errors.
_DENIED = re.compile("ValidatingAdmissionPolicy '.*' with binding '.*' denied request|admission webhook .* denied")
# k8s.io/apiserver, plugin/namespace/lifecycle. The object goes with its namespace, so nobody needs to be told.
_TERMINATING = "because it is being terminated"


class ApiError(Exception):
    """The API server refused a request, or could not be reached.

    Attributes:
        status: HTTP status code, 0 when there was no answer.
        message: What the API server said, cut: it quotes objects, which may be large.
        retry_seconds: How long it asked to be left alone; 0 if it did not ask.
    """

    def __init__(self, status: int, message: str, retry_seconds: float = 0.0) -> None:
        message = message[: foreigntext.LONGEST_TEXT]
        super().__init__(f"{status}: {message}" if status else message)
        self.status = status
        self.message = message
        self.retry_seconds = retry_seconds

    @property
    def meaning(self) -> Meaning:
        """Return what to do about it."""
        return classify(self.status, self.message, self.retry_seconds)

    @property
    def is_passing(self) -> bool:
        """Return whether the same request may succeed in a moment."""
        return self.meaning in (Meaning.RETRY, Meaning.FENCED)

    @property
    def is_about_content(self) -> bool:
        """Return whether the object was refused for what it says, so that sending it again changes nothing."""
        return self.meaning in (Meaning.WRONG_SPEC, Meaning.DENIED)


def classify(status: int, message: str, retry_seconds: float = 0.0) -> Meaning:
    """Return what an answer of the API server means.

    Args:
        status: HTTP status code, 0 when there was no answer.
        message: What the API server said.
        retry_seconds: How long it asked to be left alone.
    """
    head = foreigntext.head(message)
    if _WRONG.search(head):
        return Meaning.WRONG_SPEC
    if _DENIED.search(head):
        return Meaning.DENIED
    # When etcd does not answer, the API server asks with 500 to be left alone for a while.
    if retry_seconds > 0 or status in _PASSING or _TERMINATING in head:
        return Meaning.RETRY
    return Meaning.WRONG_SPEC if status in _ABOUT_CONTENT else Meaning.FORBIDDEN
