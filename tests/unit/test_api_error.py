"""What an answer of the API server means for when to ask again."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import ApiClient, Configuration

from kimi_linear_operator.cluster import LONGEST_RETRY_SECONDS, ApiError, Cluster
from kimi_linear_operator.resources import SERVER


async def refusal(status: int, retry_after: str) -> ApiError:
    """Ask an API server that answers so, and return the error."""

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=status, text="no", headers={"Retry-After": retry_after})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", refuse)
    async with TestServer(application) as server, ApiClient(Configuration(host=str(server.make_url("")))) as client:
        with pytest.raises(ApiError) as caught:
            await Cluster(client).get(SERVER, "default", "kimi")
    return caught.value


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("2", 2),
        ("3600", LONGEST_RETRY_SECONDS),
        ("9" * 400, LONGEST_RETRY_SECONDS),
        ("", 0),
        ("Fri, 27 Nov 2026 18:00:00 GMT", 0),
    ],
    ids=["seconds", "an hour", "for ever", "nothing", "a date"],
)
def test_the_api_server_is_left_alone_as_long_as_it_asks_within_reason(retry_after: str, seconds: float) -> None:
    assert asyncio.run(refusal(503, retry_after)).retry_seconds == seconds


@pytest.mark.parametrize(
    ("status", "retry_after", "is_passing"), [(503, "", True), (500, "", False), (500, "2", True), (422, "", False)]
)
def test_what_asks_for_patience_passes(status: int, retry_after: str, is_passing: bool) -> None:
    assert asyncio.run(refusal(status, retry_after)).is_passing == is_passing
