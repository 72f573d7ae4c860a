"""Who leads, and that never two do. Time is the loop's own; the API server here only injects faults."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from fast_loop import now, run
from kimi_linear_operator.api import Manifest
from kimi_linear_operator.cluster import ApiError, Cluster
from kimi_linear_operator.leader import LEASE_SECONDS, LOOK_SECONDS, TRUST_SECONDS, Leader, NotLeadingError
from kimi_linear_operator.resources.kinds import Kind


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
    chaos: random.Random | None = None
    requests: list[float] = field(default_factory=list)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        await self._travel()
        found = self.leases.lease
        await self._travel()
        return found

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self.replace(kind, manifest)

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        await self._travel()
        written = self.leases.write(manifest)
        await self._travel()
        return written

    async def _travel(self) -> None:
        self.requests.append(now())
        if self.is_cut:
            await asyncio.sleep(3600)
        if self.chaos:
            await asyncio.sleep(self.chaos.choice((0, 0.01, 1, 4, 7)))
            if self.chaos.random() < 0.3:
                raise ApiError(0, "no answer")


def leader(name: str, line: Line) -> Leader:
    return Leader(_cluster(line), "default", "lease", name, clock=now)


def _cluster(line: Line) -> Cluster:
    stand_in: Any = line
    return stand_in  # type: ignore[no-any-return]


async def work_forever() -> None:
    await asyncio.sleep(3600)


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
        assert TRUST_SECONDS - 3.1 <= stopped
        assert LEASE_SECONDS - 3.1 <= terms[0][1] - cut <= LEASE_SECONDS + LOOK_SECONDS + 0.1
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


def test_what_the_work_raises_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("a bug")

    async def test() -> None:
        a = leader("a", Line(Leases()))
        await a.acquire()
        with pytest.raises(ValueError, match="a bug"):
            await a.hold(fail())

    run(test())


@pytest.mark.parametrize("seed", range(10))
def test_no_write_of_one_replica_overlaps_the_lead_of_another(seed: int) -> None:
    """Three replicas on lines that are slow, fail, and lose answers of requests that were carried out."""

    async def test() -> None:
        chaos, leases = random.Random(seed), Leases()
        replicas = [leader(name, Line(leases, chaos=chaos)) for name in "abc"]
        may_write_until: dict[str, float] = {}
        terms = list[tuple[str, float]]()
        tasks = [asyncio.create_task(lead_forever(replica, terms)) for replica in replicas]
        for _ in range(6000):
            await asyncio.sleep(0.1)
            for replica in replicas:
                if replica.is_leading:
                    others = [until for name, until in may_write_until.items() if name != replica.identity]
                    assert all(until <= now() for until in others)
                    may_write_until[replica.identity] = now() + replica.write_seconds()
            if chaos.random() < 0.005:
                victim = chaos.choice(replicas)
                await victim.release()
                may_write_until.pop(victim.identity, None)
        assert len({name for name, _ in terms}) > 1, "nobody but the first ever led"
        for task in tasks:
            task.cancel()

    run(test())
