"""Which kinds of objects are not being watched, as the answers of the API server tell."""

import pytest

from kimi_linear_operator.handlers.watch import GRACE_SECONDS, Watch
from kimi_linear_operator.store import Sight

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set by the test."""
    now = [1000.0]
    monkeypatch.setattr("kimi_linear_operator.handlers.watch.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def begun() -> list[str]:
    return []


@pytest.fixture
def watch(begun: list[str]) -> Watch:
    def observe(_: Sight) -> None:
        """Take no notice."""

    return Watch(["default"], observe, lambda: begun.append("list"))


def test_a_watch_that_is_answered_is_fine_for_as_long_as_it_stays_open(watch: Watch, clock: list[float]) -> None:
    watch._hear("WATCH", PODS, 200)
    clock[0] += 1000
    assert watch.unwatched() == []


def test_a_watch_that_fails_is_told_after_a_while_and_forgotten_when_it_works(watch: Watch, clock: list[float]) -> None:
    watch._hear("WATCH", PODS, 0)
    clock[0] += GRACE_SECONDS - 1
    watch._hear("WATCH", PODS, 503)
    assert watch.unwatched() == []
    clock[0] += 2
    assert watch.unwatched() == [PODS]
    watch._hear("LIST", PODS, 200)
    assert watch.unwatched() == [PODS], "a list is no watch"
    watch._hear("WATCH", PODS, 200)
    assert watch.unwatched() == []


def test_a_watch_after_a_list_is_told_as_a_new_beginning(watch: Watch, begun: list[str]) -> None:
    watch._hear("WATCH", PODS, 200)
    watch._hear("LIST", PODS, 500)
    watch._hear("LIST", PODS, 200)
    assert begun == [], "what happens between the list and the watch would be lost"
    watch._hear("WATCH", PODS, 500)
    assert begun == []
    watch._hear("WATCH", PODS, 200)
    watch._hear("WATCH", PODS, 200)
    assert begun == ["list"], "a watch that goes on where it ended is no new beginning"


def test_a_resource_that_kopf_overlooked_is_noticed_once_it_asks_for_others(watch: Watch) -> None:
    assert watch._overlooked() == []
    watch._hear("LIST", PODS, 0)
    assert PODS not in watch._overlooked()
    assert len(watch._overlooked()) == len(watch._targets()) - 1
    for target in watch._targets():
        watch._hear("LIST", target, 200)
    assert watch._overlooked() == []
