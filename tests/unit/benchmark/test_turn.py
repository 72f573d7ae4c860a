"""The order of turns: two benchmarks never run on one server at once."""

import itertools

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
            assert first(shuffled) == order[number]


def test_benchmarks_of_the_servers_namespace_go_before_any_guest() -> None:
    for other in (BEGUN, YOUNG, FAILED_LAST):
        assert first([GUEST, other]) == other
    assert first([GUEST]) == GUEST
    runs = Contender("elsewhere", "z", GUEST.created, GUEST.started, is_active=True, is_guest=True)
    assert first([runs, BEGUN]) == runs


def test_without_contenders_no_benchmark_is_first() -> None:
    assert first([]) is None


def test_a_queued_benchmark_may_keep_its_turn_longer_than_a_failing_one() -> None:
    assert may_hold_seconds("ImagePullFailed") == may_hold_seconds("Unschedulable") == 300
    assert may_hold_seconds("JobSuspended") == may_hold_seconds("Queued") == 3600
