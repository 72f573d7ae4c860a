"""A hub on this machine that serves one model, with faults that a test sets. It counts the sent bytes."""

import hashlib
import json
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import unquote

MODEL = "moonshotai/Kimi-Linear-48B-A3B-Instruct"


@dataclass(frozen=True)
class Fault:
    """A fault of one download.

    Attributes:
        after: How many bytes are sent before the fault.
        kind: `cut`, `stall`, `corrupt` or `status`.
        status: The HTTP status, for `status`.
        headers: Headers of the answer, for `status`.
    """

    kind: str
    after: int = 0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Hub:
    """The hub. `commits` contains the files of each commit, and `branches` the commit of each branch.

    Attributes:
        commits: Files by name, by commit.
        branches: Commits by branch.
        token: The token that it asks for, empty for none.
        faults: The faults of the next downloads of each file; `api` stands for questions about the model.
        rate: Bytes per second of each download, 0 for no limit.
        address: The address on which it listens.
        port: Its port; 0 means any free port, which then stays the same.
        sent: How many bytes of each file were sent.
        questions: Requests by method.
    """

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    token: str = ""
    gated: bool = False
    faults: dict[str, deque[Fault]] = field(default_factory=dict)
    rate: int = 0
    address: str = "127.0.0.1"
    port: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    questions: Counter[str] = field(default_factory=Counter)
    stalled: threading.Event = field(default_factory=threading.Event)
    _server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.stalled.set()
        self.close()

    def open(self) -> None:
        """Start to answer."""
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = _Server((self.address, self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop answering, so that the port refuses connections."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def fail(self, name: str, *faults: Fault) -> None:
        """Let the next downloads of a file fail."""
        self.faults[name] = deque(faults)

    def next_fault(self, name: str) -> Fault | None:
        waiting = self.faults.get(name)
        return waiting.popleft() if waiting else None


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing, because killed clients leave open connections."""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def _answer(self, *, has_body: bool) -> None:
        self.hub.questions[self.command] += 1
        path = unquote(self.path.partition("?")[0])
        if refusal := self._refusal():
            self._error(*refusal)
        elif match := re.fullmatch(f"/api/models/{MODEL}/revision/(.+)", path):
            self._model(match[1])
        elif match := re.fullmatch(f"/{MODEL}/resolve/([0-9a-f]+)/(.+)", path):
            self._file(match[1], match[2], has_body=has_body)
        else:
            self._error(404, {"X-Error-Code": "RepoNotFound"})

    def _refusal(self) -> tuple[int, dict[str, str]] | None:
        given = self.headers.get("Authorization", "")
        if self.hub.token and given != f"Bearer {self.hub.token}":
            return 401, {}
        return (403, {"X-Error-Code": "GatedRepo"}) if self.hub.gated else None

    def _error(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _model(self, revision: str) -> None:
        fault = self.hub.next_fault("api")
        if fault:
            return self._error(fault.status, fault.headers)
        commit = self.hub.branches.get(revision, revision)
        if commit not in self.hub.commits:
            return self._error(404, {"X-Error-Code": "RevisionNotFound"})
        files = [_described(name, content) for name, content in self.hub.commits[commit].items()]
        body = json.dumps({"id": MODEL, "sha": commit, "siblings": files}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def _file(self, commit: str, name: str, *, has_body: bool) -> None:
        content = self.hub.commits[commit][name]
        fault = self.hub.next_fault(name) if has_body else None
        if fault and fault.kind == "status":
            return self._error(fault.status, fault.headers)
        start = 0
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(match[1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{_digest(name, content)}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if has_body:
            self._send(name, content[start:], fault)
        return None

    def _send(self, name: str, content: bytes, fault: Fault | None) -> None:
        if fault and fault.kind == "corrupt":
            content = bytes(len(content))
        end = fault.after if fault and fault.kind in ("cut", "stall") else len(content)
        for begin in range(0, end, 65_536):
            piece = content[begin : min(begin + 65_536, end)]
            try:
                self.wfile.write(piece)
            except OSError:
                return
            self.hub.sent[name] += len(piece)
            if self.hub.rate:
                time.sleep(len(piece) / self.hub.rate)
        if fault and fault.kind == "stall":
            self.hub.stalled.wait()
        if fault and fault.kind in ("cut", "stall"):
            self.close_connection = True
            self.connection.close()


def _is_large(name: str) -> bool:
    return name.endswith(".safetensors")


def _digest(name: str, content: bytes) -> str:
    if _is_large(name):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()  # noqa: S324 - Git's


def _described(name: str, content: bytes) -> dict[str, object]:
    large = {"lfs": {"sha256": _digest(name, content), "size": len(content), "pointerSize": 134}}
    described: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": _digest(name, content)}
    return described | (large if _is_large(name) else {})


def make_files(seed: str, shards: int = 3, size: int = 3_000_000) -> dict[str, bytes]:
    """Return the files of a small model: an index and its shards."""
    names = [f"model-{number:05}-of-{shards:05}.safetensors" for number in range(1, shards + 1)]
    weights = {name: hashlib.shake_128(f"{seed}{name}".encode()).digest(size) for name in names}
    index = {"metadata": {}, "weight_map": {f"layer.{name}": name for name in names}}
    return {"config.json": b"{}", "model.safetensors.index.json": json.dumps(index).encode(), **weights}
