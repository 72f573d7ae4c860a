"""A server always fails, another one changes all the time, and many writes fail.

Other servers are not delayed for long.
"""

import functools
import itertools
import math
import time

from integration.faults import Call, delay, refuse
from integration.namespace import Namespace, Spec
from integration.sandbox import Sandbox
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, EVENT
from kimi_linear_operator.reconcile.errors import REPORTED_FAILURES
from kimi_linear_operator.server.spec import SERVER

_SPEC: Spec = {"tensorParallelism": 1}
_STORM_SECONDS = 8.0
_CHANGES_A_SECOND = 20
_SECONDS_OF_A_WRITE = 0.3
_QUIET_CHANGES = 3
_QUIET_SECONDS = 0.7
# How much longer than usual a change of the third server may take until it is applied.
_DELAY_SECONDS = 1.0
# Seconds until the operator retries a write whose content the API server refuses.
_RETRY_SECONDS = 15.0
_RETRY_AFTER_SECONDS = 2
# Servers, and the reason why the API server refuses their Deployments: the content, no good reason, a temporary
# problem, and an etcd that does not answer.
_REFUSED = {
    "invalid": refuse(422),
    "unlucky": refuse(500),
    "unavailable": refuse(503, {"Retry-After": str(_RETRY_AFTER_SECONDS)}),
    "forgetful": refuse(500, {"Retry-After": str(_RETRY_AFTER_SECONDS)}),
}
_ONCE = {**dict.fromkeys(_REFUSED, 1), "events": len(_REFUSED)}


def test_a_server_that_always_fails_and_one_that_always_changes_delay_no_other(sandbox: Sandbox) -> None:
    namespace, proxy = sandbox.namespace, sandbox.proxy
    for name in ("busy", "calm"):
        namespace.create_server(name, _SPEC)
    for name in ("busy", "calm"):
        namespace.wait_until_ready(name)
    quiet = _change_calm_server(namespace)
    proxy.begin(refuse(503), lambda call: _applies(call, "poison"))
    proxy.begin(delay(_SECONDS_OF_A_WRITE), lambda call: _applies(call, "busy"))
    begin = time.monotonic()
    namespace.create_server("poison", _SPEC)

    stormy = _change_calm_server_in_a_storm(namespace)

    latencies = wait_for(
        lambda: _latencies(sandbox, stormy), "all changes are applied", lambda seen: math.inf not in seen
    )
    usual = max(_latencies(sandbox, quiet))
    # The machine may have been busy with other work twice.
    assert sorted(latencies)[-3] < usual + _DELAY_SECONDS, latencies
    _assert_later_and_later([call.began for call in _deployment_writes(sandbox, "poison", begin)])
    _assert_coalesced(_deployment_writes(sandbox, "busy", begin), int(_STORM_SECONDS * _CHANGES_A_SECOND))


def _change_calm_server(namespace: Namespace) -> list[float]:
    """Change a server sometimes. Return the times of the changes."""
    changes: list[float] = []
    for number in range(_QUIET_CHANGES):
        changes.append(time.monotonic())
        _change(namespace, "calm", number)
        time.sleep(_QUIET_SECONDS)
    return changes


def _change_calm_server_in_a_storm(namespace: Namespace) -> list[float]:
    """Do the same while another server changes many times per second."""
    changes: list[float] = []
    begin = time.monotonic()
    for number in range(int(_STORM_SECONDS * _CHANGES_A_SECOND)):
        time.sleep(max(0.0, begin + number / _CHANGES_A_SECOND - time.monotonic()))
        _change(namespace, "busy", number)
        if number % _CHANGES_A_SECOND == 0:
            changes.append(time.monotonic())
            _change(namespace, "calm", _QUIET_CHANGES + number)
    return changes


def _latencies(sandbox: Sandbox, changes: list[float]) -> list[float]:
    """Return how long it took from each change of the calm server until it was applied."""
    applies = _deployment_writes(sandbox, "calm", 0)
    return [_seconds_until_applied(applies, changed) for changed in changes]


def _change(namespace: Namespace, server: str, number: int) -> None:
    """Change a field so that there are new pods."""
    namespace.change_server(server, {"podTemplate": {"metadata": {"annotations": {"change": str(number)}}}})


def _applies(call: Call, server: str) -> bool:
    return call.is_write and call.concerns(DEPLOYMENT, server)


def _deployment_writes(sandbox: Sandbox, server: str, begin: float) -> list[Call]:
    return [call for call in sandbox.proxy.calls if call.began > begin and _applies(call, server)]


def _assert_later_and_later(attempts: list[float]) -> None:
    # The first wait is at least a quarter of a second, and each further wait is twice as long. A change of the server
    # causes one more attempt at once.
    most = 2 + math.log2(1 + (attempts[-1] - attempts[0]) / 0.25)
    assert 4 <= len(attempts) <= most, attempts


def _seconds_until_applied(applies: list[Call], changed: float) -> float:
    return min((call.ended - changed for call in applies if call.ended and call.began > changed), default=math.inf)


def _assert_coalesced(applies: list[Call], changes: int) -> None:
    seconds = applies[-1].began - applies[0].began
    assert 2 < len(applies) < min(changes, 2 + seconds / _SECONDS_OF_A_WRITE)
    overlaps = [
        (before, after) for before, after in itertools.pairwise(applies) if after.began < (before.ended or float("inf"))
    ]
    assert not overlaps, "two passes over one server ran at the same time"


def test_continuing_failures_are_reported_once(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    for name, fault in _REFUSED.items():
        sandbox.proxy.begin(fault, functools.partial(_applies, server=name))
        namespace.create_server(name, _SPEC)
    ready = {name: namespace.wait_for_condition(name, "Ready", "False", "ApplyFailed") for name in _REFUSED}
    wait_for(lambda: _told(sandbox), "each failure is reported once", lambda seen: seen == _ONCE)
    told_at = time.monotonic()
    wait_for(
        lambda: [name for name in _REFUSED if not _deployment_writes(sandbox, name, told_at + _RETRY_SECONDS / 2)],
        "all Deployments are tried again",
        lambda left: not left,
    )
    stays(lambda: _told(sandbox), "the failures are not reported again", lambda seen: seen == _ONCE, 1.0)
    assert {name: namespace.condition(name, "Ready") for name in _REFUSED} == ready
    for name in ("unavailable", "forgetful"):
        attempts = [call.began for call in _deployment_writes(sandbox, name, 0)]
        assert len(attempts) > REPORTED_FAILURES
        assert min(after - before for before, after in itertools.pairwise(attempts)) >= _RETRY_AFTER_SECONDS


def _told(sandbox: Sandbox) -> dict[str, int]:
    """Return how often the operator wrote each status, and how many events it recorded."""
    writes = [call for call in sandbox.proxy.calls if call.is_write]
    statuses = {name: sum(call.concerns(SERVER, name) for call in writes) for name in _REFUSED}
    return {**statuses, "events": sum(call.concerns(EVENT) for call in writes)}
