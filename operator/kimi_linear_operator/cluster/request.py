"""A request to the API server, and its form in HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

import kimi_linear_operator
from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER

USER_AGENT = f"{MANAGER}/{kimi_linear_operator.__version__}"
METADATA_KIND = "PartialObjectMetadata"
"""The kind of an answer that has only the metadata of an object."""

# The HTTP methods for the verbs that are not HTTP methods themselves.
_METHODS = {"LIST": "GET", "APPLY": "PATCH", "STATUS": "PATCH", "LOG": "GET"}
_READS = ("GET", "LIST", "LOG")
_JSON = "application/json"
_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_MERGE_PATCH = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
# https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources
_METADATA = f"application/json;as={METADATA_KIND};g=meta.k8s.io;v=v1"
_METADATA_LIST = f"application/json;as={METADATA_KIND}List;g=meta.k8s.io;v=v1"
_ACCEPTED_TYPES = {
    "STATUS": _METADATA,
    # A log is plain text, and an error is JSON. kubectl accepts both with the same header.
    "LOG": "application/json, */*",
}


@dataclass(frozen=True)
class Request:
    """A request to the API server.

    Attributes:
        verb: An HTTP method, or LIST, LOG, APPLY, or STATUS.
        target: The URL path.
        query: The parameters; empty ones are not sent.
        body: The JSON to send. A list is a JSON patch.
        has_metadata_only: Whether the answer to a GET or LIST contains only the metadata of each object.
    """

    verb: str
    target: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Manifest | list[Manifest] | None = None
    has_metadata_only: bool = False

    @property
    def is_write(self) -> bool:
        """Return whether the request may change anything."""
        return self.verb not in _READS and "dryRun" not in self.query

    @property
    def method(self) -> str:
        """Return the HTTP method."""
        return _METHODS.get(self.verb, self.verb)

    def url(self, server: str) -> str:
        """Return the URL at this API server."""
        return f"{server}{self.target}?{urlencode({key: value for key, value in self.query.items() if value})}"

    def headers(self) -> dict[str, str]:
        """Return the headers, without the headers for the credentials."""
        return {
            "Accept": self._accepted_type,
            # No compression. The API server needs more time to compress a page of a list than to build it. And a few
            # bytes could become a large answer at once, which then cannot wait for its place (`cluster/transport.py`).
            "Accept-Encoding": "identity",
            "Content-Type": self._content_type,
            "User-Agent": USER_AGENT,
        }

    def content(self) -> bytes | None:
        """Return the body as JSON text.

        For a test in a JSON patch, the API server compares the texts of strings (github.com/evanphx/json-patch). So a
        JSON patch is written as Go would write it. The API server reads an apply as YAML.
        """
        if self.body is None:
            return None
        return (
            jsontext.encode_like_go(self.body) if isinstance(self.body, list) else jsontext.encode_for_yaml(self.body)
        )

    @property
    def _accepted_type(self) -> str:
        if self.has_metadata_only:
            return _METADATA_LIST if self.verb == "LIST" else _METADATA
        return _ACCEPTED_TYPES.get(self.verb, _JSON)

    @property
    def _content_type(self) -> str:
        if self.method != "PATCH":
            return _JSON
        if self.verb == "APPLY":
            return _APPLY
        return _JSON_PATCH if isinstance(self.body, list) else _MERGE_PATCH
