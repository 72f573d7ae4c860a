"""A Git repository that tools fetch over HTTP. Git's own server program runs behind a small web server on loopback."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from commands import run
from kimi_linear_operator.kubernetes.kinds import Manifest

_BRANCH = "main"
# The path in the examples, after the host's name.
_NAME = "platform/kimi-linear-operator.git"

# The user's own Git configuration may sign commits, run hooks or replace hosts, so it is not read.
GIT_CONFIGURATION = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_NAME": "tests" for role in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{role}_EMAIL": "tests@example.com" for role in ("AUTHOR", "COMMITTER")},
}


@dataclass(frozen=True)
class Repository:
    """A checkout, and the bare repository to which it is pushed."""

    checkout: Path
    bare: Path
    host: str
    """The address of the web server, in place of a Git host's address."""

    def copy(self, source: Path, path: Path) -> None:
        """Copy a folder to this path, without a commit."""
        shutil.copytree(source, self.checkout / path)

    def read(self, path: Path) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load((self.checkout / path).read_text())
        return content

    def write(self, path: Path, manifest: Manifest) -> None:
        (self.checkout / path).write_text(yaml.safe_dump(dict(manifest)))

    def push(self, message: str) -> str:
        """Commit everything and push it; return the commit. A test that runs again may have changed nothing."""
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", f"--message={message}")
        self._git("push", "--quiet", str(self.bare), _BRANCH)
        return self.head()

    def head(self) -> str:
        """Return the newest commit."""
        return self._git("rev-parse", "HEAD").strip()

    def initialise(self) -> None:
        run(["git", "init", "--quiet", "--bare", f"--initial-branch={_BRANCH}", self.bare])
        run(["git", "init", "--quiet", f"--initial-branch={_BRANCH}", self.checkout])

    def _git(self, *arguments: str) -> str:
        return run(["git", "-C", self.checkout, *arguments], env=os.environ | GIT_CONFIGURATION)


@contextmanager
def git_host(folder: Path) -> Iterator[Repository]:
    """Serve a new repository, with its files below this folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(folder / "served"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        host = f"http://127.0.0.1:{server.server_port}"
        repository = Repository(folder / "checkout", folder / "served" / _NAME, host)
        repository.initialise()
        yield repository
    finally:
        server.shutdown()
        server.server_close()


def _handler(root: Path) -> type[BaseHTTPRequestHandler]:
    """Make a handler that speaks CGI with `git http-backend`: https://git-scm.com/docs/git-http-backend."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *_arguments: object) -> None:
            """Requests are not logged."""

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            done = subprocess.run(
                ["git", "http-backend"],
                input=body,
                capture_output=True,
                env=os.environ | GIT_CONFIGURATION | _cgi_variables(root, self.command, self.path, self.headers.get),
                check=True,
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    return Handler


def _cgi_variables(root: Path, method: str, target: str, header: Callable[[str, str], str]) -> dict[str, str]:
    path, _, query = target.partition("?")
    return {
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_PROTOCOL": header("Git-Protocol", ""),
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_TYPE": header("Content-Type", ""),
        "HTTP_CONTENT_ENCODING": header("Content-Encoding", ""),
    }
