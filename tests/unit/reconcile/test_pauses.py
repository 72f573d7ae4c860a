"""Whoever waits for something that no watch shows is looked at less and less often."""

from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.pauses import LONGEST_PAUSE_SECONDS, Pauses

KEY, OTHER = Key("default", "a", BENCHMARK), Key("default", "b", BENCHMARK)


def test_pauses_grow_with_the_time_that_a_resource_has_waited() -> None:
    time = [1000.0]
    pauses, found = Pauses(lambda: time[0]), []
    for waited in (0, 20, 40, 400, 100_000):
        time[0] = 1000.0 + waited
        found.append(pauses.next(KEY, "turn", 5))
    assert found == [5, 5, 10, 100, LONGEST_PAUSE_SECONDS]
    assert pauses.next(OTHER, "turn", 5) == 5


def test_pauses_begin_again_with_another_cause_or_after_the_wait() -> None:
    time = [0.0]
    pauses = Pauses(lambda: time[0])
    pauses.next(KEY, "turn", 5)
    time[0] = 4000.0
    assert pauses.next(KEY, "pod", 30) == 30
    time[0] = 8000.0
    assert pauses.next(KEY, "pod", 30) == LONGEST_PAUSE_SECONDS
    assert pauses.next(KEY, "pod", None) is None
    assert pauses.next(KEY, "pod", 30) == 30
