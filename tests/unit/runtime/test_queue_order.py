"""The order of keys: no source and no namespace delays another. Time is the loop's own."""

import asyncio

import pytest

from fast_loop import run
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.runtime.order import MOST_SOURCES, PROGRESS
from kimi_linear_operator.runtime.queue import WorkQueue
from kimi_linear_operator.runtime.work import WORKERS
from kimi_linear_operator.server.spec import SERVER
from unit.runtime.working import A, B, C, recorder, worked


def many(namespace: str, count: int = 40) -> list[Key]:
    return [Key(namespace, str(number), SERVER) for number in range(count)]


async def begun(queue: WorkQueue, hanging: set[str], seconds: float = 1) -> list[Key]:
    """Let all workers work for this time while passes of some namespaces hang. Return the keys that they began."""
    begun = list[Key]()

    async def work(key: Key, _: int) -> None:
        begun.append(key)
        if key.namespace in hanging:
            await asyncio.sleep(10)

    await worked(queue, work, seconds, WORKERS)
    return begun


def test_a_namespace_whose_passes_all_hang_delays_no_other() -> None:
    """This is true for a key that is added at the same time, and for a key that is added later."""

    async def test() -> None:
        queue = WorkQueue()
        for key in (*many("slow"), A):
            queue.add(key)
        asyncio.get_running_loop().call_later(0.5, queue.add, B)
        found = await begun(queue, {"slow"})
        assert {A, B} <= set(found)
        assert len(found) == WORKERS // 2 + 2

    run(test())


def test_waiting_keys_of_a_namespace_keep_their_order_and_are_worked_on_at_last() -> None:
    async def test() -> None:
        queue, slow, quick = WorkQueue(), many("slow"), many("quick", 1000)
        for key in (*slow, *quick):
            queue.add(key)
        found = await begun(queue, {"slow"}, seconds=10 * len(slow))
        assert [key for key in found if key.namespace == "slow"] == slow
        assert [key for key in found if key.namespace == "quick"] == quick

    run(test())


def test_three_namespaces_whose_passes_all_hang_leave_workers_to_the_rest() -> None:
    async def test() -> None:
        queue, slow = WorkQueue(), {"slow-1", "slow-2", "slow-3"}
        for namespace in sorted(slow):
            for key in many(namespace):
                queue.add(key)
        queue.add(A)
        asyncio.get_running_loop().call_later(0.5, queue.add, B)
        assert {A, B} <= set(await begun(queue, slow))

    run(test())


def test_a_namespace_that_is_alone_has_all_workers() -> None:
    async def test() -> None:
        queue = WorkQueue(is_shared=False)
        for key in many("slow"):
            queue.add(key)
        assert len(await begun(queue, {"slow"})) == WORKERS

    run(test())


