"""Passes leave time for other tasks."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import cast

import pytest
from aiohttp import web

from answering import answering, stored_object
from kimi_linear_operator.cluster.client import TAIL_BYTES, Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.transport import PendingWrites
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, Kind
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Options, Reconciler
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.work import TURN_SECONDS, WORKERS, Work
from kimi_linear_operator.server.spec import SERVER
from make import make_pod, make_server
from passes import new_cache, new_scopes


class Turns:
    """Counts the turns of the event loop, and notes in which turn each pass goes on, and then takes some time."""

    def __init__(self, seconds: float = 1.2 * TURN_SECONDS) -> None:
        self.turn = 0
        self.seconds = seconds
        self.begun: list[int] = []

    def go_on(self) -> None:
        self.begun.append(self.turn)
        begin = time.monotonic()
        while time.monotonic() - begin < self.seconds:
            pass

    async def count(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)

    async def reconcile(self, _: Key, __: int) -> None:
        self.go_on()


async def begun_by(passes: int, turns: Turns) -> list[int]:
    """Return the turns in which passes begin that become due together."""
    scopes, cache = new_scopes([]), new_cache()
    for scope in scopes:
        scopes.begin(scope, 0)
        scopes.succeed(scope, 1)
    cache.put(SERVER, make_server())
    work = Work(TYPES, scopes, cache, Options())
    by_kind = cast(Mapping[Kind, Reconciler], {SERVER: turns})
    counting = asyncio.ensure_future(turns.count())
    await asyncio.gather(*(work._reconcile(by_kind, Key("default", "kimi", SERVER), 0) for _ in range(passes)))
    counting.cancel()
    return turns.begun


def test_long_passes_of_all_workers_begin_in_different_turns_of_the_event_loop() -> None:
    begun = asyncio.run(begun_by(WORKERS, Turns()))
    assert len(set(begun)) == len(begun) == WORKERS


def test_short_passes_share_turns_so_that_they_do_not_wait_for_other_tasks() -> None:
    begun = asyncio.run(begun_by(WORKERS, Turns(seconds=0.0)))
    assert len(begun) == WORKERS
    assert len(set(begun)) < WORKERS / 2


def test_long_passes_whose_answers_arrive_together_go_on_in_different_turns_of_the_event_loop() -> None:
    """Otherwise a pass that takes long after an answer would take as long as all of them together."""
    work, turns, arrived = Work(TYPES, new_scopes([]), new_cache(), Options()), Turns(), list[str]()
    all_arrived = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        arrived.append(request.path)
        if len(arrived) == WORKERS:
            all_arrived.set()
        await all_arrived.wait()
        return web.json_response(stored_object(DEPLOYMENT, "kimi"))

    async def go_on(cluster: Cluster) -> None:
        await cluster.get(DEPLOYMENT, "default", "kimi")
        turns.go_on()

    async def test() -> None:
        async with answering(answer) as cluster:
            counting = asyncio.ensure_future(turns.count())
            await asyncio.gather(*(go_on(cluster.in_turns(work.turn)) for _ in range(WORKERS)))
            counting.cancel()

    asyncio.run(test())
    assert len(set(turns.begun)) == len(turns.begun) == WORKERS


def refuse() -> float:
    """Forbid a write, as a replica does that may have lost the Lease."""
    raise ApiError(0, "this replica does not hold the Lease")


def unfenced() -> float:
    return 10.0


async def read_log(cluster: Cluster) -> None:
    await cluster.pod_log_tail(make_pod(), "sglang", lines=1)


async def read_events(cluster: Cluster) -> None:
    await cluster.events_of(make_pod(), ("FailedMount",))


async def write(cluster: Cluster) -> None:
    await cluster.apply(DEPLOYMENT, stored_object(DEPLOYMENT, "kimi"))


@pytest.mark.parametrize(
    ("request_of", "write_seconds"),
    [(write, refuse), (write, unfenced), (read_events, unfenced), (read_log, unfenced)],
    ids=["a forbidden write", "a write without an answer", "a list without an answer", "an answer that is too long"],
)
def test_long_passes_whose_requests_fail_together_go_on_in_different_turns_of_the_event_loop(
    request_of: Callable[[Cluster], Awaitable[None]], write_seconds: Callable[[], float]
) -> None:
    work, turns, arrived = Work(TYPES, new_scopes([]), new_cache(), Options()), Turns(), list[str]()
    all_arrived = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/log"):
            return web.Response(body=b"x" * (TAIL_BYTES + 1))
        arrived.append(request.path)
        if len(arrived) == WORKERS:
            all_arrived.set()
        await all_arrived.wait()
        assert request.transport
        request.transport.close()
        return web.Response()

    async def go_on(cluster: Cluster) -> None:
        with suppress(ApiError):
            await request_of(cluster)
        turns.go_on()

    async def test() -> None:
        async with answering(answer) as cluster:
            limited = cluster.fenced(write_seconds, PendingWrites()).in_turns(work.turn)
            counting = asyncio.ensure_future(turns.count())
            await asyncio.gather(*(go_on(limited) for _ in range(WORKERS)))
            counting.cancel()

    asyncio.run(test())
    assert len(set(turns.begun)) == len(turns.begun) == WORKERS
