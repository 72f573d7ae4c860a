"""Two replicas of the operator. The leader has a problem, and after that only the other replica works.

All troubles happen at the same time, each to a pair of its own.
"""

import functools
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from integration.audit import AuditLog, Request
from integration.faults import Call, Matches, Silence, answer, commit_late
from integration.namespace import Spec
from integration.sandbox import PAIR_ACCOUNTS, Sandbox, Sandboxes, user_of
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, LEASE, POD, Kind
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.process import STOP_SECONDS
from kimi_linear_operator.server.spec import SERVER

_SPEC: Spec = {"tensorParallelism": 1}
_NEW_SERVERS = 6
# A Lease that was not released is taken after 15 s, at the next read, and there is a read every second. The rest of the
# time is for a machine on which ten operators work at the same time.
_TAKEOVER_SECONDS = 30.0
_HANDOVER_SECONDS = 10.0
# Before that, ten operators make their lists at the same time.
_SECONDS_TO_MAKE_UP = 25.0
# Longer than a recovered replica needs to send its pending write.
_AFTERMATH_SECONDS = 5.0
_PATIENCE_SECONDS = 60.0
_OK = 200


class Trouble(NamedTuple):
    """A problem of the leader: how it begins and how it ends."""

    begin: Callable[[Sandbox], object]
    end: Callable[[Sandbox], object]


def _send(number: signal.Signals) -> Callable[[Sandbox], None]:
    def send(sandbox: Sandbox) -> None:
        assert sandbox.operator.process
        sandbox.operator.process.send_signal(number)

    return send


def _refuse_connections(sandbox: Sandbox) -> None:
    sandbox.proxy.refuse_connections()


def _silence(sandbox: Sandbox) -> None:
    sandbox.proxy.freeze_watches()
    sandbox.proxy.begin(Silence())


def _hide_renewals(sandbox: Sandbox) -> None:
    """Answer renewals of the Lease with something else. All other requests reach the API server."""
    sandbox.proxy.begin(answer({"status": "maintenance"}), lambda call: call.is_write and call.concerns(LEASE))


def _heal(sandbox: Sandbox) -> None:
    sandbox.proxy.heal()


def _restart(sandbox: Sandbox) -> None:
    sandbox.operator.kill()
    sandbox.operator.launch()


_STOP = "told to stop"
TROUBLES = {
    _STOP: Trouble(_send(signal.SIGTERM), _restart),
    "killed": Trouble(_send(signal.SIGKILL), _restart),
    "paused": Trouble(_send(signal.SIGSTOP), _send(signal.SIGCONT)),
    "cut off": Trouble(_refuse_connections, _heal),
    "cut off silently": Trouble(_silence, _heal),
    "renewals get other answers": Trouble(_hide_renewals, _heal),
}


@dataclass(frozen=True)
class Story:
    """The outcome for a pair of replicas.

    It says when the problem began, when the second one took the Lease, and what the first one wrote later.
    """

    first: Sandbox
    second: Sandbox
    begun: float
    taken: Call
    late: list[Request]


@pytest.fixture(scope="module")
def stories(sandboxes: Sandboxes, audit_log: AuditLog) -> Iterator[dict[str, Story]]:
    with ExitStack() as opened:
        pairs = {name: opened.enter_context(sandboxes.open_pair()) for name in TROUBLES}
        _settle(list(pairs.values()))
        begun: dict[str, float] = {}
        for name, (first, second) in pairs.items():
            begun[name] = _begin(TROUBLES[name], first)
            if name == _STOP:
                # This happens first, before the work of all other operators slows it down.
                _wait_for_takeover(second)
        taken = {name: _wait_for_takeover(second) for name, (_, second) in pairs.items()}
        mark = audit_log.mark()
        for name, (first, _) in pairs.items():
            TROUBLES[name].end(first)
        time.sleep(_AFTERMATH_SECONDS)
        yield {
            name: Story(first, second, begun[name], taken[name], _writes(audit_log, mark, first))
            for name, (first, second) in pairs.items()
        }


def _settle(pairs: list[tuple[Sandbox, Sandbox]]) -> None:
    """Let the first replica of each pair lead and the second one wait, until all lists are done."""
    for first, _ in pairs:
        first.operator.launch()
    for first, second in pairs:
        first.operator.wait_until_leading()
        second.operator.launch()
    for first, second in pairs:
        wait_for(second.operator.told, "the second replica waits", lambda text: "Waiting:" in text)
        first.namespace.create_server("kimi", _SPEC)
    for first, second in pairs:
        first.namespace.wait_until_ready("kimi")
        first.wait_for_resync()
        second.wait_for_resync()
    for sandbox in (sandbox for pair in pairs for sandbox in pair):
        sandbox.wait_until_lists_rest()


