"""A small JSON client for the tests, with one connection that stays open."""

import base64
import http.client
import json
import re
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

from kimi_linear_operator import jsontext
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest

NAMESPACE = Kind("", "v1", "Namespace", "namespaces")
QUOTA = Kind("", "v1", "ResourceQuota", "resourcequotas")
SECRET = Kind("", "v1", "Secret", "secrets")
REPLICA_SET = Kind("apps", "v1", "ReplicaSet", "replicasets")
DEFINITION = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"

Query = Mapping[str, str]
STRICT_DRY_RUN: Query = {"dryRun": "All", "fieldValidation": "Strict"}

_WARNING = re.compile(r'299 - "((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Answer:
    """An answer of the API server."""

    status: int
    body: Manifest
    warnings: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


class RefusedError(Exception):
    """The API server answered with an error."""

    def __init__(self, method: str, path: str, answer: Answer) -> None:
        super().__init__(f"{method} {path}: {answer.status} {answer.message}")
        self.answer = answer


class Client:
    """Talks to the API server with the client certificate of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        with tempfile.TemporaryDirectory() as folder:
            tls = ssl.create_default_context(cafile=_file(cluster, "certificate-authority", Path(folder)))
            certificate, key = (_file(user, name, Path(folder)) for name in ("client-certificate", "client-key"))
            tls.load_cert_chain(certificate, key)
        address = urlsplit(cluster["server"])
        self._connection = http.client.HTTPSConnection(
            str(address.hostname), address.port or 443, context=tls, timeout=60
        )

    def close(self) -> None:
        self._connection.close()

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Query | None = None,
        content_type: str = JSON,
    ) -> Answer:
        """Return any answer. A body of bytes is sent without a change."""
        text = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": JSON, "Content-Type": content_type, "User-Agent": "integration-tests"}
        try:
            return self._exchange(method, target, text, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            # Sometimes the API server closes connections. The next request opens another one.
            self._connection.close()
            return self._exchange(method, target, text, headers)
        except (http.client.HTTPException, OSError):
            # Otherwise the next request would read the rest of this answer.
            self._connection.close()
            raise

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Query | None = None,
        content_type: str = JSON,
    ) -> Manifest:
        """Return the content of a successful answer. Raises RefusedError otherwise."""
        answer = self.send(method, path, body, query, content_type)
        if answer.status >= 400:
            raise RefusedError(method, path, answer)
        return answer.body

    def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return self.request("POST", path_of(kind, manifest["metadata"].get("namespace")), manifest)

    def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        answer = self.send("GET", path_of(kind, namespace, name))
        if answer.status == 404:
            return None
        if answer.status >= 400:
            raise RefusedError("GET", path_of(kind, namespace, name), answer)
        return answer.body

    def list(self, kind: Kind, namespace: str | None = None, query: Query | None = None) -> list[Manifest]:
        return list(self.request("GET", path_of(kind, namespace), query=query)["items"])

    def patch(self, kind: Kind, namespace: str | None, name: str, patch: object, subresource: str = "") -> Manifest:
        """Merge a patch into an object, like `kubectl patch --type merge`."""
        path = path_of(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        return self.request("PATCH", path, patch, {"fieldManager": "tests"}, MERGE_PATCH)

    def apply(self, kind: Kind, manifest: Manifest, manager: str) -> Manifest:
        """Apply an object by server-side apply, like `kubectl apply --server-side`."""
        metadata = manifest["metadata"]
        path = path_of(kind, metadata.get("namespace"), metadata["name"])
        return self.request("PATCH", path, manifest, {"fieldManager": manager, "force": "true"}, APPLY)

    def delete(self, kind: Kind, namespace: str | None, name: str) -> None:
        answer = self.send("DELETE", path_of(kind, namespace, name), {"propagationPolicy": "Background"})
        if answer.status >= 400 and answer.status != 404:
            raise RefusedError("DELETE", path_of(kind, namespace, name), answer)

    def _exchange(self, method: str, target: str, text: bytes | None, headers: Mapping[str, str]) -> Answer:
        self._connection.request(method, target, text, dict(headers))
        response = self._connection.getresponse()
        content: Any = jsontext.decode(response.read() or b"{}")
        return Answer(response.status, content, warnings_in(response.headers.get_all("Warning", [])))


def _file(entry: Mapping[str, str], name: str, folder: Path) -> Path:
    """Return the file that an entry of a kubeconfig names.

    If the entry contains the content itself, write it to a file.
    """
    if name in entry:
        return Path(entry[name])
    file = folder / name
    file.write_bytes(base64.b64decode(entry[f"{name}-data"]))
    return file


def path_of(kind: Kind, namespace: str | None, name: str = "") -> str:
    """Return the path of a kind, or of an object, at the API server."""
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{kind.plural}" + (f"/{name}" if name else "")


def warnings_in(headers: list[str]) -> tuple[str, ...]:
    """Return the texts of `Warning:` headers, without their quotes and escapes."""
    texts = [text for header in headers for text in _WARNING.findall(header)]
    return tuple(re.sub(r"\\(.)", r"\1", text) for text in texts)
