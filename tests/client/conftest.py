"""SGLang's own client, the stand-in for its server, and the files that the client would download."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import sglang_client
from client.processes import Pod, StandIn
from stand_in import data


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the tokenizer, conversations and questions of the stand-in."""
    folder = tmp_path_factory.mktemp("downloads")
    data.write(folder)
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., StandIn]]:
    """Start stand-ins, with arguments of SGLang and a behaviour."""
    with ExitStack() as stack:

        def start_one(*arguments: str, **behaviour: float) -> StandIn:
            return stack.enter_context(StandIn(arguments, behaviour, tmp_path / "server.log"))

        yield start_one


@pytest.fixture
def pod(tmp_path: Path, downloads: Path) -> Pod:
    """Return a pod with SGLang's client in it."""
    environment = sglang_client.environment()
    environment.ensure_made()
    folder = tmp_path / "pod"
    folder.mkdir()
    return Pod(folder, downloads, environment.python)
