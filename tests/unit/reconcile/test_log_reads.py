"""Reads of logs: how many run at the same time, how often one begins, and that no namespace waits for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from kimi_linear_operator import clock
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.reconcile.log_reads import (
    MOST_AT_ONCE,
    MOST_OF_NAMESPACE,
    READ_SECONDS,
    REFUSED_SECONDS,
    SECONDS_BETWEEN_READS,
    LogReads,
)


@dataclass
class World:
    """The time, and the namespaces whose logs were read.

    Attributes:
        now: The time.
        read: The namespaces of the reads, in their order.
        hangs: Whether the nodes do not answer.
    """

    now: float = 1000.0
    read: list[str] = field(default_factory=list)
    hangs: bool = False
    error: ApiError | None = None
    reads: LogReads = field(default_factory=LogReads)

    def begin(self, namespace: str) -> bool:
        async def read() -> None:
            self.read.append(namespace)
            if self.hangs:
                await asyncio.Event().wait()
            if self.error:
                raise self.error

        return self.reads.begin(namespace, read)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(clock, "seconds", lambda: made.now)
    return made


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test, and end its remaining reads."""

    async def all_of_it() -> None:
        await test()

    asyncio.run(all_of_it())


def test_only_a_few_logs_are_read_at_once_and_fewer_of_one_namespace(world: World) -> None:
    async def test() -> None:
        world.hangs = True
        for number in range(1000):
            world.begin("greedy" if number % 2 else f"n{number}")
            await asyncio.sleep(0)
            world.now += SECONDS_BETWEEN_READS / 2
        assert len(world.read) == MOST_AT_ONCE
        assert world.read.count("greedy") <= MOST_OF_NAMESPACE

    run(test)


def test_reads_begin_one_after_the_other(world: World) -> None:
    async def test() -> None:
        assert [world.begin(f"n{number}") for number in range(100)].count(True) == 1
        world.now += SECONDS_BETWEEN_READS
        assert world.begin("n1")

    run(test)


def test_namespaces_whose_logs_are_always_due_do_not_block_others(world: World) -> None:
    """Three namespaces ask for a read every millisecond. A fourth one asks as often as a server does."""

    async def test() -> None:
        tried, served = 0, 0
        for millisecond in range(200_000):
            for greedy in ("a", "b", "c"):
                world.begin(greedy)
            if millisecond % 10_037 == 0:
                tried, served = tried + 1, served + world.begin("patient")
            await asyncio.sleep(0)
            world.now += 0.001
        assert served >= tried / 4
        assert len(world.read) >= 200 / SECONDS_BETWEEN_READS / 2 - 1

    run(test)


def test_nodes_that_do_not_answer_leave_a_place_for_another_namespace(world: World) -> None:
    async def test() -> None:
        world.hangs = True
        for namespace in ("a", "a", "b"):
            assert world.begin(namespace)
            world.now += SECONDS_BETWEEN_READS
        world.begin("c")
        world.now += SECONDS_BETWEEN_READS
        assert not world.begin("d")
        # Two reads of namespace `a` have ended.
        for task in [*world.reads._places][:2]:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert world.begin("d")

    run(test)


def test_a_namespace_that_forbids_reading_logs_is_tried_again_only_after_minutes(world: World) -> None:
    async def test() -> None:
        world.error = ApiError(403, "pods/log is forbidden")
        for _ in range(int(REFUSED_SECONDS)):
            world.begin("refused")
            await asyncio.sleep(0)
            world.now += 1.0
        assert world.read == ["refused"]
        world.begin("other")
        await asyncio.sleep(0)
        assert world.read == ["refused", "other"]
        world.now += READ_SECONDS
        assert world.begin("refused")

    run(test)


@pytest.mark.parametrize("status", [0, 400, 404, 500])
def test_a_log_that_cannot_be_read_now_is_requested_again(world: World, status: int) -> None:
    async def test() -> None:
        world.error = ApiError(status, "not now")
        for _ in range(2):
            assert world.begin("default")
            await asyncio.sleep(0)
            world.now += SECONDS_BETWEEN_READS

    run(test)