def test_a_key_that_moves_up_while_its_namespace_waits_is_worked_on_once() -> None:
    async def test() -> None:
        queue, slow = WorkQueue(), many("slow", 30)
        for key in slow:
            queue.add(key, "gitops")
        loop = asyncio.get_running_loop()
        for _ in range(3):
            loop.call_later(0.5, queue.add, slow[-1], "kubectl")
        found = await begun(queue, {"slow"}, seconds=100)
        assert slow[-1] in found[WORKERS // 2 : WORKERS // 2 + 2]
        assert sorted(found) == sorted(slow)

    run(test())


def test_a_source_with_a_few_keys_does_not_wait_for_a_source_with_thousands() -> None:
    async def test() -> None:
        queue, done = WorkQueue(), list[Key]()
        many = [Key("many", str(number), SERVER) for number in range(1000)]
        for key in many:
            queue.add(key, "gitops")

        async def work(key: Key, _: int) -> None:
            done.append(key)
            if key == many[400]:
                queue.add(A, "kubectl")
                queue.add(B, "kubectl")
                queue.add(C)

        await worked(queue, work, seconds=1)
        assert done == [*many[:402], A, C, many[402], B, *many[403:]]

    run(test())


@pytest.mark.parametrize(
    ("keys", "passes"), [([A], [A]), ([A, B, C], [A, B, C, A, B, C])], ids=["alone", "with others"]
)
def test_a_key_is_postponed_only_if_others_wait(keys: list[Key], passes: list[Key]) -> None:
    async def test() -> None:
        queue, done = WorkQueue(), list[Key]()

        async def work(key: Key, _: int) -> None:
            done.append(key)
            if done.count(key) == 1:
                queue.postpone(key)

        for key in keys:
            queue.add(key, "bulk")
        await worked(queue, work, seconds=1)
        assert done == passes

    run(test())


def test_progress_waits_for_eight_other_keys_but_never_for_all_of_them() -> None:
    async def test() -> None:
        queue, done = WorkQueue(), list[Key]()
        progress, new = ([Key(kind, str(number), SERVER) for number in range(24)] for kind in ("progress", "new"))
        for key in progress:
            queue.add(key, PROGRESS)
        for key in new:
            queue.add(key, "bulk")
        await worked(queue, recorder(done), seconds=1)
        assert [key.namespace for key in done[:27]] == (["new"] * 7 + ["progress"] + ["new"]) * 3
        assert len(done) == 48

    run(test())


def test_keys_added_one_by_one_never_fall_behind_however_slow_the_work_is() -> None:
    async def test() -> None:
        queue, behind, people = WorkQueue(), list[int](), list[Key]()

        async def work(key: Key, _: int) -> None:
            await asyncio.sleep(10)
            if key.namespace == "people":
                behind.append(len(people) - int(key.name))

        async def ask() -> None:
            for number in range(20):
                await asyncio.sleep(95)
                people.append(Key("people", str(number), SERVER))
                queue.add(people[-1], "kubectl")

        for number in range(1000):
            queue.add(Key("many", str(number), SERVER), "gitops")
        asking = asyncio.create_task(ask())
        await worked(queue, work, seconds=2000)
        await asking
        assert behind == [1] * 20

    run(test())


def test_a_source_neither_saves_turns_nor_owes_them() -> None:
    async def test() -> None:
        queue, done = WorkQueue(), list[Key]()
        for key in (A, B, C):
            queue.add(key, "kubectl")
        await worked(queue, recorder(done), seconds=1)
        places = [queue._turns.take_place(A.namespace, source, None) for source in ("kubectl", "gitops")]
        assert places == [4, 4]

    run(test())


def test_a_namespace_gets_no_more_turns_by_writing_under_many_names() -> None:
    async def test() -> None:
        queue, done = WorkQueue(), list[Key]()
        for number in range(1000):
            queue.add(Key("greedy", str(number), SERVER), f"manager-{number}")
        queue.add(Key("modest", "kimi", SERVER), "kubectl")
        await worked(queue, recorder(done), seconds=1)
        assert done.index(Key("modest", "kimi", SERVER)) <= MOST_SOURCES + 1

    run(test())


def test_bulk_work_of_one_namespace_delays_no_other() -> None:
    async def test() -> None:
        queue, done = WorkQueue(), list[Key]()
        for number in range(1000):
            queue.add(Key("greedy", str(number), SERVER), "bulk")
        queue.add(Key("modest", "kimi", SERVER), "bulk")
        await worked(queue, recorder(done), seconds=1)
        assert done.index(Key("modest", "kimi", SERVER)) == 1

    run(test())


def test_a_key_that_becomes_urgent_moves_up_and_is_still_worked_on_once() -> None:
    async def test() -> None:
        queue, done = WorkQueue(), list[Key]()
        for key in (A, B, C):
            queue.add(key, "gitops")
        queue.add(C, "kubectl")
        queue.add(C, "gitops")
        await worked(queue, recorder(done), seconds=1)
        assert done == [A, C, B]

    run(test())
