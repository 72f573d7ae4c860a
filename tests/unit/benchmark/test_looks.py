"""Lists at the API server before a suite starts ("looks") may be slow. Time is the loop's own."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, cast

import pytest

from fast_loop import now, run
from kimi_linear_operator.benchmark import job, target
from kimi_linear_operator.benchmark.admission import LEFTOVER_RETRY_SECONDS, REQUESTS_AT_ONCE, Admission, Wait
from kimi_linear_operator.benchmark.labels import BENCHMARK_LABEL, SUITE_LABEL
from kimi_linear_operator.benchmark.line import FEW_RIVALS
from kimi_linear_operator.benchmark.looks import LOOK_RETRY_SECONDS, LOOKS_AT_ONCE, LOOKS_OF_NAMESPACE, Looks
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.transport import LIST_SECONDS
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import POD, Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.pauses import LONGEST_PAUSE_SECONDS, Pauses
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_server
from passes import has_read_all, new_cache

NOW = "2026-11-24T09:00:00Z"


# Seconds until a slow API server has answered a list.
SLOW_LIST_SECONDS = 1.5


def of(namespace: str) -> Key:
    """Return a benchmark of a namespace."""
    return Key(namespace, "one", BENCHMARK)


class Slow:
    """A store with benchmarks, and an API server with slow lists."""

    def __init__(self) -> None:
        self.cache = new_cache()
        self.targets = Admission(cast(Cluster, self), self.cache, has_read_all, now, enqueue=self.enqueue)
        self.list_seconds = LIST_SECONDS
        self.enqueued: asyncio.Queue[Key] = asyncio.Queue()
        self.asked: list[str] = []
        self.under_way = self.most = 0
        self.names: list[str] = []
        self.error: ApiError | None = None
        # Namespace and suite of a benchmark whose Job the cache does not show.
        self.running: tuple[str, str] | None = None

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        await self._answer(kind, namespace)
        return summary

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        self.names.append(name)
        await self._answer(kind, namespace)
        return self._job(*self.running) if self.running and self.running[0] == namespace else None

    def _job(self, namespace: str, suite: str) -> Manifest:
        """Return the Job of a suite that has no pod yet."""
        labels = {BENCHMARK_LABEL: "of-host", SUITE_LABEL: suite}
        uid = f"{namespace}-host"
        owned = {"ownerReferences": [{"kind": "KimiLinearBenchmark", "name": "of-host", "uid": uid}]}
        name = job.name_of(uid, "of-host", suite)
        metadata = {"name": name, "namespace": namespace, "uid": "job", "labels": labels, "creationTimestamp": NOW}
        return {"metadata": {**metadata, **owned}, "status": {}}

    async def _answer(self, kind: Kind, namespace: str) -> None:
        self.asked.append(namespace)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.error and kind == POD and namespace != "other":
                raise self.error
            await asyncio.sleep(self.list_seconds)
        finally:
            self.under_way -= 1

    def benchmark(
        self, host: str, namespace: str = "default", suites: Sequence[str] = ("gsm8k",), **status: Any
    ) -> Key:
        server = make_server()
        self.cache.put(SERVER, {**server, "metadata": {**server["metadata"], "name": host, "namespace": "example"}})
        key, names = Key(namespace, f"of-{host}", BENCHMARK), [{"name": name} for name in suites]
        manifest = make_benchmark(key.name, endpoint={"url": f"http://{host}.example"}, suites=names)
        manifest["status"] = status
        given = {"namespace": namespace, "uid": f"{namespace}-{host}", "creationTimestamp": NOW, "resourceVersion": "2"}
        self.cache.put(BENCHMARK, {**manifest, "metadata": {**manifest["metadata"], **given}})
        return key

    def enqueue(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.enqueued.put_nowait(key)

    async def wait(self, key: Key) -> Wait | None:
        aim = target.of_endpoint(KimiLinearBenchmark.model_validate(self.cache.get(key.of(BENCHMARK))))
        return await self.targets.wait(key, aim, NOW)


def test_only_a_few_looks_run_at_once_and_others_return_their_worker() -> None:
    async def test() -> None:
        world = Slow()
        keys = [world.benchmark(f"host-{number}", f"n{number}") for number in range(3 * LOOKS_AT_ONCE)]
        looking = [asyncio.ensure_future(world.wait(key)) for key in keys]
        await asyncio.sleep(0.1)
        found = [one.result() for one in looking if one.done()]
        assert len(found) == 2 * LOOKS_AT_ONCE
        assert {(one.reason.name, one.look) for one in found if one} == {("WaitingForTurn", LOOK_RETRY_SECONDS)}
        assert await asyncio.gather(*looking[:LOOKS_AT_ONCE]) == [None] * LOOKS_AT_ONCE
        assert await world.wait(keys[-1]) is None

    run(test())


def test_a_namespace_has_only_some_of_the_places() -> None:
    async def test() -> None:
        world = Slow()
        keys = [world.benchmark(f"host-{number}") for number in range(LOOKS_AT_ONCE)]
        waits = await asyncio.gather(*map(world.wait, keys))
        assert waits.count(None) == LOOKS_OF_NAMESPACE

    run(test())


def test_a_namespace_that_found_no_place_goes_before_those_that_always_ask() -> None:
    """Three namespaces take every place as soon as it is free.

    A fourth one tries again after the longest pause, as a benchmark does that has waited for long.
    """
    time = [0.0]
    looks = Looks(lambda: time[0], lambda _: None)
    greedy = ["a", "b", "c"]
    busy = [(name, looks.place(of(name))) for name in ("a", "a", "b", "b")]
    assert [place.__enter__() for _, place in busy] == [True] * LOOKS_AT_ONCE
    with looks.place(of("patient")) as has_place:
        assert not has_place
    busy.pop(0)[1].__exit__(None, None, None)
    for name in greedy:
        with looks.place(of(name)) as has_place:
            assert not has_place
    time[0] += LONGEST_PAUSE_SECONDS
    with looks.place(of("patient")) as has_place:
        assert has_place


def test_no_place_is_reserved_for_a_namespace_that_has_its_full_share() -> None:
    looks = Looks(lambda: 0.0, lambda _: None)
    with looks.place(of("a")), looks.place(of("a")):
        with looks.place(of("a")) as has_place:
            assert not has_place
        with looks.place(of("b")) as first, looks.place(of("c")) as second:
            assert (first, second) == (True, True)


def test_no_place_is_reserved_for_a_namespace_that_does_not_ask_again() -> None:
    time = [0.0]
    looks = Looks(lambda: time[0], lambda _: None)
    busy = [looks.place(of(name)) for name in ("a", "a", "b", "b")]
    assert [place.__enter__() for place in busy] == [True] * LOOKS_AT_ONCE
    with looks.place(of("gone")) as has_place:
        assert not has_place
    busy[0].__exit__(None, None, None)
    time[0] += LONGEST_PAUSE_SECONDS + 2 * LOOK_RETRY_SECONDS
    with looks.place(of("a")) as has_place:
        assert has_place


def test_one_look_sends_its_requests_at_once_and_reads_only_jobs_of_suites_elsewhere() -> None:
    async def test() -> None:
        world, began = Slow(), now()
        keys = [world.benchmark("host", f"n{number}") for number in range(5)]
        assert await world.wait(keys[0]) is None
        assert now() - began == pytest.approx(LIST_SECONDS)
        assert sorted(world.asked) == ["n0", "n0", "n1", "n2", "n3", "n4"]

    run(test())


def test_all_looks_together_send_a_limited_number_of_requests_at_once() -> None:
    async def test() -> None:
        world = Slow()
        keys = [world.benchmark(f"h{host}", f"n{host}{place}") for host in range(LOOKS_AT_ONCE) for place in range(6)]
        assert await asyncio.gather(*map(world.wait, keys[::6])) == [None] * LOOKS_AT_ONCE
        assert world.most == REQUESTS_AT_ONCE

    run(test())


def test_a_look_that_fails_gives_up_its_place() -> None:
    async def test() -> None:
        world = Slow()
        key, world.error = world.benchmark("host"), ApiError(503, "later")
        for _ in range(2 * LOOKS_AT_ONCE):
            with pytest.raises(ApiError, match="later"):
                await world.wait(key)
        assert world.under_way == 0
        world.error = None
        assert await world.wait(key) is None

    run(test())


def test_a_missing_answer_does_not_discard_the_other_answers() -> None:
    """A client of another namespace runs, and it is unknown whether a client of the benchmark's own namespace runs."""

    async def test() -> None:
        world = Slow()
        mine, _ = world.benchmark("host", "mine"), world.benchmark("host", "other")
        world.error, world.running = ApiError(503, "later"), ("other", "gsm8k")
        wait = await world.wait(mine)
        assert wait
        assert (wait.reason.name, wait.look) == ("WaitingForTurn", LEFTOVER_RETRY_SECONDS)
        # No suite starts while an answer is missing.
        world.running = None
        with pytest.raises(ApiError, match="later"):
            await world.wait(mine)

    run(test())


