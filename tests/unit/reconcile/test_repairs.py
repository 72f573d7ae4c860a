"""If somebody undoes repairs of a field, further repairs of this field become slower."""

import tracemalloc

import pytest

from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.repairs import (
    LONGEST_FIELD,
    MOST_CHILDREN,
    MOST_FIELDS,
    PEACE_SECONDS,
    QUICK_REPAIRS,
    Child,
    Repairs,
)
from kimi_linear_operator.server.spec import SERVER


def child(name: str, namespace: str = "default") -> Child:
    key = Key(namespace, name, SERVER)
    return Child(key, key.of(DEPLOYMENT))


KIMI, OTHER = child("kimi"), child("other")


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


def test_further_repairs_wait_longer_and_longer_up_to_minutes(repairs: Repairs) -> None:
    repair(repairs, QUICK_REPAIRS, "spec.replicas")
    waits = []
    for _ in range(6):
        waits.append(repairs.wait_seconds(KIMI, ["spec.replicas"]))
        repair(repairs, 1, "spec.replicas")
    assert waits == [30, 60, 120, 240, 300, 300]
    assert repairs.contested(KIMI) == ["spec.replicas"]


def test_the_wait_stays_the_same_after_weeks_of_repairs(repairs: Repairs) -> None:
    repair(repairs, 10_000, "spec.replicas")
    assert repairs.wait_seconds(KIMI, ["spec.replicas"]) == 300


def test_other_fields_and_other_children_do_not_wait(repairs: Repairs) -> None:
    repair(repairs, QUICK_REPAIRS, "spec.replicas")
    assert repairs.wait_seconds(KIMI, ["spec.replicas", "spec.template.spec.containers[sglang].image"]) == 0
    assert repairs.wait_seconds(OTHER, ["spec.replicas"]) == 0


def test_the_wait_ends_by_itself(repairs: Repairs, clock: Clock) -> None:
    repair(repairs, QUICK_REPAIRS, "spec.replicas")
    clock.now += 31
    assert repairs.wait_seconds(KIMI, ["spec.replicas"]) == 0


def test_after_a_quiet_time_repairs_are_quick_again(repairs: Repairs, clock: Clock) -> None:
    repair(repairs, QUICK_REPAIRS + 3, "spec.replicas")
    clock.now += PEACE_SECONDS + 1
    assert repairs.contested(KIMI) == []
    repair(repairs, 1, "spec.replicas")
    assert repairs.wait_seconds(KIMI, ["spec.replicas"]) == 0


def test_a_field_that_changes_during_its_write_is_contested_at_once(repairs: Repairs) -> None:
    repairs.record(KIMI, ["spec.replicas"], is_refused=True)
    assert repairs.contested(KIMI) == ["spec.replicas"]
    assert repairs.wait_seconds(KIMI, ["spec.replicas"]) == 30


def test_a_client_that_always_changes_different_fields_is_a_rival_too(repairs: Repairs) -> None:
    quick = 0
    for number in range(200):
        field = [f"metadata.annotations.x{number % 50}"]
        quick += repairs.wait_seconds(KIMI, field) == 0
        repairs.record(KIMI, field)
    assert quick <= (MOST_FIELDS + 1) * QUICK_REPAIRS
    assert repairs.contested(KIMI)


def test_only_the_same_object_counts_as_already_applied(repairs: Repairs) -> None:
    repairs.note_applied(KIMI, "one")
    assert repairs.was_applied(KIMI, "one")
    assert not repairs.was_applied(KIMI, "another")
    assert not repairs.was_applied(OTHER, "one")


def test_a_deleted_server_and_its_children_are_forgotten(repairs: Repairs) -> None:
    repair(repairs, QUICK_REPAIRS, "spec.replicas")
    repairs.forget_owner(OTHER.owner)
    assert repairs.contested(KIMI) == ["spec.replicas"]
    repairs.forget_owner(KIMI.owner)
    assert repairs.contested(KIMI) == []
    assert len(repairs._records) == 0


def test_many_children_of_one_namespace_do_not_displace_those_of_another(repairs: Repairs) -> None:
    repair(repairs, QUICK_REPAIRS, "spec.replicas")
    for number in range(MOST_CHILDREN + 100):
        repairs.record(child(f"x{number}", "tenant"), ["spec.replicas"])
    assert len(repairs._records) == MOST_CHILDREN
    assert repairs.contested(KIMI) == ["spec.replicas"]
    assert child("x0", "tenant") not in repairs._records.keys("tenant"), "the oldest child is forgotten"


def test_the_remembered_children_take_30_mib_at_most(repairs: Repairs) -> None:
    tracemalloc.start()
    try:
        for number in range(MOST_CHILDREN):
            other = child(f"{number}".rjust(253, "x"), "tenant")
            repairs.record(other, [f"{number}-{index}".ljust(4 * LONGEST_FIELD, "y") for index in range(64)])
            repairs.note_applied(other, f"{number:016}")
            repairs.blame(other, [f"{number}-{index}".ljust(128, "z") for index in range(5)])
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 30 * 2**20
