"""Who leads, and that never two do. Time is the loop's own; the API server here only injects faults."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from fast_loop import now, run
from kimi_linear_operator import clock
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.runtime.leader import (
    LOOK_SECONDS,
    RENEW_SECONDS,
    TRUST_SECONDS,
    Leader,
    NotLeadingError,
)
from kimi_linear_operator.runtime.seen_lease import LEASE_SECONDS


@dataclass
class Leases:
    """Keeps one Lease as the API server does: a write on top of an outdated version is a conflict."""

    lease: Manifest | None = None
    version: int = 0

    def write(self, manifest: Manifest) -> Manifest:
        expected = manifest["metadata"].get("resourceVersion", "0" if self.lease is None else "none")
        if expected != str(self.version):
            raise ApiError(409, "conflict")
        self.version += 1
        self.lease = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self.version)}}
        return self.lease


@dataclass
class Line:
    """A replica's way to the Leases. It can be slow, be cut, and lose answers."""

    leases: Leases
    is_cut: bool = False
    answer_seconds: float = 0.0
    error: ApiError | None = None
    chaos: random.Random | None = None
    requests: list[float] = field(default_factory=list)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        await self._travel()
        found = self.leases.lease
        await self._travel()
        await asyncio.sleep(self.answer_seconds)
        return found

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self.replace(kind, manifest)

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        await self._travel()
        written = self.leases.write(manifest)
        await self._travel()
        await asyncio.sleep(self.answer_seconds)
        return written

    async def _travel(self) -> None:
        self.requests.append(now())
        if self.is_cut:
            await asyncio.sleep(3600)
        if self.error:
            raise self.error
        if self.chaos:
            await asyncio.sleep(self.chaos.choice((0, 0.01, 1, 4, 7)))
            if self.chaos.random() < 0.15:
                raise ApiError(0, "no answer")


def leader(name: str, line: Line) -> Leader:
    return Leader(_cluster(line), "default", "lease", name, clock=now)


def _cluster(line: Line) -> Cluster:
    stand_in: Any = line
    return stand_in  # type: ignore[no-any-return]


async def work_forever() -> None:
    await asyncio.sleep(3600)


Happens = Callable[[Leases], object]


def nothing(_: Leases) -> None:
    pass


def lead_and_give_back(leases: Leases) -> None:
    """Another replica works for a while."""
    spec = {"holderIdentity": "c", "leaseDurationSeconds": LEASE_SECONDS}
    metadata = leases.lease["metadata"] if leases.lease else {}
    taken = leases.write({"metadata": metadata, "spec": spec})
    leases.write({**taken, "spec": {"holderIdentity": "", "leaseDurationSeconds": 1}})


async def lead_forever(replica: Leader, terms: list[tuple[str, float]]) -> None:
    while True:
        await replica.acquire()
        terms.append((replica.identity, now()))
        await replica.hold(work_forever())


def test_the_first_one_leads_and_the_second_one_waits() -> None:
    async def test() -> None:
        leases, terms = Leases(), list[tuple[str, float]]()
        a, b = leader("a", Line(leases)), leader("b", Line(leases))
        async with asyncio.timeout(300):
            first = asyncio.create_task(lead_forever(a, terms))
            await asyncio.sleep(0.1)
            second = asyncio.create_task(lead_forever(b, terms))
            await asyncio.sleep(200)
        assert [name for name, _ in terms] == ["a"]
        assert a.is_leading
        assert not b.is_leading
        first.cancel()
        second.cancel()

    run(test())


def test_a_lease_that_is_given_back_is_taken_at_once() -> None:
    async def test() -> None:
        leases, terms = Leases(), list[tuple[str, float]]()
        a, b = leader("a", Line(leases)), leader("b", Line(leases))
        await a.acquire()
        waiting = asyncio.create_task(lead_forever(b, terms))
        await asyncio.sleep(5)
        await a.release()
        released = now()
        await asyncio.sleep(5)
        assert terms[0][1] - released <= LOOK_SECONDS + 0.1
        assert not a.is_leading
        waiting.cancel()

    run(test())


def test_a_lease_runs_out_when_a_write_may_still_be_committed_as_its_holder_stops() -> None:
    async def test() -> None:
        leases, terms = Leases(), list[tuple[str, float]]()
        a, b = leader("a", Line(leases)), leader("b", Line(leases))
        await a.acquire()
        waiting = asyncio.create_task(lead_forever(b, terms))
        await asyncio.sleep(5)
        a._pending.begin(clock.seconds() + 60)
        await a.release()
        assert leases.lease
        assert leases.lease["spec"]["holderIdentity"] == "a"
        await asyncio.sleep(LEASE_SECONDS)
        assert terms[0][1] >= LEASE_SECONDS
        waiting.cancel()

    run(test())