def test_a_look_reads_only_jobs_of_suites_that_may_run_elsewhere() -> None:
    async def test() -> None:
        world, names = Slow(), [f"suite-{number}" for number in range(16)]
        mine = world.benchmark("host", "mine")
        for number in range(FEW_RIVALS):
            world.benchmark("host", f"n{number}", names, results=[{"name": name} for name in names[:5]])
        assert await world.wait(mine) is None
        read = {name for name in world.names if "suite-" in name}
        assert len(world.asked) == 2 + 2 * FEW_RIVALS
        assert read == {job.name_of(f"n{number}-host", "of-host", name) for number in range(8) for name in names[5:7]}

    run(test())


def test_a_look_reads_the_jobs_of_only_the_first_few_rivals_elsewhere() -> None:
    async def test() -> None:
        world = Slow()
        keys = [world.benchmark("host", f"n{number:04}") for number in range(3000)]
        assert await world.wait(keys[0]) is None
        assert len(world.asked) <= 2 + FEW_RIVALS

    run(test())


class Passes:
    """Passes over benchmarks, at most one at a time for each, with one timer for each and the pauses of `NextSuite`."""

    def __init__(self, world: Slow) -> None:
        self.world = world
        self.count = 0
        self.started: dict[Key, float] = {}
        self._pauses, self._pauses_without_place = Pauses(now), Pauses(now)
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}

    async def run(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while True:
                    key = await self.world.enqueued.get()
                    if key not in self._running and key not in self.started:
                        self._running[key] = asyncio.create_task(self._pass(key))
        except TimeoutError:
            for task in self._running.values():
                task.cancel()
            for timer in self._timers.values():
                timer.cancel()

    async def _pass(self, key: Key) -> None:
        self.count += 1
        if timer := self._timers.pop(key, None):
            timer.cancel()
        wait = await self.world.wait(key)
        del self._running[key]
        if wait is None:
            self.started[key] = now()
            return
        pauses = self._pauses_without_place if wait.lacks_place else self._pauses
        if not wait.lacks_place:
            self._pauses_without_place.forget(key)
        if pause := pauses.next(key, "", wait.look):
            self._timers[key] = asyncio.get_running_loop().call_later(pause, self.world.enqueue, [key])


def test_benchmarks_of_one_namespace_start_as_soon_as_places_become_free() -> None:
    async def test() -> None:
        world = Slow()
        world.list_seconds = SLOW_LIST_SECONDS
        keys = [world.benchmark(f"host-{number}") for number in range(40)]
        world.enqueue(keys)
        passes = Passes(world)
        await passes.run(len(keys) * SLOW_LIST_SECONDS / LOOKS_OF_NAMESPACE + 3)
        assert passes.started.keys() == set(keys)
        assert passes.count < 10 * len(keys)

    run(test())


def test_a_benchmark_that_is_called_but_does_not_ask_lets_the_next_one_ask() -> None:
    called: list[Key] = []
    looks = Looks(lambda: 0.0, called.extend)
    first, second, third, fourth = (Key("a", name, BENCHMARK) for name in ("one", "two", "three", "four"))
    with looks.place(second):
        with looks.place(first):
            for key in (third, fourth):
                with looks.place(key) as has_place:
                    assert not has_place
        assert called == [third]
        looks.forget(third)
        assert called == [third, fourth]
        looks.forget(fourth)
    assert called == [third, fourth]


def test_the_namespace_that_was_turned_away_first_is_called_too() -> None:
    called: list[Key] = []
    looks = Looks(lambda: 0.0, called.extend)
    keys = [Key(namespace, f"{number}", BENCHMARK) for namespace in "ab" for number in range(LOOKS_OF_NAMESPACE)]
    places = [looks.place(key) for key in keys]
    assert [place.__enter__() for place in places] == [True] * LOOKS_AT_ONCE
    for namespace in ("c", "d", "a"):
        with looks.place(of(namespace)) as has_place:
            assert not has_place
    places[0].__exit__(None, None, None)
    assert called == [of("a"), of("c")]


def test_thousands_of_benchmarks_that_cannot_start_cost_few_passes() -> None:
    """A client of an earlier benchmark runs against each target, and each look takes 10 ms."""

    class Busy(Slow):
        def __init__(self) -> None:
            super().__init__()
            self.looks, self.looked = Looks(now, self.enqueue), 0

        async def wait(self, key: Key) -> Wait | None:
            with self.looks.place(key) as has_place:
                if not has_place:
                    return Wait(Reason("WaitingForTurn", ""), look=LOOK_RETRY_SECONDS, lacks_place=True)
                self.looked += 1
                await asyncio.sleep(0.01)
            return Wait(Reason("WaitingForTurn", ""), look=LEFTOVER_RETRY_SECONDS)

    async def test() -> None:
        world = Busy()
        keys = [Key("default", f"of-{number}", BENCHMARK) for number in range(1000)]
        world.enqueue(keys)
        passes = Passes(world)
        await passes.run(60)
        # Each look is a pass and calls one benchmark of its namespace. If nothing calls a benchmark, it tries again
        # after pauses of 5 s and more: at most ten times in a minute, because they grow.
        assert passes.count < 2 * world.looked + 10 * len(keys)

    run(test())
