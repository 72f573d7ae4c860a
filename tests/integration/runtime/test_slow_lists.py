"""Lists that take as long as a busy API server lets them: the operator waits, watches, and asks for nothing twice.

All are slow at the same time, each for an operator of its own.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from integration.faults import TRUNCATED, Call, Fault, Matches, delay, end_with, error_event, refuse
from integration.sandbox import Sandbox, Sandboxes
from integration.waiting import seconds_until, wait_for
from kimi_linear_operator.kubernetes.kinds import POD, SERVICE, Kind
from kimi_linear_operator.runtime.lists import REST
from passes import CHILDREN, RESOURCES

KINDS = (*CHILDREN, *RESOURCES)
# What priority and fairness, or a start of the API server, makes of lists; it ends them after a minute.
_SLOW = {"8 s": 8.0, "25 s": 25.0, "60 s": 60.0}
# A watch tells at once; a periodic list would take minutes.
_NOTICED_SECONDS = 15.0


def _is_list(call: Call) -> bool:
    return call.is_list


def _is_list_of(kind: Kind) -> Matches:
    return lambda call: call.is_list and call.concerns(kind)


@dataclass(frozen=True)
class Outcome:
    """How an operator came through.

    Attributes:
        lists: How often each kind was listed, by kopf before its watch and by the operator after that.
        watches: How many watches began.
        seconds: How long it then took until a change was repaired of which only a watch tells.
    """

    lists: dict[str, int]
    watches: int
    seconds: float


def _observe(sandbox: Sandbox, begin: int = 0) -> Outcome:
    calls = sandbox.proxy.calls[begin:]
    lists = {kind.plural: sum(map(_is_list_of(kind), calls)) for kind in KINDS}
    watches = sum(call.is_watch for call in calls)
    sandbox.namespace.delete(SERVICE, "kimi")
    return Outcome(
        lists,
        watches,
        seconds_until(lambda: sandbox.namespace.find(SERVICE, "kimi"), "there is a Service again"),
    )


def _wait_until_watching(sandbox: Sandbox, begin: int, kinds: tuple[Kind, ...], seconds: float) -> None:
    """Wait until these kinds are watched, and listed after that."""

    def missing() -> list[str]:
        calls = sandbox.proxy.calls[begin:]
        return [kind.plural for kind in kinds if not _is_watched_and_listed(calls, kind)]

    wait_for(missing, "everything is watched and was listed after that", lambda found: not found, seconds)


def _is_watched_and_listed(calls: list[Call], kind: Kind) -> bool:
    begun = [call.began for call in calls if call.is_watch and call.concerns(kind) and call.status == 200]
    listed = [call for call in calls if _is_list_of(kind)(call) and "fieldSelector" not in call.query]
    return bool(begun) and any(call.began > begun[0] and call.status == 200 for call in listed)


@pytest.fixture(scope="module")
def starts(sandboxes: Sandboxes) -> Iterator[dict[str, Outcome]]:
    """Operators that start while every list takes so long."""
    with ExitStack() as opened:
        boxes = {name: opened.enter_context(sandboxes.open()) for name in _SLOW}
        for name, sandbox in boxes.items():
            sandbox.proxy.begin(delay(_SLOW[name]), _is_list)
            sandbox.namespace.create_server("kimi", {"tensorParallelism": 1})
            sandbox.operator.launch()
        for sandbox in boxes.values():
            _wait_until_watching(sandbox, 0, KINDS, seconds=240)
            sandbox.namespace.wait_until_ready("kimi")
        yield {name: _observe(sandbox) for name, sandbox in boxes.items()}


@pytest.mark.parametrize("name", _SLOW)
def test_slow_lists_at_the_start_end_in_one_watch_each(starts: dict[str, Outcome], name: str) -> None:
    outcome = starts[name]
    # kopf's own, one that does not wait for a watch any longer, and the one that a watch wants.
    assert max(outcome.lists.values()) <= 3, outcome.lists
    assert outcome.watches == len(KINDS)
    assert outcome.seconds < _NOTICED_SECONDS


@pytest.mark.parametrize("kind", [POD, SERVICE], ids=lambda kind: kind.plural)
def test_one_kind_that_lists_slowly_in_operation_disturbs_no_other(sandboxes: Sandboxes, kind: Kind) -> None:
    with sandboxes.open() as sandbox:
        sandbox.operator.start()
        sandbox.namespace.create_server("kimi", {"tensorParallelism": 1})
        sandbox.namespace.wait_until_ready("kimi")
        sandbox.wait_for_resync()
        time.sleep(REST.first)
        begin = len(sandbox.proxy.calls)
        with sandbox.proxy.fault(delay(15), _is_list_of(kind)):
            # After which kopf lists, and watches from there.
            sandbox.proxy.cut_watches(lambda call: call.concerns(kind), error_event(410))
            _wait_until_watching(sandbox, begin, (kind,), seconds=60)
        outcome = _observe(sandbox, begin)
        assert outcome.lists == {other.plural: 2 if other == kind else 0 for other in KINDS}
        assert outcome.seconds < _NOTICED_SECONDS


@pytest.mark.parametrize("fault", [end_with(error_event(500)), end_with(TRUNCATED), refuse(404), refuse(410)])
def test_one_watch_that_fails_all_the_time_disturbs_no_other(sandboxes: Sandboxes, fault: Fault) -> None:
    """For example because one object cannot be decoded: what kopf would take for its own end."""
    with sandboxes.open() as sandbox:
        sandbox.operator.start()
        sandbox.namespace.create_server("kimi", {"tensorParallelism": 1})
        sandbox.namespace.wait_until_ready("kimi")
        sandbox.wait_for_resync()
        time.sleep(REST.first)
        begin = len(sandbox.proxy.calls)
        with sandbox.proxy.fault(fault, lambda call: call.is_watch and call.concerns(POD)):
            sandbox.proxy.cut_watches(lambda call: call.concerns(POD), error_event(500))
            time.sleep(20)
            outcome = _observe(sandbox, begin)
        assert {kind: count for kind, count in outcome.lists.items() if count} == {
            POD.plural: outcome.lists[POD.plural]
        }
        assert 0 < outcome.lists[POD.plural] < 20
        assert outcome.seconds < _NOTICED_SECONDS
        sandbox.namespace.change_server("kimi", {"replicas": 2})
        sandbox.namespace.wait_until_ready("kimi", 90)
