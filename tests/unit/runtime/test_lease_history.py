"""The operator's conclusions from a Lease.

It finds out whether a backup was restored, and whether another replica can have led.
"""

import asyncio
from collections.abc import Callable

import pytest

from fast_loop import now, run
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.runtime.leader import LOOK_SECONDS, RENEW_SECONDS, NotLeadingError
from kimi_linear_operator.runtime.seen_lease import LEASE_SECONDS
from unit.runtime.leases import Leases, Line, cluster_behind, lead_forever, leader, work_forever

Happens = Callable[[Leases], object]


def nothing(_: Leases) -> None:
    pass


def lead_and_give_back(leases: Leases) -> None:
    """Let another replica lead for a while."""
    spec = {"holderIdentity": "c", "leaseDurationSeconds": LEASE_SECONDS}
    metadata = leases.lease["metadata"] if leases.lease else {}
    taken = leases.write({"metadata": metadata, "spec": spec})
    leases.write({**taken, "spec": {"holderIdentity": "", "leaseDurationSeconds": 1}})


@pytest.mark.parametrize("version", [1, 9])
def test_a_lease_older_than_before_reveals_a_restored_backup(version: int) -> None:
    async def test() -> None:
        leases, restored = Leases(), list[float]()
        first, second = leader("first", Line(leases)), leader("second", Line(leases))
        second.restored = lambda: restored.append(now())
        await first.acquire()
        waiting = asyncio.ensure_future(second.acquire())
        await first.hold(asyncio.sleep(7))
        assert leases.lease
        assert restored == []
        metadata = {**leases.lease["metadata"], "resourceVersion": str(version)}
        leases.lease, leases.version = {**leases.lease, "metadata": metadata}, version
        await asyncio.sleep(2 * LOOK_SECONDS)
        assert len(restored) == (version == 1)
        waiting.cancel()

    run(test())


def _restores_noticed_by_a_waiting_replica(renewals_between: int, count: int) -> list[float]:
    """Show an earlier version of the Lease some times, as a proxy does that caches answers.

    In between, show some renewals. Return the times at which a waiting replica starts over.
    """

    async def show(leases: Leases, version: int) -> None:
        assert leases.lease
        leases.lease = {**leases.lease, "metadata": {**leases.lease["metadata"], "resourceVersion": str(version)}}
        await asyncio.sleep(1.5 * LOOK_SECONDS)

    async def test() -> None:
        leases = Leases()
        await leader("first", Line(leases)).acquire()
        second = leader("second", Line(leases))
        second.restored = lambda: restored.append(now())
        waiting = asyncio.ensure_future(second.acquire())
        for number in range(count):
            for version in range(renewals_between):
                await show(leases, 1000 * (number + 1) + version)
            await show(leases, 500)
        waiting.cancel()

    restored: list[float] = []
    run(test())
    return restored


def test_a_waiting_replica_that_sees_older_leases_again_and_again_starts_over_less_and_less_often() -> None:
    first, *later = _restores_noticed_by_a_waiting_replica(1, 400)
    assert [round(moment - first, -1) for moment in later] == [60, 180, 420, 900]


def test_a_waiting_replica_notices_each_of_several_restores_that_are_far_apart() -> None:
    assert len(_restores_noticed_by_a_waiting_replica(200, 5)) == 5


def test_a_replica_writes_nothing_while_it_could_not_renew_its_lease() -> None:
    """An API server that answers again may have been restored. The Lease shows this, so it is read first."""

    async def test() -> None:
        line = Line(Leases())
        replica = leader("a", line)
        await replica.acquire()
        holding = asyncio.ensure_future(replica.hold(work_forever()))
        await asyncio.sleep(RENEW_SECONDS + 0.1)
        assert replica.write_seconds() > 0
        line.error = ApiError(503, "etcd is away")
        await asyncio.sleep(RENEW_SECONDS)
        assert replica.is_leading
        with pytest.raises(NotLeadingError, match="could not renew"):
            replica.write_seconds()
        line.error = None
        await asyncio.sleep(2)
        assert replica.write_seconds() > 0
        holding.cancel()

    run(test())


@pytest.mark.parametrize("holder", ["", "b"])
def test_two_replicas_never_lead_at_once_after_a_backup_with_another_holder(holder: str) -> None:
    async def test() -> None:
        leases, terms = Leases(), list[tuple[str, float]]()
        slow, b = leader("a", Line(leases)), leader("b", Line(leases))
        await b.acquire()
        if not holder:
            await b.release()
        backup, version = leases.lease, leases.version
        await b.release()
        first = asyncio.create_task(lead_forever(slow, terms))
        await asyncio.sleep(LOOK_SECONDS + 1)
        second = asyncio.create_task(lead_forever(b, terms))
        await asyncio.sleep(30)
        assert slow.is_leading
        leases.lease, leases.version = backup, version
        slow.cluster = cluster_behind(Line(leases, answer_seconds=2.0))
        for _ in range(1000):
            await asyncio.sleep(0.05)
            assert [slow.is_leading, b.is_leading] != [True, True]
        assert True in [slow.is_leading, b.is_leading]
        first.cancel()
        second.cancel()

    run(test())


