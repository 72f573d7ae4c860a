"""What a request to the API server says, and what it is on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

import kimi_linear_operator
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER

USER_AGENT = f"{MANAGER}/{kimi_linear_operator.__version__}"

# What a verb is on the wire, where that is not its name.
_METHODS = {"LIST": "GET", "APPLY": "PATCH", "JSON PATCH": "PATCH", "STATUS": "PATCH"}
_READS = ("GET", "LIST")
_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_CONTENT_TYPES = {
    "APPLY": "application/apply-patch+yaml",  # JSON is YAML
    "PATCH": _MERGE_PATCH,
    "STATUS": _MERGE_PATCH,
    "JSON PATCH": "application/json-patch+json",
}
# https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources
_ACCEPTED = {"STATUS": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}


@dataclass(frozen=True)
class Request:
    """What is asked of the API server.

    Attributes:
        verb: What to do: a method of HTTP, or LIST, APPLY, STATUS, or JSON PATCH.
        target: The path of what to do it to.
        query: More about how; what is empty is left out.
        body: What to send.
    """

    verb: str
    target: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Manifest | list[Manifest] | None = None

    @property
    def is_write(self) -> bool:
        """Return whether it may change anything."""
        return self.verb not in _READS and "dryRun" not in self.query

    @property
    def method(self) -> str:
        """Return what HTTP calls the verb."""
        return _METHODS.get(self.verb, self.verb)

    def url(self, server: str) -> str:
        """Return what to ask this API server for."""
        return f"{server}{self.target}?{urlencode({key: value for key, value in self.query.items() if value})}"

    def headers(self) -> dict[str, str]:
        """Return its headers, but for those of credentials."""
        accepted, content_type = _ACCEPTED.get(self.verb, _JSON), _CONTENT_TYPES.get(self.verb, _JSON)
        headers = {"Accept": accepted, "Content-Type": content_type, "User-Agent": USER_AGENT}
        if self.verb == "LIST":
            # To compress a page takes the API server longer than to make it.
            headers["Accept-Encoding"] = "identity"
        return headers
