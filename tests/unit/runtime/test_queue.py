"""The queue's promises. Time is the event loop's own time, so no test waits for a clock."""

import asyncio
import itertools

import pytest

from fast_loop import now, run
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.counters import REGISTRY
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.runtime.queue import (
    BACKOFF,
    LONGEST_QUIET_SECONDS,
    QUIET_SECONDS,
    SHORTEST_SECONDS,
    WorkQueue,
)
from kimi_linear_operator.server.spec import SERVER
from unit.runtime.working import A, B, C, failing, recorder, settle, worked


def test_a_key_added_often_while_it_waits_is_worked_on_once() -> None:
    async def test() -> None:
        queue, done = WorkQueue(), list[Key]()
        for key in (A, B, A, A, B):
            queue.add(key)
        await worked(queue, recorder(done))
        assert done == [A, B]

    run(test())


def test_a_key_added_during_its_pass_gets_exactly_one_more_pass() -> None:
    async def test() -> None:
        queue, log = WorkQueue(), list[str]()

        async def work(key: Key, _: int) -> None:
            log.append("start")
            if len(log) == 1:
                for _ in range(3):
                    queue.add(key)
            await settle()
            log.append("end")

        queue.add(A)
        await worked(queue, work, seconds=1, workers=3)
        assert log == ["start", "end", "start", "end"]

    run(test())


def test_a_failing_key_comes_back_later_and_later() -> None:
    async def test() -> None:
        queue, times = WorkQueue(), list[float]()
        queue.add(A)
        await worked(queue, failing(times), seconds=400)
        waits = [after - before for before, after in itertools.pairwise(times)]
        # A random part of up to half its length is subtracted from every wait.
        expected = [min(BACKOFF.first * 2**attempt, BACKOFF.longest) for attempt in range(len(waits))]
        assert len(waits) > 9
        for wait, longest in zip(waits, expected, strict=True):
            assert longest / 2 <= wait <= longest * 1.01

    run(test())


def test_a_success_resets_the_count_of_failures() -> None:
    async def test() -> None:
        queue, times = WorkQueue(), list[float]()
        queue.add(A)

        async def add_again() -> None:
            await asyncio.sleep(100)
            queue.add(A)

        adding = asyncio.create_task(add_again())
        await worked(queue, failing(times, until=lambda: len(times) == 5), seconds=102)
        await adding
        assert times[6] - times[5] <= 0.51

    run(test())


def test_a_failing_key_delays_no_other() -> None:
    async def test() -> None:
        queue, done, start = WorkQueue(), list[tuple[Key, float]](), now()

        async def work(key: Key, _: int) -> None:
            done.append((key, now() - start))
            if key == A:
                raise ValueError("no")

        for key in (A, B, C):
            queue.add(key)
        await worked(queue, work, seconds=0)
        assert [key for key, _ in done] == [A, B, C]
        assert max(when for _, when in done) < 0.2

    run(test())


def test_a_slow_key_delays_no_other_while_a_worker_is_free() -> None:
    async def test() -> None:
        queue, done, release = WorkQueue(is_shared=False), list[Key](), asyncio.Event()

        async def work(key: Key, _: int) -> None:
            if key == A:
                await release.wait()
            done.append(key)
            if key == C:
                release.set()

        for key in (A, B, C):
            queue.add(key)
        await worked(queue, work, workers=2)
        assert done == [B, C, A]

    run(test())


def test_closing_drops_waiting_keys_and_finishes_running_passes() -> None:
    async def test() -> None:
        queue, started, finished = WorkQueue(), list[Key](), list[Key]()

        async def work(key: Key, _: int) -> None:
            started.append(key)
            queue.add(key)
            await asyncio.sleep(5)
            finished.append(key)

        queue.add(A)
        queue.add(B)
        queue.add_after(C, 1)
        await worked(queue, work)
        queue.add(C)
        queue.add_after(C, 1)
        assert (started, finished) == ([A], [A])

    run(test())


def test_a_key_is_due_again_when_its_work_says_so() -> None:
    async def test() -> None:
        queue, done = WorkQueue(), list[Key]()
        queue.add(A)
        await worked(queue, recorder(done, again=15), seconds=50)
        assert done == [A] * 4

    run(test())


def test_a_key_that_is_due_at_once_again_and_again_waits_longer_each_time() -> None:
    """A pass over a state that nobody expected may ask for this for ever."""

    async def test() -> None:
        queue, times = WorkQueue(), list[float]()

        async def work(_: Key, failures: int) -> float:
            assert failures == 0, "no pass failed"
            times.append(now())
            return 0.0

        queue.add(A)
        await worked(queue, work, seconds=300)
        waits = [after - before for before, after in itertools.pairwise(times)]
        assert waits[0] == pytest.approx(SHORTEST_SECONDS, abs=0.01)
        assert min(waits) >= SHORTEST_SECONDS
        assert max(waits[:4]) <= 4.01
        assert min(waits[7:]) >= BACKOFF.longest / 2
        assert len(times) < 30

    run(test())


def test_other_delays_and_changes_are_not_affected_by_earlier_short_delays() -> None:
    async def test() -> None:
        queue, times, start = WorkQueue(), list[float](), now()
        delays = iter([0.0, 0.0, 0.5, 5.0, 0.0, None, None])

        async def work(_: Key, __: int) -> float | None:
            times.append(now() - start)
            return next(delays)

        queue.add(A)
        asyncio.get_running_loop().call_later(100, queue.add, A)
        await worked(queue, work, seconds=200)
        waits = [after - before for before, after in itertools.pairwise(times)]
        assert waits[3] == pytest.approx(5.0, abs=0.01)
        assert waits[4] == pytest.approx(SHORTEST_SECONDS, abs=0.01)
        assert times[-1] == pytest.approx(100, abs=0.01)

    run(test())


