"""For a minute, the API server fails in each possible way. The operator survives and catches up.

All outages happen at the same time, each to an operator of its own.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from integration.fault_proxy import FaultProxy
from integration.faults import (
    TRUNCATED,
    Call,
    Fault,
    Matches,
    Silence,
    answer,
    drop,
    end_with,
    error_event,
    everything,
    in_pages_of,
    refuse,
)
from integration.namespace import Namespace, condition_of, engine_container
from integration.sandbox import Sandbox, Sandboxes
from kimi_linear_operator.kubernetes.kinds import LEASE, SERVICE
from kimi_linear_operator.runtime.queue import BACKOFF
from kimi_linear_operator.server.spec import SERVER
from passes import new_scopes

# Longer than the 54 seconds after which kopf gives up by itself.
_OUTAGE_SECONDS = 60.0
# A failed write is retried after half a minute at most; then the server's pods start, and its status settles.
_RECOVERY_SECONDS = BACKOFF.longest + 15
# kopf restarts a watch after 70 seconds without data. Otherwise there would be no events for five minutes.
_FROZEN_SECONDS = 110.0
# kopf waits up to half a minute before it watches again.
_REWATCH_SECONDS = 40.0
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.1
# Each kind is listed and watched again at most every two seconds, and sometimes listed once more.
_CALLS_A_SECOND = 1.5 * len(tuple(new_scopes([])))


def _is_watch(call: Call) -> bool:
    return call.is_watch


def _is_write(call: Call) -> bool:
    """Return whether this is a write, except of the Lease. If renewals failed, the operator would restart its work."""
    return call.is_write and not call.concerns(LEASE)


def _is_list(call: Call) -> bool:
    return call.is_list


def _is_continued(call: Call) -> bool:
    return "continue" in call.query


def _is_about_our_resources(call: Call) -> bool:
    return call.path.startswith(f"/apis/{SERVER.group}")


def _begin(fault: Fault, matches: Matches = everything) -> Callable[[FaultProxy], None]:
    """Let calls fail, and end all watches, so that the operator notices at once."""

    def begin(proxy: FaultProxy) -> None:
        proxy.begin(fault, matches)
        proxy.cut_watches()

    return begin


def _expire_lists(proxy: FaultProxy) -> None:
    proxy.begin(in_pages_of(1), _is_list)
    proxy.begin(refuse(410), _is_continued)
    # This makes kopf list again.
    proxy.cut_watches(last=error_event(410))


OUTAGES: dict[str, Callable[[FaultProxy], None]] = {
    "refused connections": FaultProxy.refuse_connections,
    "dropped connections": _begin(drop),
    "no answer": _begin(Silence()),
    "other answers": _begin(answer({"status": "maintenance"})),
    "500": _begin(refuse(500)),
    "503": _begin(refuse(503)),
    "429": _begin(refuse(429, {"Retry-After": "1"})),
    "401": _begin(refuse(401)),
    "403": _begin(refuse(403)),
    "no definition": _begin(refuse(404), _is_about_our_resources),
    "refused writes": _begin(refuse(503), _is_write),
    "watches expire": _begin(end_with(error_event(410)), _is_watch),
    "watches fail": _begin(end_with(error_event(500)), _is_watch),
    "watches end within a line": _begin(end_with(TRUNCATED), _is_watch),
    "lists expire": _expire_lists,
}
_FROZEN = "frozen watches"


@dataclass(frozen=True)
class Outcome:
    """The operator's behaviour in an outage.

    Attributes:
        sandbox: Where it ran.
        calls: How many calls it made meanwhile.
        seconds: How long after the outage it had caught up, None if it never had.
        seconds_again: Seconds until a later change that only a watch shows was applied, None if it was not.
    """

    sandbox: Sandbox
    calls: int
    seconds: float | None
    seconds_again: float | None


@pytest.fixture(scope="module")
def outcomes(sandboxes: Sandboxes) -> Iterator[dict[str, Outcome]]:
    """The outcome for each operator. Only the operator itself can replace a frozen watch."""
    with ExitStack() as opened:
        boxes = {name: opened.enter_context(sandboxes.open()) for name in (*OUTAGES, _FROZEN)}
        _settle(list(boxes.values()))
        for name, sandbox in boxes.items():
            sandbox.proxy.calls.clear()
            OUTAGES.get(name, FaultProxy.freeze_watches)(sandbox.proxy)
            sandbox.namespace.change_server("kimi", {"toolCallParser": "enabled"})
            sandbox.namespace.delete(SERVICE, "kimi")
        time.sleep(_OUTAGE_SECONDS)
        calls = {name: len(sandbox.proxy.calls) for name, sandbox in boxes.items()}
        for name in OUTAGES:
            boxes[name].proxy.heal()
        times = _catch_up(boxes, "enabled")
        for sandbox in boxes.values():
            sandbox.namespace.change_server("kimi", {"toolCallParser": "disabled"})
        again = _catch_up(boxes, "disabled")
        yield {name: Outcome(box, calls[name], times.get(name), again.get(name)) for name, box in boxes.items()}


def _settle(boxes: list[Sandbox]) -> None:
    """Start the operators, and have two servers in each namespace, so that lists have a second page."""
    for sandbox in boxes:
        sandbox.operator.launch()
    for sandbox in boxes:
        sandbox.operator.wait_until_leading()
        for name in ("kimi", "other"):
            sandbox.namespace.create_server(name, {"tensorParallelism": 1})
    for sandbox in boxes:
        sandbox.namespace.wait_until_ready("kimi")
        sandbox.wait_for_resync()


def _catch_up(boxes: dict[str, Sandbox], tool_call_parser: str) -> dict[str, float]:
    """Wait until all servers match their specs.

    Return the seconds for each server, without servers that never matched.
    """
    begin = time.monotonic()
    seconds: dict[str, float] = {}
    while len(seconds) < len(boxes) and time.monotonic() < begin + _PATIENCE_SECONDS:
        for name in boxes.keys() - seconds:
            if _has_caught_up(boxes[name].namespace, tool_call_parser):
                seconds[name] = time.monotonic() - begin
        time.sleep(_PAUSE_SECONDS)
    return seconds


def _has_caught_up(namespace: Namespace, tool_call_parser: str) -> bool:
    server = namespace.server("kimi")
    ready = condition_of(server, "Ready")
    parses = "--tool-call-parser" in engine_container(namespace.deployment("kimi"))["args"]
    return (
        namespace.find(SERVICE, "kimi") is not None
        and parses == (tool_call_parser == "enabled")
        and (ready["status"], ready["observedGeneration"]) == ("True", server["metadata"]["generation"])
    )


@pytest.mark.parametrize("outage", OUTAGES)
def test_the_operator_survives_an_outage_and_catches_up(outcomes: dict[str, Outcome], outage: str) -> None:
    outcome = outcomes[outage]
    assert outcome.sandbox.operator.is_running
    assert outcome.seconds is not None, "the operator did not catch up"
    assert outcome.seconds < _RECOVERY_SECONDS
    assert outcome.seconds_again is not None, "the operator no longer watches"
    assert outcome.seconds_again < _REWATCH_SECONDS
    assert outcome.calls < _OUTAGE_SECONDS * _CALLS_A_SECOND


def test_frozen_watches_are_noticed(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[_FROZEN]
    assert outcome.sandbox.operator.is_running
    assert outcome.seconds is not None, "the operator did not catch up"
    assert _OUTAGE_SECONDS + outcome.seconds < _FROZEN_SECONDS
