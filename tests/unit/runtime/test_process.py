"""Thousands of passes without work do not delay other tasks, especially not the renewal of the Lease."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from kimi_linear_operator import clock
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import POD
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.reconcile.resource_type import Options
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime import process, work
from kimi_linear_operator.runtime.intake import Intake
from kimi_linear_operator.runtime.process import Operator
from kimi_linear_operator.runtime.queue import SHORTEST_SECONDS
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_pod, make_server
from passes import READER

SERVERS = 500
PASS_SECONDS = 0.002


@dataclass
class BusyReconciler:
    """Makes passes that only compute."""

    done: list[Key] = field(default_factory=list)

    async def run(self, _: Callable[[], bool], __: Callable[[], Sequence[str]]) -> None:
        pass

    async def reconcile(self, key: Key, _: int) -> None:
        begin = time.monotonic()
        while time.monotonic() < begin + PASS_SECONDS:
            pass
        self.done.append(key)


class Anything:
    """A client for passes that send no requests. It notes what passes wait for after every answer."""

    def __init__(self) -> None:
        self.turns: list[Callable[[], Awaitable[None]]] = []

    def fenced(self, _: object) -> "Anything":
        return self

    def in_turns(self, turn: Callable[[], Awaitable[None]]) -> "Anything":
        self.turns.append(turn)
        return self


def test_passes_wait_for_their_turn_after_every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "reconcilers", lambda *_, **__: dict.fromkeys(TYPES, BusyReconciler()))

    async def test() -> None:
        anything: Any = Anything()
        working = Operator(anything, anything, namespaces=[], types=TYPES, options=Options())
        task = asyncio.ensure_future(working._work())
        await asyncio.sleep(0.01)
        assert anything.turns == [working.work.turn]
        task.cancel()

    asyncio.run(test())


def test_other_tasks_of_the_event_loop_run_between_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    reconciler = BusyReconciler()
    monkeypatch.setattr(work, "reconcilers", lambda *_, **__: dict.fromkeys(TYPES, reconciler))

    async def test() -> list[int]:
        anything: Any = Anything()
        working = Operator(anything, anything, namespaces=[], types=TYPES, options=Options())
        for number in range(SERVERS):
            working.cache.put(SERVER, make_server(f"kimi-{number}"))
        for scope in working.scopes:
            working.scopes.succeed(scope, 0)
        task = asyncio.ensure_future(working._work())
        between = []
        while len(reconciler.done) < SERVERS:
            before = len(reconciler.done)
            await asyncio.sleep(0)
            between.append(len(reconciler.done) - before)
        task.cancel()
        return between

    assert max(asyncio.run(test())) <= work.WORKERS


def test_no_pass_runs_before_the_state_of_its_resource_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    reconciler = BusyReconciler()
    monkeypatch.setattr(work, "reconcilers", lambda *_, **__: dict.fromkeys(TYPES, reconciler))

    async def test() -> None:
        anything: Any = Anything()
        working = Operator(anything, anything, namespaces=["default", "other"], types=TYPES, options=Options())
        working.cache.put(SERVER, make_server())
        for scope in (scopes := list(working.scopes))[1:]:
            working.scopes.succeed(scope, 0)
        task = asyncio.ensure_future(working._work())
        await asyncio.sleep(0.1)
        assert reconciler.done == []
        working.scopes.succeed(scopes[0], 0)
        working._enqueue_listed(scopes[0], set(), True)
        await asyncio.sleep(0.1)
        assert reconciler.done == [Key("default", "kimi", SERVER)]
        task.cancel()

    asyncio.run(test())


def test_benchmarks_wait_until_everything_was_read_and_servers_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The turn of a benchmark depends on benchmarks of all namespaces; a server does not depend on other namespaces."""
    reconciler = BusyReconciler()
    monkeypatch.setattr(work, "reconcilers", lambda *_, **__: dict.fromkeys(TYPES, reconciler))
    monkeypatch.setattr(work, "READ_AGAIN_SECONDS", SHORTEST_SECONDS)

    async def test() -> None:
        anything: Any = Anything()
        working = Operator(anything, anything, namespaces=["default", "other"], types=TYPES, options=Options())
        for kind, manifest in ((SERVER, make_server()), (BENCHMARK, make_benchmark("nightly"))):
            working.cache.put(kind, manifest)
        for scope in (scopes := list(working.scopes))[:-1]:
            working.scopes.succeed(scope, 0)
        assert scopes[-1].namespace == "other"
        task = asyncio.ensure_future(working._work())
        await asyncio.sleep(0.1)
        assert reconciler.done == [Key("default", "kimi", SERVER)]
        working.scopes.succeed(scopes[-1], 0)
        await asyncio.sleep(SHORTEST_SECONDS + 0.1)
        assert reconciler.done == [Key("default", "kimi", SERVER), Key("default", "nightly", BENCHMARK)]
        task.cancel()

    asyncio.run(test())


