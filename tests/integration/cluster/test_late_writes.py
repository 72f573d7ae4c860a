"""The time limit of a write is computed when its connection is open. If no time is left, the write is not sent."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from integration.sandbox import Sandboxes
from kimi_linear_operator import clock
from kimi_linear_operator.cluster.client import connect
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.transport import PendingWrites
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP

_SECONDS_TO_OPEN = 2.0
_CONNECT = aiohttp.TCPConnector.connect


def _stand_still(_: pytest.MonkeyPatch) -> None:
    """Block the process for a while, as between SIGSTOP and SIGCONT."""
    time.sleep(_SECONDS_TO_OPEN)


def _suspend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Advance only the clock that also runs while a machine is suspended, and not the monotonic clock."""
    seconds = clock.seconds
    monkeypatch.setattr(clock, "seconds", lambda: seconds() + _SECONDS_TO_OPEN)


async def _write(namespace: str, seconds: float) -> str:
    """Apply a ConfigMap, and return the error."""
    metadata = {"name": "late", "namespace": namespace}
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    async with connect() as cluster:
        try:
            await cluster.fenced(lambda: seconds, PendingWrites()).apply(CONFIG_MAP, manifest)
            wrong = ""
        except ApiError as error:
            wrong = error.message
    # Connections with TLS need a moment to close: https://docs.aiohttp.org/en/stable/client_advanced.html#graceful-shutdown
    await asyncio.sleep(1)
    return wrong


@pytest.mark.parametrize(("seconds", "is_sent"), [(30.0, True), (1.9, False)], ids=["in time", "too late"])
@pytest.mark.parametrize("pause", [_stand_still, _suspend])
def test_a_write_gets_only_the_time_that_is_left(
    sandboxes: Sandboxes,
    monkeypatch: pytest.MonkeyPatch,
    pause: Callable[[pytest.MonkeyPatch], None],
    seconds: float,
    is_sent: bool,
) -> None:
    async def connect_and_pause(*arguments: Any, **options: Any) -> Any:
        connection = await _CONNECT(*arguments, **options)
        pause(monkeypatch)
        return connection

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect_and_pause)
    with sandboxes.open() as sandbox:
        monkeypatch.setenv("KUBECONFIG", str(sandbox.operator.kubeconfig))
        wrong = asyncio.run(_write(sandbox.namespace.name, seconds))
        assert ("the time limit of the request passed before it was sent" in wrong) == (not is_sent)
        assert (sandbox.namespace.find(CONFIG_MAP, "late") is not None) == is_sent
        limits = [float(call.query["timeout"].removesuffix("s")) for call in sandbox.proxy.calls if call.is_write]
    assert len(limits) == is_sent
    assert all(0 < limit <= seconds - _SECONDS_TO_OPEN for limit in limits)