@pytest.mark.parametrize(
    ("before", "meanwhile", "is_untouched"),
    [
        (nothing, nothing, True),
        (lead_and_give_back, nothing, True),
        (nothing, lead_and_give_back, False),
        (lead_and_give_back, lead_and_give_back, False),
    ],
    ids=["no Lease", "a released Lease", "no Lease, then a leader", "a released Lease, then a leader"],
)
def test_a_replica_knows_whether_another_can_have_led_since_its_first_look(
    before: Happens, meanwhile: Happens, is_untouched: bool
) -> None:
    async def test() -> None:
        leases = Leases()
        before(leases)
        a = leader("a", Line(leases))
        await a.look_first()
        await asyncio.sleep(60)
        meanwhile(leases)
        assert await a.acquire() == is_untouched
        assert not await a.hold(_lose(leases))
        leases.lease, leases.version = None, 0
        assert not await a.acquire(), "another replica held the Lease"

    run(test())


async def _lose(leases: Leases) -> None:
    assert leases.lease
    leases.write({**leases.lease, "spec": {**leases.lease["spec"], "holderIdentity": "c"}})
    await work_forever()


def cut(line: Line) -> None:
    line.is_cut = True


def answer_late(line: Line) -> None:
    """Store every write, but answer only when the client no longer waits."""
    line.answer_seconds = 60


def refuse(line: Line) -> None:
    line.error = ApiError(503, "etcd is away")


@pytest.mark.parametrize("fail", [cut, answer_late, refuse])
def test_a_replica_that_could_not_renew_its_lease_knows_that_no_other_held_it(
    fail: Callable[[Line], None],
) -> None:
    """Otherwise it would list everything in each term, and never finish if lists take longer than a term."""

    async def test() -> None:
        line = Line(Leases())
        a = leader("a", line)
        await a.acquire()
        for _ in range(3):
            fail(line)
            assert not await a.hold(work_forever())
            await asyncio.sleep(20)
            line.is_cut, line.answer_seconds, line.error = False, 0.0, None
            assert await a.acquire()
            await a.hold(asyncio.sleep(20))

    run(test())


def relabel(leases: Leases) -> None:
    """Somebody changes the Lease without taking it."""
    assert leases.lease
    leases.write({**leases.lease, "metadata": {**leases.lease["metadata"], "labels": {"team": "a"}}})


def delete(leases: Leases) -> None:
    leases.lease, leases.version = None, 0


def hand_round(leases: Leases) -> None:
    """Another replica takes the lease, and somebody restores the Lease's earlier contents."""
    before = leases.lease
    lead_and_give_back(leases)
    assert leases.lease
    assert before
    leases.write({"metadata": leases.lease["metadata"], "spec": {**before["spec"], "leaseTransitions": 7}})


@pytest.mark.parametrize(
    ("meanwhile", "is_untouched"),
    [(nothing, True), (relabel, True), (lead_and_give_back, False), (delete, False), (hand_round, False)],
)
def test_a_replica_knows_whether_another_can_have_led_since_its_last_term(
    meanwhile: Happens, is_untouched: bool
) -> None:
    async def test() -> None:
        leases = Leases()
        line = Line(leases)
        a = leader("a", line)
        await a.acquire()
        line.is_cut = True
        assert not await a.hold(work_forever())
        meanwhile(leases)
        line.is_cut = False
        assert await a.acquire() == is_untouched
        await a.hold(asyncio.sleep(20))
        line.is_cut = True
        assert not await a.hold(work_forever())
        line.is_cut = False
        assert await a.acquire(), "in the next term, only the last term counts"

    run(test())


def test_a_first_look_that_failed_or_saw_a_leader_proves_nothing() -> None:
    async def test() -> None:
        leases, line = Leases(), Line(Leases(), error=ApiError(503, "later"))
        held, failed = leader("b", Line(leases)), leader("c", line)
        a = leader("a", Line(leases))
        await a.acquire()
        await asyncio.gather(held.look_first(), failed.look_first())
        await a.release()
        line.error = None
        assert not await held.acquire()
        assert not await failed.acquire()

    run(test())


def test_a_lease_from_a_backup_does_not_count_as_expired() -> None:
    """Between its first and its second read of the Lease, a replica lists everything."""

    async def test() -> None:
        leases = Leases()
        a, b = leader("a", Line(leases)), leader("b", Line(leases))
        await a.acquire()
        backup, version = leases.lease, leases.version
        await b.look_first()
        await a.hold(asyncio.sleep(60))
        leases.lease, leases.version = backup, version
        began = now()
        await b.acquire()
        assert now() - began >= LEASE_SECONDS

    run(test())
