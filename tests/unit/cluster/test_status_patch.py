"""The status of an object is exactly what the operator writes, although the API server merges it."""

import asyncio
from typing import Any

from aiohttp import web

from answering import answering
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.spec import SERVER
from make import make_server


def merged(before: Any, patch: Any) -> Any:
    """Merge as RFC 7386 says."""
    if not isinstance(patch, dict):
        return patch
    kept = before if isinstance(before, dict) else {}
    result = {**kept, **{name: merged(kept.get(name), value) for name, value in patch.items()}}
    return {name: value for name, value in result.items() if patch.get(name, value) is not None}


def written(before: Manifest, after: Manifest) -> Manifest:
    """Return the status after it was written over another one."""
    bodies: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        return web.json_response({"metadata": {"resourceVersion": "2"}})

    async def write() -> None:
        async with answering(answer) as cluster:
            assert isinstance(cluster, Cluster)
            await cluster.patch_status(SERVER, {**make_server(), "status": before}, after)

    asyncio.run(write())
    return dict(merged(before, bodies[0]["status"]))


def test_what_the_status_no_longer_has_is_removed_at_every_level() -> None:
    before = {"url": "u", "environment": {"server": "kimi", "hardware": {"gpu": 8}}, "results": [{"a": 1}]}
    after = {"environment": {"server": "kimi"}, "results": [{"b": 2}], "image": "i"}
    assert written(before, after) == after
