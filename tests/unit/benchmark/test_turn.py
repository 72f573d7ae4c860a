"""The order of turns: two benchmarks never run on one server at once."""

import itertools
from typing import Any

from kimi_linear_operator.benchmark.turn import Contender, first, may_hold_seconds


def contender(
    name: str, created: str = "2026-11-24T10:00:00Z", started: str = "", active: bool = False, failed: str = ""
) -> Contender:
    return Contender("default", name, created, started, active, failed)


RUNS = contender("z", created="2026-11-24T12:00:00Z", started="2026-11-24T12:00:05Z", active=True)
BEGUN = contender("y", created="2026-11-24T11:00:00Z", started="2026-11-24T11:00:05Z")
OLD = contender("x", created="2026-11-24T09:00:00Z")
YOUNG = contender("b")
AS_YOUNG = contender("c")
FAILED_FIRST = contender("w", created="2026-11-24T08:00:00Z", failed="2026-11-24T12:00:00Z")
GUEST = Contender("elsewhere", "a", "2026-11-24T07:00:00Z", "2026-11-24T07:00:05Z", is_active=False, is_guest=True)
FAILED_LAST = contender("a", started="2026-11-24T08:00:00Z", failed="2026-11-24T12:30:00Z")


def test_running_benchmarks_go_first_then_begun_then_oldest_then_failed_ones() -> None:
    order = [RUNS, BEGUN, OLD, YOUNG, AS_YOUNG, FAILED_FIRST, FAILED_LAST]
    for number in range(len(order)):
        for shuffled in itertools.islice(itertools.permutations(order[number:]), 500):
            assert first(shuffled, {}) == order[number]


def test_benchmarks_of_the_servers_namespace_go_before_any_guest() -> None:
    for other in (BEGUN, YOUNG, FAILED_LAST):
        assert first([GUEST, other], {}) == other
    assert first([GUEST], {}) == GUEST
    runs = Contender("elsewhere", "z", GUEST.created, GUEST.started, is_active=True, is_guest=True)
    assert first([runs, BEGUN], {}) == runs


def guest(namespace: str, name: str = "g", created: str = "2026-11-24T10:00:00Z", **more: Any) -> Contender:
    return Contender(namespace, name, created, **{"started": "", "is_active": False, **more}, is_guest=True)


def test_namespaces_of_guests_take_turns_whatever_times_are_in_a_status() -> None:
    forged = [guest("tenant", f"t{number}", started="2000-01-01T00:00:00Z") for number in range(9)]
    victim = guest("victims", created="2026-11-24T11:00:00Z")
    later, earlier = "2026-11-24T12:30:00Z", "2026-11-24T12:00:00Z"
    assert first([*forged, victim], {"tenant": earlier}) == victim
    assert first([*forged, victim], {"tenant": later, "victims": earlier}) == victim
    assert first([*forged, victim], {"tenant": earlier, "victims": later}) == forged[0]
    # Among namespaces without a turn, the oldest benchmark goes first. The API server has written this time.
    assert (
        first([guest("tenant", created="2026-11-24T12:00:00Z", started="2000-01-01T00:00:00Z"), victim], {}) == victim
    )


def test_a_benchmark_keeps_the_turn_of_its_namespace_until_all_its_suites_have_ended() -> None:
    begun = guest("tenant", "begun", created="2026-11-24T11:00:00Z", started="2026-11-24T11:00:05Z")
    assert first([guest("tenant", "older"), begun], {"tenant": "2026-11-24T11:00:05Z"}) == begun


def test_without_contenders_no_benchmark_is_first() -> None:
    assert first([], {}) is None


def test_a_queued_benchmark_may_keep_its_turn_longer_than_a_failing_one() -> None:
    assert may_hold_seconds("ImagePullFailed") == may_hold_seconds("Unschedulable") == 300
    assert may_hold_seconds("JobSuspended") == may_hold_seconds("Queued") == 3600