def _begin(trouble: Trouble, first: Sandbox) -> float:
    """Let the problem begin in the middle of work, and add more work that nobody can do yet.

    Return when the problem began.
    """
    for number in range(_NEW_SERVERS):
        first.namespace.create_server(f"new-{number}", _SPEC)
    begun = time.monotonic()
    trouble.begin(first)
    first.namespace.change_server("kimi", {"toolCallParser": "enabled"})
    return begun


def _wait_for_takeover(second: Sandbox) -> Call:
    """Wait until the second replica has written the Lease. Return that call."""

    def takeovers() -> list[Call]:
        return [call for call in second.proxy.calls if call.concerns(LEASE) and call.is_write and call.status == _OK]

    return wait_for(takeovers, "the second replica takes the Lease", seconds=_PATIENCE_SECONDS)[0]


def _writes(audit_log: AuditLog, mark: int, first: Sandbox) -> list[Request]:
    found = audit_log.writes(mark, user_of(PAIR_ACCOUNTS[0]), first.namespace.name)
    return [item for item in found if item.resource != LEASE.plural]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_another_replica_takes_over_in_time(stories: dict[str, Story], trouble: str) -> None:
    story = stories[trouble]
    assert _ended(story.taken) - story.begun < _TAKEOVER_SECONDS


def test_a_released_lease_is_taken_at_once(stories: dict[str, Story]) -> None:
    story = stories[_STOP]
    begun, taken = story.begun, story.taken.began
    [given_back] = [call for call in story.first.proxy.calls if begun < call.began < taken and _gives_back(call)]
    assert _ended(story.taken) - _ended(given_back) < _HANDOVER_SECONDS


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_new_leader_applies_changes_from_the_time_without_a_leader(stories: dict[str, Story], trouble: str) -> None:
    story = stories[trouble]

    def applies() -> list[Call]:
        # A replica that got SIGTERM may still have scaled it.
        calls = (*story.first.proxy.calls, *story.second.proxy.calls)
        return [call for call in calls if call.began > story.begun and _is_applied(call)]

    applied = min(map(_ended, wait_for(applies, "the change is applied")))
    assert applied - _ended(story.taken) < _SECONDS_TO_MAKE_UP


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_new_leader_lists_everything_before_it_writes(stories: dict[str, Story], trouble: str) -> None:
    story = stories[trouble]
    calls = [call for call in story.second.proxy.calls if call.began > _ended(story.taken)]
    writes = [call.began for call in calls if call.is_write and not call.concerns(LEASE)]
    lists = [call for call in calls if call.is_list and call.ended and call.ended < min(writes)]
    assert {kind for kind in TYPES[SERVER].own_kinds if not any(call.concerns(kind) for call in lists)} == set()


def test_a_new_leader_whose_watches_were_frozen_keeps_the_current_state(sandboxes: Sandboxes) -> None:
    """This replica has not seen that the server was scaled, but it must not scale it down."""
    with sandboxes.open_pair() as (first, second):
        _settle([(first, second)])
        second.proxy.freeze_watches()
        first.namespace.change_server("kimi", {"replicas": 3})
        first.namespace.wait_until_ready("kimi")
        before = {pod["metadata"]["uid"] for pod in first.namespace.pods("kimi")}
        first.operator.kill()
        first.namespace.change_server("kimi", {"replicas": 4})
        _wait_for_takeover(second)
        first.namespace.wait_until_ready("kimi")
        after = {pod["metadata"]["uid"] for pod in first.namespace.pods("kimi")}
        assert (len(before), len(after), before - after) == (3, 4, set())
        first.operator.launch()
        wait_for(first.operator.told, "the first replica runs again and waits", _is_waiting)


def test_a_suspended_replica_that_leads_again_keeps_the_current_state(sandboxes: Sandboxes) -> None:
    """The replica gets the Lease back at once, and has not seen that the server was scaled.

    It must not scale it down.
    """
    with sandboxes.open_pair() as (first, second):
        _settle([(first, second)])
        first.proxy.freeze_watches()
        _send(signal.SIGSTOP)(first)
        _wait_for_takeover(second)
        first.namespace.change_server("kimi", {"replicas": 3})
        first.namespace.wait_until_ready("kimi")
        before = {pod["metadata"]["uid"] for pod in first.namespace.pods("kimi")}
        assert second.operator.stop() == 0
        first.namespace.change_server("kimi", {"replicas": 4})
        _send(signal.SIGCONT)(first)
        first.namespace.wait_until_ready("kimi")
        after = {pod["metadata"]["uid"] for pod in first.namespace.pods("kimi")}
        assert (len(before), len(after), before - after) == (3, 4, set())


