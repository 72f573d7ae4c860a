"""Two benchmarks never run on one server at once: whose turn it is."""

import itertools

from kimi_linear_operator.benchmark.turn import Contender, first


def contender(name: str, created: str = "2026-11-24T10:00:00Z", started: str = "", active: bool = False) -> Contender:
    return Contender("default", name, created, started, active)


RUNS = contender("z", created="2026-11-24T12:00:00Z", started="2026-11-24T12:00:05Z", active=True)
BEGUN = contender("y", created="2026-11-24T11:00:00Z", started="2026-11-24T11:00:05Z")
OLD = contender("x", created="2026-11-24T09:00:00Z")
YOUNG = contender("b")
AS_YOUNG = contender("c")


def test_who_runs_goes_on_then_who_has_begun_then_the_oldest_then_the_alphabet_decides() -> None:
    order = [RUNS, BEGUN, OLD, YOUNG, AS_YOUNG]
    for number in range(len(order)):
        for shuffled in itertools.permutations(order[number:]):
            assert first(shuffled) == order[number]


def test_nobody_is_first_among_none() -> None:
    assert first([]) is None
