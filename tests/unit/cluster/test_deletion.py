"""Deletions that the operator requests."""

import asyncio

from aiohttp import web

from answering import answering, stored_object
from kimi_linear_operator.kubernetes.kinds import JOB, Manifest

LIVE = stored_object(JOB, "kimi")
# A finalizer can hold such an object for ever.
TERMINATING = {**LIVE, "metadata": {**LIVE["metadata"], "deletionTimestamp": "2026-11-30T12:00:00Z"}}


def requests_for(manifest: Manifest) -> list[str]:
    seen: list[str] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(request.method)
        return web.json_response({"kind": "Status", "status": "Success"})

    async def test() -> None:
        async with answering(note) as cluster:
            await cluster.delete(JOB, manifest)
            await cluster.delete(JOB, manifest, children_first=True)
            await cluster.delete(JOB, manifest, if_unchanged=True)

    asyncio.run(test())
    return seen


def test_an_object_that_is_already_being_deleted_is_not_deleted_again() -> None:
    assert requests_for(TERMINATING) == []
    assert requests_for(LIVE) == ["DELETE"] * 3
