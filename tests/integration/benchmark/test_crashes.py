"""The operator is killed before and after every write of a benchmark. No suite is repeated, and none is left out."""

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from integration.client_pods import benchmark, create_benchmark, end_all, left_of, pods_made
from integration.faults import Call, Hold
from integration.namespace import Namespace
from integration.sandbox import Sandbox
from integration.waiting import wait_for
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, Kind

# Writes and deletions of the ConfigMaps with the runner and the results, creations and deletions of each suite's Job,
# and writes of the status. Each killed write occupies one of the namespace's sixteen workers.
_WRITES = {CONFIG_MAP: 3, JOB: 4, BENCHMARK: 3}
_SUITES = [{"name": "speed-low"}, {"name": "gsm8k"}]


class Boundary(NamedTuple):
    """A crash before or after a benchmark's nth write of a kind. The benchmark is named after the crash."""

    side: str
    kind: Kind
    nth: int

    @property
    def name(self) -> str:
        return f"{self.side}-{self.kind.plural}-{self.nth}"

    def holds(self, call: Call) -> bool:
        return call.is_write and f"/{self.kind.plural}/{self.name}" in call.path


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_crash_at_any_write_of_a_benchmark_leaves_no_trace(sandbox: Sandbox, side: str) -> None:
    namespace = sandbox.namespace
    boundaries = [Boundary(side, kind, nth + 1) for kind, count in _WRITES.items() for nth in range(count)]
    holds = [Hold(boundary.nth, after=boundary.side == "after") for boundary in boundaries]
    with ExitStack() as faults:
        for boundary, hold in zip(boundaries, holds, strict=True):
            faults.enter_context(sandbox.proxy.fault(hold, boundary.holds))
            # Each benchmark measures its own address, so that none waits for another.
            endpoint = {"url": f"http://{boundary.name}"}
            create_benchmark(namespace, boundary.name, serverRef=None, endpoint=endpoint, suites=_SUITES)
        _play_until(namespace, lambda: all(hold.reached.is_set() for hold in holds))
        sandbox.operator.kill()
    sandbox.restart_after_crash()
    for boundary in boundaries:
        _play_until(namespace, functools.partial(_has_ended, namespace, boundary.name))
        status = benchmark(namespace, boundary.name)["status"]
        assert (status["verdict"], status["progress"]) == ("Passed", "2/2")
        assert pods_made(namespace, boundary.name) == 2, f"{boundary.name} has repeated a suite"
        wait_for(lambda name=boundary.name: left_of(namespace, name), "only the results are left", _is_results)  # type: ignore[misc]


def _has_ended(namespace: Namespace, name: str) -> bool:
    """Return whether a benchmark has a verdict and its results are written."""
    return "verdict" in benchmark(namespace, name)["status"] and bool(namespace.find(CONFIG_MAP, f"{name}-results"))


def _play_until(namespace: Namespace, is_done: Callable[[], bool]) -> None:
    """Play the kubelet of all clients until something has happened."""

    def play() -> bool:
        end_all(namespace)
        return is_done()

    wait_for(play, "all benchmarks have come so far", seconds=60)


def _is_results(left: set[str]) -> bool:
    return len(left) == 1 and next(iter(left)).endswith("-results")
