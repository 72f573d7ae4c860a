"""Verifies a server of the cluster. Creates a benchmark like the one of its verification, and follows it."""

import asyncio
import sys
import time
from typing import Any

from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.cli.checks import Outcome, tell
from kimi_linear_operator.cli.failure import CommandError, missing, of_cluster
from kimi_linear_operator.cli.state import State
from kimi_linear_operator.cli.status import now
from kimi_linear_operator.cli.watching import watch
from kimi_linear_operator.cluster.client import Cluster, connect
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.server import verification
from kimi_linear_operator.server.definition import CHECKER
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer

# The API server adds five characters, and the name of a benchmark can have 40.
_LONGEST_PREFIX = 26
# During this time, users can read the results and the log of a failed client. The operator keeps such a log for an
# hour.
_SECONDS_KEPT = 3600
# A running operator sees a new object within a second. After a change of the leader, it takes up to a minute.
_SECONDS_UNTIL_SEEN = 60.0


def run(namespace: str, name: str, seconds: float) -> Outcome:
    """Verify a server, with progress on standard error. After an interrupt, delete the benchmark.

    Args:
        namespace: Its namespace.
        name: Its name.
        seconds: The time limit.

    Raises:
        CommandError: It cannot be verified.
    """
    try:
        state = asyncio.run(_verify(namespace, name, seconds))
    except ApiError as error:
        raise of_cluster(error) from error
    return Outcome(state.resource, state.message, state.next_step)


async def _verify(namespace: str, name: str, seconds: float) -> State:
    async with connect() as cluster:
        server = await _ready_server(cluster, namespace, name)
        made = await cluster.create(BENCHMARK, build_benchmark(server))
        benchmark = made["metadata"]["name"]
        tell(f"benchmark {benchmark} asks {name}; an hour after its end, the operator deletes the benchmark")
        try:
            return await _follow(cluster, made, seconds)
        except BaseException:
            await _delete(cluster, made)
            raise


async def _ready_server(cluster: Cluster, namespace: str, name: str) -> KimiLinearServer:
    """Return a server that serves. Otherwise the client of a benchmark would wait for it without end.

    Raises:
        CommandError: The server does not exist, or does not serve.
    """
    stored = await cluster.get(SERVER, namespace, name)
    if stored is None:
        raise missing(SERVER.kind, "kls", name, namespace)
    state = _state(SERVER, stored)
    server = CHECKER.read_stored(stored)
    if server is None or not (state.is_seen and state.has_reached_goal):
        step = f"\nNext: {state.next_step}" if state.next_step else ""
        raise CommandError(f"{state.headline}: {state.message}{step}")
    return server


def build_benchmark(server: KimiLinearServer) -> dict[str, Any]:
    """Return a benchmark with the questions of a server's verification.

    The server does not own it, so the operator treats it like a benchmark of a user.
    """
    name = server.metadata.name
    return {
        "apiVersion": BENCHMARK.api_version,
        "kind": BENCHMARK.kind,
        "metadata": {
            "generateName": f"{name[:_LONGEST_PREFIX]}-by-hand-",
            "namespace": server.metadata.namespace,
        },
        "spec": {
            "serverRef": {"name": name},
            **verification.checks(server.spec),
            "ttlSecondsAfterFinished": _SECONDS_KEPT,
        },
    }


async def _follow(cluster: Cluster, made: Manifest, seconds: float) -> State:
    """Follow a benchmark until it has a verdict.

    Raises:
        ApiError: It cannot be read.
        CommandError: It has no verdict within the time limit, or is gone.
    """
    about, begin = made["metadata"], time.monotonic()
    last = _state(BENCHMARK, made)

    async def look() -> State:
        nonlocal last
        stored = await cluster.get(BENCHMARK, about["namespace"], about["name"])
        if stored is None:
            raise CommandError(f"somebody has deleted KimiLinearBenchmark {about['name']}")
        last = _state(BENCHMARK, stored)
        if not last.is_seen and time.monotonic() - begin > _SECONDS_UNTIL_SEEN:
            raise CommandError(
                f"no operator has handled the benchmark in {_SECONDS_UNTIL_SEEN:.0f} s. Does the operator run?"
            )
        return last

    try:
        async with asyncio.timeout(seconds):
            state = await watch(look, now, sys.stderr)
    except TimeoutError:
        step = f"\nNext: {last.next_step}" if last.next_step else ""
        raise CommandError(f"not done within {seconds:.0f} s (--timeout): {last.message}{step}") from None
    if "verdict" not in state.status:
        raise CommandError(f"{state.headline}: {state.message}\nNext: {state.next_step}")
    return state


async def _delete(cluster: Cluster, benchmark: Manifest) -> None:
    name = benchmark["metadata"]["name"]
    try:
        await cluster.delete(BENCHMARK, benchmark)
    except ApiError as error:
        tell(f"KimiLinearBenchmark {name} could not be deleted ({error}); delete it with `kubectl delete klb {name}`")
    else:
        tell(f"deleted {name}")


def _state(kind: Kind, stored: Manifest) -> State:
    """Return the state of a resource without its children, because the user may have no permission to read them."""
    return State(TYPES[kind], stored, (), ())
