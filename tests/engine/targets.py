"""The servers under test, and the differences between SGLang's releases."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cpu_engine import environment
from kimi_linear_operator.server.sglang import command_line
from kimi_linear_operator.server.spec import ServerSpec

_TESTS = Path(__file__).parents[1]
KEY = "sk-planted"


@dataclass(frozen=True)
class Manner:
    """The differences between releases.

    Attributes:
        ping_unready: What /ping answers while the server warms up and while it drains.
        ready: What /ready answers before and when the server is ready.
        counter_labels: The labels of the counters of requests and tokens.
        chat_metadata: What a chat says about the weights that answered.
        drained: The exit code after all requests were finished on SIGTERM; negative is a signal.
        watches_its_processes: Whether the server ends when a process of it was killed.
    """

    ping_unready: int
    ready: tuple[int, int]
    counter_labels: frozenset[str]
    chat_metadata: frozenset[str]
    drained: int
    watches_its_processes: bool


MANNERS = {
    # At its end, 0.5.7 kills all its processes and itself, unless it is process 1 of a container. In the operator's
    # pods it is not process 1, so Kubernetes sees exit code 137.
    "0.5.7": Manner(
        ping_unready=200,
        ready=(404, 404),
        counter_labels=frozenset({"model_name"}),
        chat_metadata=frozenset({"weight_version"}),
        drained=-9,
        watches_its_processes=False,
    ),
    "0.5.23": Manner(
        ping_unready=503,
        ready=(503, 200),
        counter_labels=frozenset({"engine_type", "is_streaming", "model_name"}),
        chat_metadata=frozenset({"weight_version", "weight_versions"}),
        drained=0,
        watches_its_processes=True,
    ),
}


@dataclass(frozen=True)
class Target:
    """A server that must behave like a release of SGLang, with its program and environment."""

    release: str
    program: tuple[str, ...]
    variables: Mapping[str, str]

    @property
    def is_real(self) -> bool:
        """Whether it is SGLang itself."""
        return "sglang.launch_server" in self.program

    @property
    def manner(self) -> Manner:
        """The differences of its release."""
        return MANNERS[self.release]

    def spec(self, *more: str) -> ServerSpec:
        """Return a server with one GPU, with these arguments in addition to the arguments for a CPU."""
        extra = [*environment.ARGUMENTS[self.release], *more]
        spec = {"tensorParallelism": 1, "toolCallParser": "enabled", "engine": {"extraArgs": extra}}
        return ServerSpec.model_validate(spec)

    def command(self, port: int, *more: str) -> list[str]:
        """Return the operator's command line without the address, because its host name exists only in a pod."""
        words = command_line.arguments(self.spec(*more))[len(command_line.PROGRAM) :]
        address = {command_line.ALL_ADDRESSES: "127.0.0.1", str(command_line.PORT): str(port)}
        return [*self.program, *(address.get(word, word) for word in words)]


def _sglang(release: str) -> Target:
    python = str(environment.environment(release).python)
    return Target(release, (python, "-m", "sglang.launch_server"), environment.VARIABLES)


def targets() -> dict[str, Target]:
    """Return all servers by the name that tests show."""
    # The stand-in is as slow as SGLang on a CPU, with one token per event, so that a test can distinguish the phases of
    # its life.
    slow = {"STAND_IN_SECONDS_PER_TOKEN": "0.02", "STAND_IN_TOKENS_PER_EVENT": "1"}
    stand_in = Target("0.5.7", (sys.executable, "-m", "stand_in"), {"PYTHONPATH": str(_TESTS), **slow})
    return {"stand-in": stand_in, **{release: _sglang(release) for release in environment.RELEASES}}