@dataclass
class Terms:
    """Leads at once, for a given number of terms."""

    left: int
    is_untouched: bool
    restored: Callable[[], None] = lambda: None
    done: list[str] = field(default_factory=list)

    async def look_first(self) -> None:
        await asyncio.sleep(0.01)
        self.done.append("look")

    async def acquire(self) -> bool:
        await asyncio.sleep(0)
        is_untouched, self.is_untouched = self.is_untouched, False
        return is_untouched

    async def hold(self, work: Coroutine[None, None, None]) -> bool:
        await work
        await asyncio.sleep(0.1)
        self.left -= 1
        return self.left == 0

    async def release(self) -> None:
        pass


def led(monkeypatch: pytest.MonkeyPatch, terms: Terms, meanwhile: Callable[[], None] = lambda: None) -> list[str]:
    """Return what a replica does that has read everything, and then leads for these terms.

    Args:
        monkeypatch: Replaces the work by notes.
        terms: The terms.
        meanwhile: Called before the first term.
    """

    async def lead() -> list[str]:
        leader: Any = terms
        working, done = Operator(leader, leader, namespaces=[], types=TYPES, options=Options()), list[str]()

        async def note(what: str) -> None:
            done.append(what)

        monkeypatch.setattr(working, "_work", lambda: note("work"))
        monkeypatch.setattr(working.lists, "relist_all", lambda: done.append("list"))
        monkeypatch.setattr(working.watch, "restart", lambda: done.append("watch"))
        for scope in working.scopes:
            working.scopes.succeed(scope, 0)
        meanwhile()
        await working.lead()
        return done

    return asyncio.run(lead())


@pytest.mark.parametrize("is_untouched", [True, False])
def test_a_new_term_lists_everything_unless_no_other_replica_can_have_led(
    monkeypatch: pytest.MonkeyPatch, is_untouched: bool
) -> None:
    done = led(monkeypatch, Terms(left=3, is_untouched=is_untouched))
    assert done == [*(["work"] if is_untouched else ["list", "work"]), "list", "work", "list", "work"]


@pytest.mark.parametrize(("seconds", "expected"), [(1.0, ["work"]), (3600.0, ["watch", "list", "work"])])
def test_a_replica_that_was_suspended_watches_and_lists_everything_again(
    monkeypatch: pytest.MonkeyPatch, seconds: float, expected: list[str]
) -> None:
    """No other replica has worked, but the watches may hang on connections that ended long ago."""
    suspended = [50.0]
    monkeypatch.setattr(clock, "suspended_seconds", lambda: suspended[0])

    def suspend() -> None:
        suspended[0] += seconds

    assert led(monkeypatch, Terms(left=1, is_untouched=True), suspend) == expected


