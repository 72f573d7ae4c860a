"""How requests are sent. A write gets the rest of its time limit, and all requests use the proxy if there is one."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from answering import answering, stored_object
from kimi_linear_operator import clock
from kimi_linear_operator.cluster.client import Cluster, connect_to
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.transport import REQUEST_TIMEOUT_SECONDS, PendingWrites
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, LEASE, Manifest

_CONNECT = aiohttp.TCPConnector.connect
# More writes than the workers of a leader can have under way.
_MANY_WRITES = 200


def _manifest(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}


def _asked(act: Callable[[Cluster], Awaitable[Any]]) -> dict[str, float | None]:
    """Run a function; return the time limit in seconds of each request, by the last part of its path."""
    asked: dict[str, float | None] = {}

    async def answer(request: web.Request) -> web.Response:
        given = request.query.get("timeout")
        asked[request.path.split("/")[-1]] = float(given.removesuffix("s")) if given else None
        return web.json_response({**stored_object(CONFIG_MAP, request.path.split("/")[-1]), "items": []})

    async def test() -> None:
        async with answering(answer) as cluster:
            await act(cluster)

    asyncio.run(test())
    return asked


async def _write(cluster: Cluster, name: str, seconds: float) -> None:
    """Apply a ConfigMap within this time."""
    await cluster.fenced(lambda: seconds, PendingWrites()).apply(CONFIG_MAP, _manifest(name))


def test_each_of_several_concurrent_writes_has_its_own_time_limit() -> None:
    async def write(cluster: Cluster) -> None:
        await asyncio.gather(*(_write(cluster, name, seconds) for name, seconds in allowed.items()))

    allowed = {"short": 4.0, "long": 9.0, "endless": 99.0}
    wanted = {**allowed, "endless": REQUEST_TIMEOUT_SECONDS}
    asked = _asked(write)
    assert asked == {name: pytest.approx(seconds, abs=1) for name, seconds in wanted.items()}
    assert all((asked[name] or 0) <= seconds for name, seconds in wanted.items())


def test_a_write_gets_the_time_that_is_left_when_its_connection_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    _pass_while_connecting(monkeypatch, 6.0)
    asked = _asked(lambda cluster: _write(cluster, "late", 9.0))
    assert asked == {"late": pytest.approx(3.0, abs=1)}


def test_a_write_whose_time_is_over_when_its_connection_opens_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    _pass_while_connecting(monkeypatch, 6.0)

    async def write(cluster: Cluster) -> None:
        with pytest.raises(ApiError, match="the time limit of the request passed before it was sent"):
            await _write(cluster, "too-late", 5.0)

    assert _asked(write) == {}


def _pass_while_connecting(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let time pass while a connection opens, but only on the clock that also runs while a machine is suspended."""

    async def connect(*arguments: Any, **options: Any) -> Any:
        connection = await _CONNECT(*arguments, **options)
        monkeypatch.setattr(clock, "seconds", lambda began=clock.seconds: began() + seconds)
        return connection

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect)


def test_requests_that_write_nothing_have_no_such_time_limit() -> None:
    async def read(cluster: Cluster) -> None:
        await cluster.get(CONFIG_MAP, "default", "read")
        await cluster.list(CONFIG_MAP, "default")
        await cluster.apply(CONFIG_MAP, _manifest("tried"), dry_run=True)

    assert _asked(read) == {"read": None, "configmaps": None, "tried": None}


def test_a_delete_that_is_sent_again_on_a_new_connection_keeps_its_time_limit() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.query.get("timeout", ""))
        if len(asked) == 2 and request.transport:
            request.transport.abort()
        return web.json_response({"kind": "Status", "status": "Success"})

    async def test() -> None:
        async with answering(answer) as cluster:
            for _ in range(2):
                await cluster.fenced(lambda: 7.0, PendingWrites()).delete(CONFIG_MAP, _live("gone"))

    asyncio.run(test())
    assert [float(seconds.removesuffix("s")) for seconds in asked] == [pytest.approx(7.0, abs=1)] * 3


