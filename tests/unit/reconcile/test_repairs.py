"""Repairs that do not stick slow down, field by field."""

import pytest

from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.repairs import PEACE_SECONDS, QUICK_REPAIRS, Repairs

KIMI, OTHER = (Key("default", name, DEPLOYMENT) for name in ("kimi", "other"))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repairs(clock: Clock) -> Repairs:
    return Repairs(clock)


def repair(repairs: Repairs, times: int, *fields: str) -> None:
    for _ in range(times):
        repairs.record(KIMI, fields)


def test_a_few_repairs_are_made_at_once(repairs: Repairs) -> None:
    repair(repairs, QUICK_REPAIRS - 1, "spec.replicas")
    assert repairs.wait_seconds(KIMI, ["spec.replicas"]) == 0
    assert repairs.contested(KIMI) == []


def test_more_wait_longer_and_longer_up_to_minutes(repairs: Repairs) -> None:
    repair(repairs, QUICK_REPAIRS, "spec.replicas")
    waits = []
    for _ in range(6):
        waits.append(repairs.wait_seconds(KIMI, ["spec.replicas"]))
        repair(repairs, 1, "spec.replicas")
    assert waits == [30, 60, 120, 240, 300, 300]
    assert repairs.contested(KIMI) == ["spec.replicas"]


def test_no_other_field_and_no_other_child_waits(repairs: Repairs) -> None:
    repair(repairs, QUICK_REPAIRS, "spec.replicas")
    assert repairs.wait_seconds(KIMI, ["spec.replicas", "spec.template.spec.containers[sglang].image"]) == 0
    assert repairs.wait_seconds(OTHER, ["spec.replicas"]) == 0


def test_the_wait_is_over_by_itself(repairs: Repairs, clock: Clock) -> None:
    repair(repairs, QUICK_REPAIRS, "spec.replicas")
    clock.now += 31
    assert repairs.wait_seconds(KIMI, ["spec.replicas"]) == 0


def test_peace_begins_anew(repairs: Repairs, clock: Clock) -> None:
    repair(repairs, QUICK_REPAIRS + 3, "spec.replicas")
    clock.now += PEACE_SECONDS + 1
    assert repairs.contested(KIMI) == []
    repair(repairs, 1, "spec.replicas")
    assert repairs.wait_seconds(KIMI, ["spec.replicas"]) == 0


def test_what_is_changed_while_it_is_written_is_contested_at_once(repairs: Repairs) -> None:
    repairs.record(KIMI, ["spec.replicas"], is_refused=True)
    assert repairs.contested(KIMI) == ["spec.replicas"]
    assert repairs.wait_seconds(KIMI, ["spec.replicas"]) == 30
