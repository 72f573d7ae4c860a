"""An API server with the answers of a test, for faults that a real API server does not show on demand."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from kimi_linear_operator.cluster.client import Cluster, connect_to
from kimi_linear_operator.cluster.transport import Observe, ignore_answer
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest

UNFIT_PATCH = "the server rejected our request due to an error in our request"
"""The message of the API server about a JSON patch with a test that fails. The status is 422."""


def refused(status: int, message: str = "", headers: Mapping[str, str] | None = None, **more: Any) -> web.Response:
    """Return an error of the API server."""
    content = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status, **more}
    return web.json_response(content, status=status, headers=headers)


def stored_object(kind: Kind, name: str) -> Manifest:
    """Return a stored object with nothing but its identity."""
    identity = {"name": name, "namespace": "default", "uid": "u", "resourceVersion": "1"}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": identity}


@asynccontextmanager
async def answering(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], observe: Observe = ignore_answer
) -> AsyncIterator[Cluster]:
    """A cluster whose API server gives this answer to every request."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        address = str(server.make_url("")).rstrip("/")
        async with connect_to(Configuration(host=address), observe) as cluster:
            yield cluster
