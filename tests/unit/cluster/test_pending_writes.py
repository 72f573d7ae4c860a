"""While the API server may still commit a write, a replica that stops does not release its Lease."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from answering import answering
from kimi_linear_operator import clock
from kimi_linear_operator.cluster.client import connect_to
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.transport import PendingWrites
from kimi_linear_operator.kubernetes.kinds import SERVICE
from kimi_linear_operator.server.spec import SERVER
from make import make_server

_SECONDS = 1.5


async def _write(answer: Callable[[web.Request], web.StreamResponse | None], *, give_up: float = 30.0) -> PendingWrites:
    """Send a write to an API server that gives this answer or no answer. Stop waiting after a while."""

    pending = PendingWrites()

    async def handle(request: web.Request) -> web.StreamResponse:
        found = answer(request)
        if found is None:
            await asyncio.sleep(_SECONDS)
        return found or web.json_response({})

    async with answering(handle) as cluster:
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(give_up):
                await cluster.fenced(lambda: _SECONDS, pending).create(SERVER, make_server())
    return pending


@pytest.mark.parametrize("status", [200, 201, 404, 409, 422, 429])
def test_an_answered_write_is_no_longer_pending(status: int) -> None:
    assert not asyncio.run(_write(lambda _: web.json_response({}, status=status)))


@pytest.mark.parametrize("status", [500, 503, 504])
def test_a_failed_write_stays_pending_until_its_time_limit(status: int) -> None:
    async def test() -> None:
        pending = await _write(lambda _: web.json_response({}, status=status))
        assert pending
        await asyncio.sleep(_SECONDS)
        assert not pending

    asyncio.run(test())


def test_an_abandoned_write_stays_pending_until_its_time_limit() -> None:
    async def test() -> None:
        pending = await _write(lambda _: None, give_up=0.3)
        assert pending
        await asyncio.sleep(_SECONDS)
        assert not pending

    asyncio.run(test())


def test_reads_and_dry_runs_are_never_pending() -> None:
    async def test() -> None:
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kimi", "namespace": "default"}}
        pending = PendingWrites()
        async with connect_to(Configuration(host="http://127.0.0.1:1")) as connected:
            cluster = connected.fenced(lambda: _SECONDS, pending)
            with suppress(ApiError):
                await cluster.get(SERVER, "default", "kimi")
            with suppress(ApiError):
                await cluster.apply(SERVICE, service, dry_run=True)
            assert not pending
            with suppress(ApiError):
                await cluster.apply(SERVICE, service)
            assert pending

    asyncio.run(test())


def test_writes_are_pending_until_the_last_of_them_ends() -> None:
    pending = PendingWrites()
    numbers = [pending.begin(clock.seconds() + 60) for _ in range(3)]
    for number in numbers[:2]:
        pending.end(number)
    assert pending
    pending.end(numbers[2])
    assert not pending


def test_the_clock_of_leases_continues_while_the_machine_is_suspended() -> None:
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("this system has no such clock")
    assert clock.seconds() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1)
    suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    assert clock.suspended_seconds() == pytest.approx(suspended, abs=1)