def test_a_new_leader_whose_first_lists_were_slow_keeps_the_current_state(sandboxes: Sandboxes) -> None:
    """While this replica lists pods, the leader scales the server and then releases the Lease.

    This replica must not scale it down.
    """
    with sandboxes.open_pair() as (first, second):
        first.operator.start()
        first.namespace.create_server("kimi", _SPEC)
        first.namespace.wait_until_ready("kimi")
        slow = Silence()
        with second.proxy.fault(slow, _lists(POD)):
            second.operator.launch()
            wait_for(functools.partial(second.proxy.count, _has_listed(SERVER)), "servers are listed")
            second.proxy.freeze_watches(lambda call: call.concerns(SERVER))
            first.namespace.change_server("kimi", {"replicas": 3})
            first.namespace.wait_until_ready("kimi")
            before = {pod["metadata"]["uid"] for pod in first.namespace.pods("kimi")}
            assert first.operator.stop() == 0
            first.namespace.change_server("kimi", {"replicas": 4})
        slow.end()
        _wait_for_takeover(second)
        first.namespace.wait_until_ready("kimi")
        after = {pod["metadata"]["uid"] for pod in first.namespace.pods("kimi")}
        assert (len(before), len(after), before - after) == (3, 4, set())
        second.proxy.heal()
        first.operator.launch()
        wait_for(first.operator.told, "the first replica runs again and waits", _is_waiting)


def _lists(kind: Kind) -> Matches:
    """Match the lists of a kind that show objects."""
    return lambda call: call.is_list and call.concerns(kind) and "fieldSelector" not in call.query


def _has_listed(kind: Kind) -> Matches:
    return lambda call: _lists(kind)(call) and call.status == _OK and call.ended is not None


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_replica_that_lost_the_lease_writes_nothing_when_it_recovers(stories: dict[str, Story], trouble: str) -> None:
    assert stories[trouble].late == []


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_recovered_replica_takes_over_when_needed(stories: dict[str, Story], trouble: str) -> None:
    story = stories[trouble]
    wait_for(story.first.operator.told, "the first replica waits", _is_waiting)
    assert story.second.operator.stop() == 0
    story.first.namespace.change_server("kimi", {"toolCallParser": "disabled"})
    story.first.namespace.wait_until_ready("kimi")
    for number in range(_NEW_SERVERS):
        story.first.namespace.wait_until_ready(f"new-{number}")


def test_the_lease_is_not_released_while_a_write_may_still_be_committed(
    sandboxes: Sandboxes, audit_log: AuditLog
) -> None:
    """A write may be slow, for example because of a webhook, and its sender may have given up."""
    with sandboxes.open_pair() as (first, second):
        first.operator.start()
        second.operator.launch()
        wait_for(second.operator.told, "the second replica waits", lambda text: "Waiting:" in text)
        mark = audit_log.mark()
        first.proxy.begin(commit_late(STOP_SECONDS + 2), lambda call: call.is_write and call.concerns(DEPLOYMENT))
        first.namespace.create_server("kimi", _SPEC)
        wait_for(
            lambda: first.proxy.count(lambda call: call.is_write and call.concerns(DEPLOYMENT)), "a write is under way"
        )
        assert first.operator.stop() == 0
        _wait_for_takeover(second)
        first.namespace.wait_until_ready("kimi")
        time.sleep(_AFTERMATH_SECONDS)
        [late] = _writes_of(audit_log, mark, first, DEPLOYMENT)
        taken = min(item.began for item in _leases(audit_log, mark, first.namespace.name) if item.status == _OK)
        assert late.ended < taken
        assert not [call for call in first.proxy.calls if _gives_back(call)]


def _writes_of(audit_log: AuditLog, mark: int, first: Sandbox, kind: Kind) -> list[Request]:
    return [item for item in _writes(audit_log, mark, first) if item.resource == kind.plural]


def _leases(audit_log: AuditLog, mark: int, namespace: str) -> list[Request]:
    """Return the second replica's write of the Lease."""
    found = audit_log.writes(mark, user_of(PAIR_ACCOUNTS[1]), namespace)
    return [item for item in found if item.resource == LEASE.plural]


def _is_applied(call: Call) -> bool:
    return call.is_write and call.concerns(DEPLOYMENT, "kimi") and call.status == _OK


def _gives_back(call: Call) -> bool:
    return call.is_write and call.concerns(LEASE) and not json.loads(call.body)["spec"]["holderIdentity"]


def _ended(call: Call) -> float:
    assert call.ended
    return call.ended


def _is_waiting(text: str) -> bool:
    """Return whether a log says that the replica waits, and not that it leads after that."""
    return text.rfind("Waiting:") > text.rfind("Leading as")
