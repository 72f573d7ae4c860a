"""SIGTERM in each phase of a server's life, for an ordinary process and for the first process of a container.

In the operator's pods SGLang is an ordinary process (shareProcessNamespace). It is the first where somebody changes
that in `podTemplate`.
"""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from commands import succeeds
from engine.server import FIRST_PROCESS, Server
from engine.targets import Target
from integration.waiting import wait_for

_SECONDS_TO_END = 60
# SGLang sends a request to itself 120 times, once per second, to check whether it answers.
_SECONDS_TO_GIVE_UP = 180
_LONG = {"text": "x", "sampling_params": {"max_new_tokens": 100, "ignore_eos": True}}

WHO = {"an ordinary process": False, "the first process": True}


@pytest.fixture(scope="module", autouse=True)
def early(target: Target, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Two servers that got SIGTERM as soon as their port was open. They may need two minutes to end.

    So they come first, and the other tests run meanwhile.
    """
    if not succeeds([*FIRST_PROCESS, "true"]):
        pytest.skip("a process can be the first only in a namespace of its own, and `unshare` may make none here")
    with ExitStack() as stack:
        servers = {
            who: stack.enter_context(Server(target, tmp_path_factory.mktemp("early"), cache, is_first=is_first))
            for who, is_first in WHO.items()
        }
        with ThreadPoolExecutor() as threads:
            list(threads.map(_terminate_when_open, servers.values()))
        yield servers


def _terminate_when_open(server: Server) -> None:
    server.wait_until_open()
    server.terminate()


def test_an_ordinary_process_that_is_loading_ends_at_once(target: Target, cache: Path, tmp_path: Path) -> None:
    with Server(target, tmp_path, cache) as server:
        server.wait_until_loading()
        server.terminate()
        assert server.process.wait(timeout=5) == -signal.SIGTERM


def test_the_first_process_ignores_sigterm_while_loading(target: Target, cache: Path, tmp_path: Path) -> None:
    with Server(target, tmp_path, cache, is_first=True) as server:
        server.wait_until_loading()
        server.terminate()
        server.wait_until_ready()
        server.terminate()
        assert server.process.wait(timeout=_SECONDS_TO_END) == 0


def test_an_idle_ordinary_process_ends_within_seconds(target: Target, cache: Path, tmp_path: Path) -> None:
    with Server(target, tmp_path, cache) as server:
        server.wait_until_ready()
        told = time.monotonic()
        server.terminate()
        assert server.process.wait(timeout=_SECONDS_TO_END) == target.manner.drained
        assert time.monotonic() - told < 15


def test_the_first_process_finishes_open_requests(target: Target, cache: Path, tmp_path: Path) -> None:
    with Server(target, tmp_path, cache, is_first=True) as server:
        server.wait_until_ready()
        events = server.events("/generate", _LONG)
        next(events)
        server.terminate()
        *_, last = events
        assert last["meta_info"]["completion_tokens"] == 100
        assert server.process.wait(timeout=_SECONDS_TO_END) == 0


@pytest.mark.parametrize("who", WHO)
def test_a_server_that_is_stopped_during_its_warm_up_serves_nobody_and_ends(who: str, early: dict[str, Server]) -> None:
    server = early[who]
    wait_for(server.is_open, "the server's port is closed", lambda is_open: not is_open)
    code = server.process.wait(timeout=_SECONDS_TO_GIVE_UP)
    # Its warm-up fails, and it kills all its processes. The first process of a container cannot kill itself.
    assert code == (0 if WHO[who] else -signal.SIGKILL)