def test_a_replica_that_is_cut_off_stops_before_the_next_one_begins() -> None:
    async def test() -> None:
        leases, terms = Leases(), list[tuple[str, float]]()
        line = Line(leases)
        a, b = leader("a", line), leader("b", Line(leases))
        await a.acquire()
        holding = asyncio.create_task(a.hold(work_forever()))
        await asyncio.sleep(1)
        waiting = asyncio.create_task(lead_forever(b, terms))
        await asyncio.sleep(20)
        line.is_cut, cut = True, now()
        assert not await holding
        stopped = now() - cut
        await asyncio.sleep(20)
        assert stopped <= TRUST_SECONDS + 0.1
        assert stopped >= TRUST_SECONDS - 3.1
        assert LEASE_SECONDS - 3.1 <= terms[0][1] - cut <= LEASE_SECONDS + LOOK_SECONDS + 0.1
        waiting.cancel()

    run(test())


def test_trust_counts_from_before_the_lease_was_asked_for() -> None:
    """The API server may have carried out a renewal long before its answer arrived; others count from then."""

    async def test() -> None:
        leases = Leases()
        line = Line(leases, answer_seconds=4.0)
        a = leader("a", line)
        await a.acquire()
        # Two requests, of which the second was the write.
        asked = line.requests[-2]
        assert now() - asked == pytest.approx(4.0, abs=0.1)
        assert a.write_seconds() + now() == pytest.approx(asked + LEASE_SECONDS, abs=0.1)
        await asyncio.sleep(asked + TRUST_SECONDS - now() + 0.1)
        assert not a.is_leading

    run(test())


def test_the_last_write_of_a_replica_ends_before_the_next_one_leads() -> None:
    async def test() -> None:
        leases, terms = Leases(), list[tuple[str, float]]()
        line = Line(leases)
        a, b = leader("a", line), leader("b", Line(leases))
        await a.acquire()
        waiting = asyncio.create_task(lead_forever(b, terms))
        await asyncio.sleep(0.1)
        last_write_ends = 0.0
        while not terms:
            if a.is_leading:
                last_write_ends = now() + a.write_seconds()
            await asyncio.sleep(0.01)
        assert 0 < last_write_ends <= terms[0][1]
        waiting.cancel()

    run(test())


def test_who_does_not_lead_may_not_write() -> None:
    async def test() -> None:
        a = leader("a", Line(Leases()))
        with pytest.raises(NotLeadingError, match="does not hold the lease"):
            a.write_seconds()
        await a.acquire()
        assert a.write_seconds() == pytest.approx(LEASE_SECONDS, abs=0.1)
        await asyncio.sleep(TRUST_SECONDS - 0.1)
        assert a.write_seconds() == pytest.approx(LEASE_SECONDS - TRUST_SECONDS, abs=0.2)
        await asyncio.sleep(0.2)
        with pytest.raises(NotLeadingError):
            a.write_seconds()

    run(test())


def test_a_lease_that_somebody_else_took_is_lost_at_once() -> None:
    async def test() -> None:
        leases = Leases()
        a = leader("a", Line(leases))
        await a.acquire()
        holding = asyncio.create_task(a.hold(work_forever()))
        await asyncio.sleep(1)
        assert leases.lease
        spec = {**leases.lease["spec"], "holderIdentity": "admin"}
        leases.write({**leases.lease, "spec": spec})
        before = now()
        assert not await holding
        assert now() - before <= 3.1
        assert not a.is_leading

    run(test())


def test_a_deleted_lease_is_made_again() -> None:
    async def test() -> None:
        leases, terms = Leases(), list[tuple[str, float]]()
        leading = asyncio.create_task(lead_forever(leader("a", Line(leases)), terms))
        await asyncio.sleep(1)
        leases.lease, leases.version = None, 0
        await asyncio.sleep(10)
        assert [name for name, _ in terms] == ["a", "a"]
        leading.cancel()

    run(test())


def delete(leases: Leases) -> None:
    leases.lease, leases.version = None, 0


def hand_to_b(leases: Leases) -> None:
    assert leases.lease
    leases.write({**leases.lease, "spec": {**leases.lease["spec"], "holderIdentity": "b"}})


def clear(leases: Leases) -> None:
    assert leases.lease
    leases.write({**leases.lease, "spec": {}})


