"""A server under test as a process, in the environment that the operator gives it."""

import os
import random
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest

from client import asking
from engine.targets import KEY, Target
from integration.waiting import wait_for
from kimi_linear_operator.server.sglang import entrypoint, environment

# A start takes a minute on two processors, and several minutes if they are busy.
SECONDS_TO_READY = 600
_SECONDS_TO_ANSWER = 120
# For its processes, SGLang uses a port up to 1000 above its own port. It takes this port some seconds after it has
# checked that the port is free. So both ports are below 32768, because Linux assigns ports from 32768 to programs that
# ask for any port.
_PORTS = range(20000, 31000)
# Runs a command like the first process of a container, with the same handling of signals.
FIRST_PROCESS = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


class Server:
    """A server that runs inside its `with` block."""

    def __init__(
        self,
        target: Target,
        folder: Path,
        cache: Path,
        *more: str,
        key: str | None = None,
        is_first: bool = False,
    ) -> None:
        """Prepare a server with these arguments in addition to its target's arguments.

        Args:
            target: The server to start.
            folder: The folder for its log and kernels.
            cache: The folder that takes the place of the pod's cache.
            more: The additional arguments.
            key: The API key.
            is_first: Whether the server is the first process of its container.
        """
        self.target = target
        self._is_first = is_first
        self._log = folder / "server.log"
        self._port = _free_port()
        first = FIRST_PROCESS if is_first else ()
        self._command = [*first, *_with_key(folder, key), *target.command(self._port, *more)]
        self._environment = _environment(target, folder, cache)
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def __exit__(self, *_error: object) -> None:
        # All processes may have ended.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def log(self) -> str:
        """Return its output."""
        return self._log.read_text(errors="replace")

    def terminate(self) -> None:
        """Send SIGTERM to the container's first process."""
        os.kill(self._first_child() if self._is_first else self.process.pid, signal.SIGTERM)

    def _first_child(self) -> int:
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def status(self, path: str, body: object = None, key: str = KEY, seconds: float = _SECONDS_TO_ANSWER) -> int:
        """Return the status of an answer, 0 without an answer."""
        return asking.ask(self.url + path, body, key, seconds)[0]

    def answer(self, path: str, body: object = None) -> dict[str, Any]:
        """Return an answer, which must be successful."""
        return asking.answer(self.url + path, body, KEY, _SECONDS_TO_ANSWER)

    def text(self, path: str, key: str = KEY) -> str:
        """Return the text of an answer."""
        return asking.ask(self.url + path, key=key, seconds=_SECONDS_TO_ANSWER)[1]

    def events(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream as they come."""
        return asking.events(self.url + path, body, KEY, _SECONDS_TO_ANSWER)

    def wait_until_ready(self) -> None:
        """Wait until it is ready, like the kubelet. Fail if it ends."""
        wait_for(self._is_ready, f"it is ready; its log ends with\n{self.log[-2000:]}", seconds=SECONDS_TO_READY)

    def wait_until_loading(self) -> None:
        """Wait until it has started the process that makes the tokens."""
        wait_for(lambda: list(self._schedulers()), "the server loads", seconds=SECONDS_TO_READY, passes_soon=True)

    def wait_until_open(self) -> None:
        """Wait until its port is open."""
        wait_for(self.is_open, "the server's port is open", seconds=SECONDS_TO_READY, passes_soon=True)

    def is_open(self) -> bool:
        """Whether something listens on its port."""
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self._port)) == 0

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"It ended with {self.process.returncode}:\n{self.log[-3000:]}")
        return self.status("/health") == 200

    def memory(self) -> int:
        """Return how many bytes of memory its processes use. Shared memory counts once."""
        texts = [_read(Path(f"/proc/{number}/smaps_rollup")) for number in _group(self.process.pid)]
        return sum(1024 * int(amount) for text in texts for amount in re.findall(r"^Pss: +(\d+)", text, re.MULTILINE))

    def shown_by_processes(self) -> list[str]:
        """Return the command lines and environments of its processes."""
        files = [f"/proc/{number}/{name}" for number in _group(self.process.pid) for name in ("cmdline", "environ")]
        return [_read(Path(file)) for file in files]

    def scheduler(self) -> int:
        """Return the process that makes the tokens."""
        [number] = self._schedulers()
        return number

    def _schedulers(self) -> Iterator[int]:
        return (number for number in _group(self.process.pid) if _name(number).startswith("sglang::schedul"))

    def kill_scheduler(self) -> None:
        """Kill the process that makes the tokens. Return when it is dead."""
        number = self.scheduler()
        os.kill(number, signal.SIGKILL)
        wait_for(
            lambda: _read(Path(f"/proc/{number}/stat")), "the scheduler is dead", lambda text: not text or ") Z" in text
        )


def _with_key(folder: Path, key: str | None) -> list[str]:
    """Return the container's command before its arguments, for a server that asks for a key."""
    if key is None:
        return []
    file = folder / "api-key"
    file.write_text(key)
    return entrypoint.command([], key_file=str(file))


def _environment(target: Target, folder: Path, cache: Path) -> dict[str, str]:
    """Return the variables that the operator sets, with folders of ours, and variables that say that there is no
    internet.
    """
    places = {environment.CACHE_PATH: cache, environment.KERNELS_PATH: folder}
    rendered = {}
    for variable in environment.variables(target.spec()):
        value = str(variable["value"])
        for place, here in places.items():
            if value.startswith(f"{place}/"):
                value = f"{here}{value.removeprefix(place)}"
        rendered[variable["name"]] = value
    # The container's command calls the python3 of the server's own environment.
    path = f"{Path(target.program[0]).parent}:{os.environ['PATH']}"
    return os.environ | rendered | {"HF_HUB_OFFLINE": "1", "PATH": path} | dict(target.variables)


def _free_port() -> int:
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - no secret
        with socket.socket() as opened, suppress(OSError):
            opened.bind(("127.0.0.1", port))
            return port


def _group(leader: int) -> Iterator[int]:
    """Yield the processes of a group."""
    for folder in Path("/proc").glob("[0-9]*"):
        fields = _read(folder / "stat").rpartition(")")[2].split()
        if fields and int(fields[2]) == leader:
            yield int(folder.name)


def _name(process: int) -> str:
    return _read(Path(f"/proc/{process}/comm"))


def _read(file: Path) -> str:
    """Return a file's text, empty if its process has just ended."""
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
