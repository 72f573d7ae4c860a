"""Leader election: never two leaders at once. Time is the loop's own; the API server here only injects faults."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from fast_loop import now, run
from kimi_linear_operator import clock
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.runtime.leader import (
    LOOK_SECONDS,
    RENEW_SECONDS,
    REQUEST_SECONDS,
    TRUST_SECONDS,
    NotLeadingError,
)
from kimi_linear_operator.runtime.seen_lease import LEASE_SECONDS, YIELD_SECONDS
from unit.runtime.leases import Leases, Line, lead_forever, leader, work_forever


def test_the_first_replica_leads_and_the_second_one_waits() -> None:
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


def test_a_released_lease_is_taken_at_once() -> None:
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


def test_a_lease_is_not_released_while_a_write_of_its_holder_is_pending() -> None:
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


def test_the_trust_in_a_lease_starts_before_its_renewal_is_sent() -> None:
    """The API server may have stored a renewal long before its answer arrives.

    Other replicas count from the renewal.
    """

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


def test_a_replica_that_does_not_lead_may_not_write() -> None:
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


def test_a_deleted_lease_is_created_again() -> None:
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


def shorten(leases: Leases) -> None:
    assert leases.lease
    leases.write({**leases.lease, "spec": {**leases.lease["spec"], "leaseDurationSeconds": 1}})


def hand_to_c_for_a_second(leases: Leases) -> None:
    assert leases.lease
    spec = {**leases.lease["spec"], "holderIdentity": "c", "leaseDurationSeconds": 1}
    leases.write({**leases.lease, "spec": spec})


def clear(leases: Leases) -> None:
    assert leases.lease
    leases.write({**leases.lease, "spec": {}})


@pytest.mark.parametrize("tamper", [delete, hand_to_b, shorten, hand_to_c_for_a_second, clear])
def test_a_lease_that_somebody_deletes_or_rewrites_makes_no_second_leader(tamper: Callable[[Leases], None]) -> None:
    """Whether the holder sees the change, or loses its connection at that moment."""

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


def test_a_lease_whose_write_was_not_answered_belongs_to_its_writer() -> None:
    """The replica that wrote it need not wait, because no other replica wrote it."""

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


def _lease(**spec: str) -> Manifest:
    metadata = {"name": "lease", "namespace": "default", "uid": "u", "resourceVersion": "9"}
    return {"kind": "Lease", "metadata": metadata, "spec": spec}


# What something else than the API server can answer with status 200 to a request for the Lease.
ODD_ANSWERS = [
    {"status": "maintenance"},
    {"kind": "Lease"},
    {**_lease(), "kind": "Status"},
    {**_lease(), "metadata": {"name": "lease", "namespace": "default", "uid": "u"}},
    {**_lease(), "metadata": {**_lease()["metadata"], "name": "another"}},
]
# These look like the Lease, but do not show what was written.
OLD_ANSWERS = [
    _lease(),
    {**_lease(), "spec": None},
    _lease(holderIdentity="b", renewTime="2026-01-01T00:00:00.000000Z"),
    _lease(holderIdentity="a", renewTime="2026-01-01T00:00:00.000000Z"),
]


@pytest.mark.parametrize("answer", [*ODD_ANSWERS, *OLD_ANSWERS])
def test_a_renewal_counts_only_if_the_answer_shows_it(answer: Manifest) -> None:
    """A proxy that answers renewals with status 200 hides that other replicas do not see them."""

    async def test() -> None:
        leases, terms, line = Leases(), list[tuple[str, float]](), Line(Leases())
        line.leases = leases
        a, b = leader("a", line), leader("b", Line(leases))
        await a.acquire()
        holding = asyncio.create_task(a.hold(work_forever()))
        waiting = asyncio.create_task(lead_forever(b, terms))
        await asyncio.sleep(10)
        line.other_answer, last_write_ends = answer, 0.0
        while not terms:
            with suppress(NotLeadingError):
                last_write_ends = now() + a.write_seconds()
            await asyncio.sleep(0.01)
        assert last_write_ends <= terms[0][1]
        assert not await holding
        waiting.cancel()

    run(test())


FAILURES = [
    *(Line(Leases(), other_answer=answer) for answer in ODD_ANSWERS),
    Line(Leases(), bug=KeyError("metadata")),
    Line(Leases(), bug=RuntimeError("Session is closed")),
]


@pytest.mark.parametrize("failure", FAILURES)
def test_no_failure_of_a_request_for_the_lease_ends_the_process(failure: Line) -> None:
    """Whether the replica starts, waits, leads, or stops."""

    async def test() -> None:
        line = Line(Leases(), other_answer=failure.other_answer, bug=failure.bug)
        a = leader("a", line)
        await a.look_first()
        acquiring = asyncio.create_task(a.acquire())
        await asyncio.sleep(20)
        assert not acquiring.done()
        line.other_answer = line.bug = None
        await acquiring
        holding = asyncio.create_task(a.hold(work_forever()))
        await asyncio.sleep(RENEW_SECONDS + 1)
        line.other_answer, line.bug = failure.other_answer, failure.bug
        assert not await holding
        await a.release()
        line.other_answer = line.bug = None
        await a.acquire()

    run(test())


@pytest.mark.parametrize("seconds", [2.0, 3.5, 4.9])
def test_a_replica_keeps_its_lease_however_slowly_the_api_server_answers_in_time(seconds: float) -> None:
    """Otherwise each term would end after some seconds, and with it all passes."""

    async def test() -> None:
        a = leader("a", Line(Leases(), answer_seconds=seconds))
        await a.acquire()
        holding = asyncio.create_task(a.hold(work_forever()))
        for _ in range(3000):
            await asyncio.sleep(0.1)
            assert a.write_seconds() > 0
        holding.cancel()

    run(test())


@pytest.mark.parametrize("seconds", [0.0, 1.0, 2.0, 4.0])
def test_a_lease_is_released_at_once_although_a_renewal_is_under_way(seconds: float) -> None:
    """A released Lease is taken when the API server answers again; an unreleased one would be taken after 15 s."""

    async def test() -> None:
        for tenths in range(0, 60, 7):
            leases, terms = Leases(), list[tuple[str, float]]()
            line = Line(leases)
            a, b = leader("a", line), leader("b", Line(leases))
            await a.acquire()
            stop = asyncio.Event()
            holding = asyncio.create_task(a.hold(_work_until(stop)))
            waiting = asyncio.create_task(lead_forever(b, terms))
            await asyncio.sleep(10)
            line.answer_seconds = seconds
            await asyncio.sleep(tenths / 10)
            stop.set()
            stopped = now()
            assert await holding
            await a.release()
            await asyncio.sleep(2 * LOOK_SECONDS)
            assert terms
            assert terms[0][1] - stopped <= 2 * seconds + 2 * LOOK_SECONDS
            waiting.cancel()

    run(test())


async def _work_until(stop: asyncio.Event) -> None:
    await stop.wait()


@pytest.mark.parametrize("seconds", [1.0, 4.0, 60.0])
def test_a_replica_that_stops_while_it_takes_the_lease_releases_it(seconds: float) -> None:
    """Whether the answer arrives late or never."""

    async def test() -> None:
        leases = Leases()
        line = Line(leases, write_seconds=seconds)
        a = leader("a", line)
        acquiring = asyncio.create_task(a.acquire())
        while leases.lease is None:  # noqa: ASYNC110 - the stored Lease sets nothing
            await asyncio.sleep(0.1)
        acquiring.cancel()
        await asyncio.wait((acquiring,))
        line.write_seconds = 0.0
        await a.release()
        assert leases.lease["spec"]["holderIdentity"] == ""

    run(test())


def test_a_renewal_that_is_lost_on_the_way_does_not_keep_the_lease_from_being_released() -> None:
    """The API server stores the renewal, and the answer never arrives."""

    async def test() -> None:
        leases = Leases()
        line = Line(leases)
        a, stop = leader("a", line), asyncio.Event()
        await a.acquire()
        holding = asyncio.create_task(a.hold(_work_until(stop)))
        line.answer_seconds = 60.0
        await asyncio.sleep(RENEW_SECONDS + 0.1)
        stop.set()
        await holding
        line.answer_seconds = 0.0
        await a.release()
        assert leases.lease
        assert leases.lease["spec"]["holderIdentity"] == ""

    run(test())


def test_an_error_of_the_work_is_raised() -> None:
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
    """Three replicas with connections that are slow, break, and lose answers of successful requests."""

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
        assert len({name for name, _ in terms}) > 1, "only one replica ever led"
        for task in tasks:
            task.cancel()

    run(test())


@pytest.mark.parametrize("others", [1, 2])
def test_a_replica_that_never_gets_an_answer_to_its_writes_leaves_the_lease_to_another_one(others: int) -> None:
    """The API server stores its writes, so the Lease would never expire if the replica went on to write."""

    async def test() -> None:
        leases, terms = Leases(), list[tuple[str, float]]()
        line = Line(leases)
        first = asyncio.create_task(lead_forever(leader("a", line), terms))
        await asyncio.sleep(1)
        names = [f"b{number}" for number in range(others)]
        healthy = [leader(name, Line(leases)) for name in names]
        waiting = [asyncio.create_task(lead_forever(replica, terms)) for replica in healthy]
        await asyncio.sleep(1)
        line.write_seconds, slow = REQUEST_SECONDS + 1, now()
        await asyncio.sleep(300)
        assert [name for name, _ in terms][:1] == ["a"]
        assert len(terms) == 2
        assert terms[1][1] - slow <= TRUST_SECONDS + 2 * REQUEST_SECONDS + LEASE_SECONDS + 2 * LOOK_SECONDS
        for task in (first, *waiting):
            task.cancel()

    run(test())


def test_a_replica_without_another_one_leads_again_once_its_writes_are_answered() -> None:
    async def test() -> None:
        leases, terms = Leases(), list[tuple[str, float]]()
        line = Line(leases)
        alone = asyncio.create_task(lead_forever(leader("a", line), terms))
        await asyncio.sleep(1)
        line.write_seconds = REQUEST_SECONDS + 1
        await asyncio.sleep(100)
        assert len(terms) == 1
        line.write_seconds, healed = 0.0, now()
        await asyncio.sleep(60)
        assert len(terms) == 2
        assert terms[1][1] - healed <= YIELD_SECONDS + REQUEST_SECONDS + LOOK_SECONDS
        alone.cancel()

    run(test())


@pytest.mark.parametrize("status", [403, 409, 429])
def test_a_replica_whose_write_was_refused_tries_again_soon(status: int) -> None:
    """A refused write is not stored, so the Lease can expire."""

    async def test() -> None:
        leases, terms = Leases(), list[tuple[str, float]]()
        line = Line(leases)
        alone = asyncio.create_task(lead_forever(leader("a", line), terms))
        await asyncio.sleep(1)
        line.is_cut = True
        await asyncio.sleep(TRUST_SECONDS + 0.1)
        line.is_cut, line.refusal = False, ApiError(status, "no")
        await asyncio.sleep(6)
        line.refusal, healed = None, now()
        await asyncio.sleep(30)
        assert len(terms) == 2
        assert terms[1][1] - healed <= REQUEST_SECONDS + LOOK_SECONDS
        alone.cancel()

    run(test())
