"""Many large objects that change at the same time fill no memory, and the cache gets the same as from a list."""

import asyncio
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster import reading_time
from kimi_linear_operator.cluster.paths import path
from kimi_linear_operator.kubernetes.kinds import REVISION, Kind
from kimi_linear_operator.reconcile.cached_object import CachedObject
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.kopf_watch import Watch
from kimi_linear_operator.runtime.scopes import Scope
from kimi_linear_operator.server.spec import SERVER
from passes import READER
from unit.cluster.test_watch_answers import until, write_kubeconfig

NESTED = json.loads('{"":' * 80 + "0" + "}" * 80)


def child(number: int, data: Any, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"child-{number}",
            "namespace": "default",
            "uid": f"child-{number}",
            "resourceVersion": str(100 + number),
            "labels": {"app.kubernetes.io/managed-by": "kimi-linear-operator", SERVER_LABEL: "kimi"},
            **metadata,
        },
        "data": data,
        "revision": 1,
    }


def server(number: int, spec: Any, **parts: Any) -> dict[str, Any]:
    about = {"name": f"server-{number}", "namespace": "default", "uid": f"s-{number}"}
    return {
        "apiVersion": SERVER.api_version,
        "kind": SERVER.kind,
        "metadata": {**about, "resourceVersion": str(200 + number), "generation": 1},
        "spec": spec,
        **parts,
    }


def nested(size: int) -> list[Any]:
    return [NESTED] * (size // len(json.dumps(NESTED)))


SERVER_LABEL = TYPES[SERVER].model.label()
CHILDREN = [
    child(1, {"small": 1}),
    child(2, {"text": "a" * 20_000}),
    child(3, {"text": "a" * 600_000}),
    child(4, {"text": "a" * 1_100_000}),
    child(5, nested(600_000)),
    child(6, {}, annotations={"any": "b" * 200_000}),
]
SERVERS = [
    server(1, {"replicas": 1}),
    server(2, {"podTemplate": {"spec": {"x": "a" * 100_000}}}),
    server(3, {"podTemplate": {"spec": {"x": "a" * 400_000}}}),
    server(4, {"podTemplate": {"spec": {"x": nested(600_000)}}}),
    server(5, {"replicas": 1}, status={"conditions": [], "x": "a" * 100_000}),
]


def watched(folder: Path, monkeypatch: pytest.MonkeyPatch, sent: dict[Kind, list[bytes]]) -> list[CachedObject]:
    """Return what the real watch passes on when an API server sends these lines."""
    seen: list[CachedObject] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        response = web.StreamResponse()
        await response.prepare(request)
        for kind, lines in sent.items():
            for line in lines if request.path == path(kind, "default") else ():
                await response.write(line)
        await asyncio.sleep(60)
        return response

    async def test() -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", answer)
        async with TestServer(application, shutdown_timeout=0.1) as running:
            write_kubeconfig(folder / "config", str(running.make_url("")).rstrip("/"))
            monkeypatch.setenv("KUBECONFIG", str(folder / "config"))
            scopes = tuple(Scope(kind, "default") for kind in sent)
            watch = Watch(["default"], scopes, READER, seen.append, lambda _: None)
            watching = asyncio.create_task(asyncio.to_thread(watch.run))
            try:
                await until(lambda: len(seen) == sum(map(len, sent.values())))
            finally:
                watch.stop()
                await watching

    asyncio.run(test())
    return seen


def line(kind: str, manifest: dict[str, Any]) -> bytes:
    return jsontext.encode({"type": kind, "object": manifest}) + b"\n"


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_large_objects_that_are_deleted_together_are_in_memory_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # While memory is traced, reading takes several times as long.
    monkeypatch.setattr(reading_time, "BURST_SECONDS", 60)
    lines = [line("DELETED", child(number, nested(400_000))) for number in range(12)]
    before = tracemalloc.get_traced_memory()[0]
    decoded = jsontext.decode(lines[0])
    one = tracemalloc.get_traced_memory()[0] - before
    del decoded
    tracemalloc.reset_peak()
    seen = watched(tmp_path, monkeypatch, {REVISION: lines})
    assert all(cached.is_deleted for cached in seen)
    assert tracemalloc.get_traced_memory()[1] - before < 2 * one + sum(map(len, lines)) * 2


def test_the_cache_gets_the_same_from_a_large_event_as_from_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = {
        REVISION: [line("ADDED", manifest) for manifest in CHILDREN],
        SERVER: [line("ADDED", manifest) for manifest in SERVERS],
    }
    seen = {cached.key: cached for cached in watched(tmp_path, monkeypatch, sent)}
    listed = [READER.read(REVISION, manifest) for manifest in CHILDREN]
    listed += [READER.read(SERVER, manifest) for manifest in SERVERS]
    assert seen == {cached.key: cached for cached in listed}