def test_a_key_added_often_for_later_is_worked_on_once() -> None:
    async def test() -> None:
        queue, done = WorkQueue(), list[Key]()
        for _ in range(5):
            queue.add_after(A, 1)
        await worked(queue, recorder(done), seconds=10)
        assert done == [A]

    run(test())


def test_a_key_added_at_once_is_not_worked_on_again_later() -> None:
    async def test() -> None:
        queue, done = WorkQueue(), list[Key]()
        queue.add_after(A, 1)
        queue.add(A)
        queue.add_after(A, 1)
        await worked(queue, recorder(done), seconds=10)
        assert done == [A]

    run(test())


def test_the_earlier_of_two_due_times_counts() -> None:
    async def test() -> None:
        queue, done = WorkQueue(), list[Key]()
        queue.add_after(A, 60)
        queue.add_after(A, 1)
        await worked(queue, recorder(done), seconds=10)
        assert done == [A]

    run(test())


def test_a_failure_is_logged_with_the_key_and_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        queue = WorkQueue()
        queue.add(A)
        await worked(queue, failing([]))

    run(test())
    (record,) = caplog.records
    assert record.getMessage().startswith("Could not reconcile KimiLinearServer default/a, trying again in")
    assert record.getMessage().endswith(": no")


def test_a_queue_is_stuck_when_keys_wait_and_no_worker_takes_any() -> None:
    async def test() -> None:
        queue, release = WorkQueue(), asyncio.Event()

        async def hang(key: Key, _: int) -> None:
            await release.wait()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(queue.work(hang))
            assert queue.stuck_seconds() == 0
            queue.add(A)
            await asyncio.sleep(100)
            assert queue.stuck_seconds() == 0, "nothing waits"
            queue.add(B)
            await asyncio.sleep(100)
            assert queue.stuck_seconds() == pytest.approx(100, abs=1)
            release.set()
            await settle()
            assert queue.stuck_seconds() == 0
            queue.close()

    run(test())


def test_a_queue_is_not_stuck_while_slow_passes_still_end() -> None:
    async def test() -> None:
        queue, stuck = WorkQueue(is_shared=False), list[float]()

        async def work(key: Key, _: int) -> None:
            await asyncio.sleep(100)
            stuck.append(queue.stuck_seconds())

        for number in range(10):
            queue.add(Key("default", str(number), SERVER))
        await worked(queue, work, seconds=1000)
        assert stuck == [*[pytest.approx(100)] * 9, 0]

    run(test())


def test_a_burst_gives_one_pass_and_a_long_burst_is_not_waited_for() -> None:
    async def test() -> None:
        queue, times, start = WorkQueue(), list[float](), now()

        async def work(key: Key, _: int) -> None:
            times.append(now() - start)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(queue.work(work))
            for _ in range(3):
                queue.add_when_quiet(A, "bulk")
                await asyncio.sleep(1)
            await asyncio.sleep(10)
            assert times == [pytest.approx(2 + QUIET_SECONDS, abs=0.1)]
            for _ in range(20):
                queue.add_when_quiet(A, "bulk")
                await asyncio.sleep(0.5)
            assert times[1] == pytest.approx(13 + LONGEST_QUIET_SECONDS, abs=0.1)
            queue.close()

    run(test())


def test_a_key_that_waits_for_quiet_is_worked_on_at_once_when_urgent() -> None:
    async def test() -> None:
        queue, done = WorkQueue(), list[Key]()
        queue.add_when_quiet(A, "bulk")
        queue.add(A)
        await worked(queue, recorder(done), seconds=10)
        assert done == [A]

    run(test())


def test_a_key_waits_as_long_as_the_api_server_asks_and_its_failures_are_counted() -> None:
    async def test() -> None:
        queue, calls = WorkQueue(), list[tuple[float, int]]()

        async def work(key: Key, failures: int) -> None:
            calls.append((now(), failures))
            if failures < 2:
                raise ApiError(429, "too many requests", retry_seconds=100)

        queue.add(A)
        await worked(queue, work, seconds=300)
        assert [failures for _, failures in calls] == [0, 1, 2]
        assert [after - before for (before, _), (after, _) in itertools.pairwise(calls)] == pytest.approx([100, 100])

    run(test())


def test_a_key_added_again_still_waits_as_long_as_the_api_server_asks() -> None:
    async def test() -> None:
        queue, times, start, waited = WorkQueue(), list[tuple[Key, float]](), now(), _waited_for_workers()

        async def work(key: Key, _: int) -> None:
            times.append((key, now() - start))
            if len(times) == 1:
                raise ApiError(503, "unavailable", retry_seconds=100)

        queue.add(A)
        asyncio.get_running_loop().call_later(1, queue.add_when_quiet, A, "bulk")
        for key in (A, B):
            asyncio.get_running_loop().call_later(10, queue.add, key)
        await worked(queue, work, seconds=300)
        assert times == [(A, 0), (B, pytest.approx(10)), (A, pytest.approx(100))]
        assert _waited_for_workers() == pytest.approx(waited, abs=0.1), "no key waited for a worker"

    run(test())


def _waited_for_workers() -> float:
    """Return for how many seconds all keys together have waited for a worker, according to the metric."""
    return REGISTRY.get_sample_value("kimi_linear_operator_queue_wait_seconds_sum") or 0.0