@pytest.mark.parametrize("tamper", [delete, hand_to_b, clear])
def test_a_lease_that_somebody_deletes_or_rewrites_makes_no_second_leader(tamper: Callable[[Leases], None]) -> None:
    """Whether the holder notices, or is cut off at that moment."""

    async def test() -> None:
        for is_cut in (False, True):
            leases, terms = Leases(), list[tuple[str, float]]()
            line = Line(leases)
            a, b = leader("a", line), leader("b", Line(leases))
            leading = asyncio.create_task(lead_forever(a, terms))
            await asyncio.sleep(1)
            waiting = asyncio.create_task(lead_forever(b, terms))
            await asyncio.sleep(20)
            line.is_cut, may_write_until = is_cut, dict[str, float]()
            tamper(leases)
            for _ in range(400):
                await asyncio.sleep(0.1)
                for replica in (a, b):
                    with suppress(NotLeadingError):
                        may_write_until[replica.identity] = now() + replica.write_seconds()
                        others = [end for name, end in may_write_until.items() if name != replica.identity]
                        assert all(end <= now() for end in others)
            assert a.is_leading or b.is_leading
            leading.cancel()
            waiting.cancel()

    run(test())


def test_a_lease_whose_writing_was_not_answered_is_ours() -> None:
    """Its writer need not wait: nobody else wrote it."""

    async def test() -> None:
        leases, line = Leases(), Line(Leases())
        line.leases = leases
        a, b = leader("a", Line(leases)), leader("b", line)
        await a.acquire()
        waiting = asyncio.create_task(b.acquire())
        await asyncio.sleep(LEASE_SECONDS - 1)
        line.answer_seconds = 4.9
        await asyncio.sleep(8)
        assert leases.lease
        assert leases.lease["spec"]["holderIdentity"] == "b"
        assert not b.is_leading, "the answer is under way"
        waiting.cancel()
        line.answer_seconds = 0
        began = now()
        await b.acquire()
        assert now() - began <= LOOK_SECONDS

    run(test())


def test_what_the_work_raises_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("a bug")

    async def test() -> None:
        a = leader("a", Line(Leases()))
        await a.acquire()
        with pytest.raises(ValueError, match="a bug"):
            await a.hold(fail())

    run(test())


@pytest.mark.parametrize("seed", range(4))
def test_no_write_of_one_replica_overlaps_the_lead_of_another(seed: int) -> None:
    """Three replicas on lines that are slow, are cut, and lose answers of requests that were carried out."""

    async def test() -> None:
        random.seed(seed)  # for the back-offs: the same every time
        chaos, leases = random.Random(seed), Leases()  # noqa: S311
        lines = [Line(leases, chaos=chaos) for _ in range(3)]
        replicas = [leader(name, line) for name, line in zip("abc", lines, strict=True)]
        terms = list[tuple[str, float]]()
        tasks = [asyncio.create_task(lead_forever(replica, terms)) for replica in replicas]
        may_write_until: dict[str, float] = {}
        for _ in range(8_000):
            await asyncio.sleep(0.1)
            line = chaos.choice(lines)
            line.is_cut = chaos.random() < (0.99 if line.is_cut else 0.01)
            for replica in replicas:
                with suppress(NotLeadingError):
                    until = now() + replica.write_seconds()
                    others = [end for name, end in may_write_until.items() if name != replica.identity]
                    assert all(end <= now() for end in others)
                    may_write_until[replica.identity] = until
        assert len({name for name, _ in terms}) > 1, "nobody but the first ever led"
        for task in tasks:
            task.cancel()

    run(test())


@pytest.mark.parametrize("version", [1, 9])
def test_a_lease_that_is_older_than_before_tells_of_a_restored_backup(version: int) -> None:
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


def test_nothing_new_is_written_while_the_lease_could_not_be_renewed() -> None:
    """The API server that answers again may have another past: the Lease tells of it, so it comes first."""

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
def test_never_two_lead_after_a_backup_in_which_somebody_else_held_the_lease_or_nobody(holder: str) -> None:
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
        slow.cluster = _cluster(Line(leases, answer_seconds=2.0))
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
    ids=["none", "given back", "none, then held", "given back, then held"],
)
def test_a_replica_knows_whether_another_can_have_worked_since_its_first_look(
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
        assert not await a.acquire(), "of a later term it knows nothing"

    run(test())


async def _lose(leases: Leases) -> None:
    assert leases.lease
    leases.write({**leases.lease, "spec": {**leases.lease["spec"], "holderIdentity": "c"}})
    await work_forever()


def test_another_can_have_worked_since_a_first_look_that_found_it_working_or_failed() -> None:
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


def test_a_lease_that_a_backup_brought_back_is_not_taken_for_one_that_nobody_renewed() -> None:
    """Between its first look and the next one, a replica lists everything."""

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