def test_a_bug_in_other_work_of_a_reconciler_does_not_end_that_work_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, for example, automatic rollouts would stop until the next restart, and nothing would say so."""

    class Buggy(BusyReconciler):
        async def run(self, _: Callable[[], bool], __: Callable[[], Sequence[str]]) -> None:
            await asyncio.sleep(0.05)
            raise ValueError("a bug")

    monkeypatch.setattr(work, "reconcilers", lambda *_, **__: dict.fromkeys(TYPES, Buggy()))

    async def test() -> None:
        anything: Any = Anything()
        working = Operator(anything, anything, namespaces=[], types=TYPES, options=Options())
        with pytest.raises(ExceptionGroup):
            await asyncio.wait_for(working._work(), 5)

    asyncio.run(test())


def test_work_ends_when_its_queue_is_closed_although_the_other_work_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    class Endless(BusyReconciler):
        async def run(self, _: Callable[[], bool], __: Callable[[], Sequence[str]]) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("other work")

    monkeypatch.setattr(work, "reconcilers", lambda *_, **__: dict.fromkeys(TYPES, Endless()))

    async def test() -> None:
        anything: Any = Anything()
        working = Operator(anything, anything, namespaces=[], types=TYPES, options=Options())
        task = asyncio.ensure_future(working._work())
        await asyncio.sleep(0.1)
        assert working.work.close()
        await asyncio.wait_for(task, 5)
        assert ended == ["other work"] * len(TYPES)

    asyncio.run(test())


def test_the_lease_is_read_before_anything_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        leader: Any = Terms(left=1, is_untouched=True)
        working = Operator(leader, leader, namespaces=[], types=TYPES, options=Options())

        async def run() -> None:
            leader.done.append("list")

        monkeypatch.setattr(working.lists, "run", run)
        await working._keep_listed()
        assert leader.done == ["look", "list"]

    asyncio.run(test())


def test_after_a_restored_backup_all_objects_are_forgotten_listed_and_watched_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        anything: Any = Anything()
        working = Operator(anything, anything, namespaces=[], types=TYPES, options=Options())
        restarts = list[bool]()
        monkeypatch.setattr(working.watch, "restart", lambda: restarts.append(True))
        working.cache.put(SERVER, make_server())
        for scope in working.scopes:
            working.scopes.begin(scope, 0)
            working.scopes.succeed(scope, 0)
        anything.restored()
        assert working.cache.resources() == []
        assert not working.scopes.is_anything_read()
        assert all(event.is_set() for event in working.lists._due.values())
        assert restarts == [True]

    asyncio.run(test())


def test_an_object_that_the_cache_cannot_take_is_skipped_and_the_rest_continues() -> None:
    taken, skipped = list[CachedObject](), list[Key]()
    odd, pod = (READER.read(POD, make_pod(name)) for name in ("odd", "kimi-0"))

    class Fragile(Cache):
        def take(self, found: CachedObject) -> set[Key]:
            if found is odd:
                raise KeyError("uid")
            return super().take(found)

    async def test() -> None:
        intake = Intake(Fragile(TYPES), lambda changed, *_, **__: taken.append(changed), skipped.append)
        running = asyncio.create_task(intake.run())
        intake.add(odd)
        intake.add(pod)
        await asyncio.sleep(0.1)
        running.cancel()

    asyncio.run(test())
    assert (taken, skipped) == ([pod], [odd.key])


def test_the_process_ends_even_if_kopf_does_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "STOP_SECONDS", 0.1)
    hung = threading.Event()

    async def test() -> None:
        leader: Any = Terms(left=1, is_untouched=True)
        working = Operator(leader, leader, namespaces=[], types=TYPES, options=Options())
        monkeypatch.setattr(working.watch, "run", hung.wait)
        monkeypatch.setattr(working.lists, "run", asyncio.Event().wait)
        stop = asyncio.Event()
        running = asyncio.create_task(working.run(stop))
        await asyncio.sleep(0.1)
        stop.set()
        await asyncio.wait_for(running, 5)

    try:
        # The end of the process also waits for the threads of the loop's executor.
        asyncio.run(test())
    finally:
        hung.set()
    assert "kopf did not end within" in caplog.text


def test_a_watch_that_fails_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise MemoryError

    async def test() -> None:
        leader: Any = Terms(left=1, is_untouched=True)
        working = Operator(leader, leader, namespaces=[], types=TYPES, options=Options())
        monkeypatch.setattr(working.watch, "run", fail)
        monkeypatch.setattr(working.lists, "run", asyncio.Event().wait)
        with pytest.raises(ExceptionGroup):
            await working.run(asyncio.Event())

    asyncio.run(test())
