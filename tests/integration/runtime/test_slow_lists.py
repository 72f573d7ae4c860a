"""Lists take as long as on a busy API server. The operator waits and watches, and requests nothing twice.

Many lists are slow at the same time, each for a separate operator.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from integration.faults import TRUNCATED, Call, Fault, Matches, delay, end_with, error_event, refuse
from integration.sandbox import Sandbox, Sandboxes
from integration.waiting import seconds_until, wait_for
from kimi_linear_operator.kubernetes.kinds import POD, POD_MONITOR, PROMETHEUS_RULE, SCALED_OBJECT, SERVICE, Kind
from kimi_linear_operator.runtime.lists import RESYNC_SECONDS
from passes import CHILDREN, RESOURCES

# The cluster of the tests has no Prometheus operator and no KEDA.
_OF_ADD_ONS = (POD_MONITOR, PROMETHEUS_RULE, SCALED_OBJECT)
KINDS = tuple(kind for kind in (*CHILDREN, *RESOURCES) if kind not in _OF_ADD_ONS)
# How long a list can take, because of priority and fairness or a start of the API server. The API server ends a list
# after a minute.
_SLOW = {"8 s": 8.0, "25 s": 25.0, "60 s": 60.0}
_SLOW_KINDS = {kind.plural: kind for kind in (POD, SERVICE)}
_FAULTS: dict[str, Fault] = {
    "500": end_with(error_event(500)),
    "ends within a line": end_with(TRUNCATED),
    "404": refuse(404),
    "410": refuse(410),
}
_FAILING_SECONDS = 20.0
# A watch shows a change at once. A periodic list would take minutes.
_NOTICED_SECONDS = 15.0


def _is_list(call: Call) -> bool:
    return call.is_list


def _is_list_of(kind: Kind) -> Matches:
    return lambda call: call.is_list and call.concerns(kind)


def _is_watch_of(kind: Kind) -> Matches:
    return lambda call: call.is_watch and call.concerns(kind)


@dataclass(frozen=True)
class Outcome:
    """The operator's behaviour in a test.

    Attributes:
        sandbox: Where it ran.
        lists: How often each kind was listed, by kopf before its watch and by the operator after that.
        watches: How many watches began.
        seconds: Seconds until the repair of a change that only a watch shows.
    """

    sandbox: Sandbox
    lists: dict[str, int]
    watches: int
    seconds: float


def _observe(boxes: dict[str, Sandbox], begins: dict[str, int]) -> dict[str, Outcome]:
    """Return the outcomes of the operators since then."""
    calls = {name: _before_resync(sandbox.proxy.calls[begins[name] :]) for name, sandbox in boxes.items()}
    return {
        name: Outcome(
            sandbox,
            {kind.plural: sum(map(_is_list_of(kind), calls[name])) for kind in KINDS},
            sum(call.is_watch for call in calls[name]),
            _seconds_to_repair(sandbox),
        )
        for name, sandbox in boxes.items()
    }


def _before_resync(calls: list[Call]) -> list[Call]:
    """Leave out the periodic lists, which come every five minutes."""
    return [call for call in calls if call.began < calls[0].began + RESYNC_SECONDS]


def _seconds_to_repair(sandbox: Sandbox) -> float:
    sandbox.namespace.delete(SERVICE, "kimi")
    return seconds_until(lambda: sandbox.namespace.find(SERVICE, "kimi"), "there is a Service again")


def _wait_until_watching(sandbox: Sandbox, begin: int, kinds: tuple[Kind, ...], seconds: float) -> None:
    """Wait until these kinds are watched, and listed after that."""

    def missing() -> list[str]:
        calls = sandbox.proxy.calls[begin:]
        return [kind.plural for kind in kinds if not _is_watched_and_listed(calls, kind)]

    wait_for(missing, "everything is watched and was listed after that", lambda found: not found, seconds)


def _is_watched_and_listed(calls: list[Call], kind: Kind) -> bool:
    begun = [call.began for call in calls if _is_watch_of(kind)(call) and call.status == 200]
    listed = [call for call in calls if _is_list_of(kind)(call) and "fieldSelector" not in call.query]
    return bool(begun) and any(call.began > begun[0] and call.status == 200 for call in listed)


@pytest.fixture(scope="module", autouse=True)
def starting(sandboxes: Sandboxes) -> Iterator[dict[str, Sandbox]]:
    """Operators that start while every list takes this long.

    They run concurrently with all other tests of this module.
    """
    with ExitStack() as opened:
        boxes = {name: opened.enter_context(sandboxes.open()) for name in _SLOW}
        for name, sandbox in boxes.items():
            sandbox.proxy.begin(delay(_SLOW[name]), _is_list)
            sandbox.namespace.create_server("kimi", {"tensorParallelism": 1})
            sandbox.operator.launch()
        yield boxes


@pytest.fixture(scope="module")
def slow_kinds(sandboxes: Sandboxes) -> Iterator[dict[str, Outcome]]:
    """Operators that each restart one watch while lists of its kind are slow."""
    with ExitStack() as opened:
        boxes = _open_settled(sandboxes, opened, _SLOW_KINDS)
        begins = {name: len(sandbox.proxy.calls) for name, sandbox in boxes.items()}
        for name, sandbox in boxes.items():
            sandbox.proxy.begin(delay(15), _is_list_of(_SLOW_KINDS[name]))
            # After that, kopf lists, and watches from the version of the list.
            sandbox.proxy.cut_watches(_is_watch_of(_SLOW_KINDS[name]), error_event(410))
        for name, sandbox in boxes.items():
            _wait_until_watching(sandbox, begins[name], (_SLOW_KINDS[name],), seconds=60)
            sandbox.proxy.heal()
        yield _observe(boxes, begins)


@pytest.fixture(scope="module")
def failing_watches(sandboxes: Sandboxes) -> Iterator[dict[str, Outcome]]:
    """Operators with one watch that always fails, each in another way. Afterwards the watch works again."""
    with ExitStack() as opened:
        boxes = _open_settled(sandboxes, opened, _FAULTS)
        begins = {name: len(sandbox.proxy.calls) for name, sandbox in boxes.items()}
        for name, sandbox in boxes.items():
            sandbox.proxy.begin(_FAULTS[name], _is_watch_of(POD))
            sandbox.proxy.cut_watches(_is_watch_of(POD), error_event(500))
        time.sleep(_FAILING_SECONDS)
        outcomes = _observe(boxes, begins)
        for sandbox in boxes.values():
            sandbox.proxy.heal()
        yield outcomes


def _open_settled(sandboxes: Sandboxes, opened: ExitStack, names: Iterable[str]) -> dict[str, Sandbox]:
    """Open sandboxes with a serving server and without a pending list."""
    boxes = {name: opened.enter_context(sandboxes.open()) for name in names}
    for sandbox in boxes.values():
        sandbox.operator.launch()
        sandbox.namespace.create_server("kimi", {"tensorParallelism": 1})
    for sandbox in boxes.values():
        sandbox.namespace.wait_until_ready("kimi")
        sandbox.wait_for_resync()
    for sandbox in boxes.values():
        sandbox.wait_until_lists_rest()
    return boxes


@pytest.mark.parametrize("name", _SLOW_KINDS)
def test_slow_lists_of_one_kind_delay_no_other_kind(slow_kinds: dict[str, Outcome], name: str) -> None:
    outcome = slow_kinds[name]
    assert outcome.lists == {kind.plural: 2 if kind.plural == name else 0 for kind in KINDS}
    assert outcome.seconds < _NOTICED_SECONDS


@pytest.mark.parametrize("name", _FAULTS)
def test_a_watch_that_always_fails_delays_no_other_kind(failing_watches: dict[str, Outcome], name: str) -> None:
    """For example, an object cannot be decoded, and kopf would end the whole process."""
    outcome = failing_watches[name]
    listed = {kind: count for kind, count in outcome.lists.items() if count}
    assert listed == {POD.plural: outcome.lists[POD.plural]}
    assert outcome.lists[POD.plural] < _FAILING_SECONDS
    assert outcome.seconds < _NOTICED_SECONDS
    outcome.sandbox.namespace.change_server("kimi", {"replicas": 2})
    outcome.sandbox.namespace.wait_until_ready("kimi", 90)


@pytest.fixture(scope="module")
def starts(starting: dict[str, Sandbox]) -> dict[str, Outcome]:
    """The outcomes of the operators that started while every list was slow."""
    for sandbox in starting.values():
        _wait_until_watching(sandbox, 0, KINDS, seconds=240)
        sandbox.namespace.wait_until_ready("kimi")
    return _observe(starting, dict.fromkeys(starting, 0))


@pytest.mark.parametrize("name", _SLOW)
def test_operators_that_start_with_slow_lists_end_with_one_watch_of_each_kind(
    starts: dict[str, Outcome], name: str
) -> None:
    outcome = starts[name]
    # These are kopf's own list, a list that no longer waits for a watch, and the list after the start of the watch.
    assert max(outcome.lists.values()) <= 3, outcome.lists
    assert outcome.watches == len(KINDS)
    assert outcome.seconds < _NOTICED_SECONDS
