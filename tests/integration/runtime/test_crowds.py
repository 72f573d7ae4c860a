"""Many servers. They become Ready although writes fail, and cause no writes after that."""

import time
from collections.abc import Iterable, Iterator

import pytest

from integration.audit import AuditLog, Request
from integration.faults import Call, error_event, refuse_every
from integration.sandbox import SANDBOX_ACCOUNT, Sandbox, Sandboxes, user_of
from integration.waiting import stays, wait_for
from kimi_linear_operator.cluster.transport import REQUEST_TIMEOUT_SECONDS
from kimi_linear_operator.kubernetes.kinds import EVENT, LEASE
from kimi_linear_operator.server.spec import SERVER

_SERVERS = 50
_EVERY_NTH_WRITE_FAILS = 7
# A write whose content was refused is tried again after 15 seconds, and may be refused again.
_PATIENCE_SECONDS = 120.0
_SETTLE_SECONDS = 2.0


def _is_write(call: Call) -> bool:
    return call.is_write and not call.concerns(LEASE)


@pytest.fixture(scope="module")
def crowd(sandboxes: Sandboxes) -> Iterator[Sandbox]:
    """A sandbox with many servers, each with one GPU. They were created while every seventh write failed."""
    with sandboxes.open() as sandbox:
        sandbox.operator.start()
        with sandbox.proxy.fault(refuse_every(_EVERY_NTH_WRITE_FAILS, 409, 422, 500), _is_write):
            for number in range(_SERVERS):
                sandbox.namespace.create_server(f"kimi-{number}", {"tensorParallelism": 1})
            for number in range(_SERVERS):
                sandbox.namespace.wait_until_ready(f"kimi-{number}", _PATIENCE_SECONDS)
        yield sandbox


def test_servers_become_ready_although_many_writes_fail(crowd: Sandbox) -> None:
    refused = [call.status for call in crowd.proxy.calls if _is_write(call) and call.status >= 400]
    assert {409, 422, 500} <= set(refused)
    assert len(refused) > _SERVERS / 4


def test_many_servers_at_rest_cause_no_writes(crowd: Sandbox, audit_log: AuditLog) -> None:
    """There is no write while all watches restart, after a restart of the operator, or after the following lists."""
    namespace = crowd.namespace
    _wait_until_quiet(crowd)
    mark = audit_log.mark()

    def writes() -> list[Request]:
        found = audit_log.writes(mark, user_of(SANDBOX_ACCOUNT), namespace.name)
        return [item for item in found if item.resource != LEASE.plural]

    crowd.proxy.cut_watches(last=error_event(410))
    stays(writes, "no writes while the watches restart", lambda found: not found, _SETTLE_SECONDS)
    crowd.operator.stop()
    crowd.proxy.calls.clear()
    crowd.operator.start()
    crowd.wait_for_resync()
    stays(writes, "no writes after a restart and a list", lambda found: not found, _SETTLE_SECONDS)
    # Also, the servers are not read one by one.
    assert crowd.proxy.count(lambda call: not call.is_write and call.concerns(SERVER, "kimi-0")) == 0


def _wait_until_quiet(sandbox: Sandbox) -> None:
    """Wait until all refused writes have succeeded (a refused status may take half a minute), and no writes follow."""
    wait_for(
        lambda: _unwritten(sandbox.proxy.calls),
        "all refused writes have succeeded",
        lambda it: not it,
        _PATIENCE_SECONDS,
    )
    wait_for(
        lambda: _seconds_since_write(sandbox.proxy.calls),
        "nothing is written for a while",
        lambda seconds: seconds > _SETTLE_SECONDS,
        _PATIENCE_SECONDS,
    )


def _unwritten(calls: Iterable[Call]) -> list[str]:
    """Return the paths whose last write was refused. Events are left out, because the operator does not repeat them."""
    last = {call.path: call.status for call in calls if _is_write(call) and not call.concerns(EVENT)}
    return [path for path, status in last.items() if status >= 400]


def _seconds_since_write(calls: Iterable[Call]) -> float:
    # A cancelled request has no end time.
    ends = [call.ended or call.began + REQUEST_TIMEOUT_SECONDS for call in calls if _is_write(call)]
    return time.monotonic() - max(ends, default=0.0)