def _live(name: str) -> Manifest:
    manifest = _manifest(name)
    return {**manifest, "metadata": {**manifest["metadata"], "uid": "u"}}


def test_every_answer_is_reported_by_verb_and_status() -> None:
    told: list[tuple[str, int]] = []

    def tell(verb: str, status: int, **_: bool) -> None:
        told.append((verb, status))

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"items": []}, status=409 if request.method == "PATCH" else 403)

    async def test() -> None:
        async with answering(answer, tell) as cluster:
            with suppress(ApiError):
                await cluster.get(CONFIG_MAP, "default", "missing")
            with suppress(ApiError):
                await cluster.apply(CONFIG_MAP, _manifest("taken"))
            with suppress(ApiError):
                await cluster.list(CONFIG_MAP, "default")
        nowhere = Configuration(host="http://127.0.0.1:1")
        async with connect_to(nowhere, tell) as cluster:
            with suppress(ApiError):
                await cluster.get(CONFIG_MAP, "default", "missing")

    asyncio.run(test())
    assert told == [("GET", 403), ("APPLY", 409), ("LIST", 403), ("GET", 0)]


def test_requests_through_a_proxy_use_its_headers_and_the_servers_own_name() -> None:
    asked, hello = asyncio.run(_sent_to_a_proxy(tls_server_name="api.corp", proxy_headers={"X-Pass": "secret"}))
    assert asked[0] == "CONNECT api.invalid:6443 HTTP/1.1"
    assert "X-Pass: secret" in asked
    assert b"api.corp" in hello


async def _sent_to_a_proxy(**options: Any) -> tuple[list[str], bytes]:
    """Send a request through a proxy; return the request to the proxy, and the start of TLS beyond it."""
    sent = asyncio.Queue[tuple[list[str], bytes]]()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        sent.put_nowait((asked, await reader.read(4096)))
        writer.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as proxy:
        address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        async with connect_to(Configuration(host="https://api.invalid:6443", proxy=address, **options)) as cluster:
            with suppress(ApiError):
                await cluster.get(CONFIG_MAP, "default", "kimi")
        return sent.get_nowait()


def test_without_keep_alive_no_request_waits_on_a_connection_that_has_died() -> None:
    """An API server that moves to another node leaves connections behind, which swallow every further request."""
    used = set[object]()

    async def answer(request: web.Request) -> web.Response:
        if request.transport in used:
            await asyncio.sleep(60)
        used.add(request.transport)
        return web.json_response(stored_object(LEASE, "lease"))

    async def test() -> None:
        async with (
            answering(answer) as cluster,
            connect_to(Configuration(host=cluster.server), keep_alive=False) as of_lease,
        ):
            for _ in range(3):
                await of_lease.get(LEASE, "default", "lease")

    asyncio.run(asyncio.wait_for(test(), 30))
    assert len(used) == 3


def test_a_lease_is_renewed_at_once_however_many_writes_hang() -> None:
    """Slow webhooks may delay more writes than a pool has connections."""
    hanging, healed = 0, asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        nonlocal hanging
        if "configmaps" in request.path:
            hanging += 1
            await healed.wait()
            return web.json_response(stored_object(CONFIG_MAP, request.path.split("/")[-1]))
        return web.json_response(stored_object(LEASE, "lease"))

    async def test() -> None:
        async with answering(answer) as cluster:
            writes = [asyncio.create_task(_write(cluster, f"slow-{number}", 99.0)) for number in range(_MANY_WRITES)]
            while hanging < _MANY_WRITES:  # noqa: ASYNC110 - a request that waits for a connection sets nothing
                await asyncio.sleep(0.01)
            await cluster.replace(LEASE, {"metadata": {"name": "lease", "namespace": "default"}})
            assert hanging == _MANY_WRITES
            healed.set()
            await asyncio.gather(*writes)

    asyncio.run(asyncio.wait_for(test(), 60))
