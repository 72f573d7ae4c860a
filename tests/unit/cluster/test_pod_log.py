"""The end of a pod's log: the request, and the possible answers."""

import asyncio

import pytest
from aiohttp import web

from answering import answering
from kimi_linear_operator.cluster import transport as module
from kimi_linear_operator.cluster.client import TAIL_BYTES, TAIL_LINES
from kimi_linear_operator.cluster.errors import ApiError

POD = {"metadata": {"name": "kimi-1", "namespace": "models"}}


def read(answer: web.Response, since_seconds: float | None = None) -> tuple[str, web.Request]:
    """Read a log from an API server with this answer. Return the log and the request."""
    asked: list[web.Request] = []

    async def respond(request: web.Request) -> web.Response:
        asked.append(request)
        return answer

    async def test() -> str:
        async with answering(respond) as cluster:
            return await cluster.pod_log_tail(POD, "engine", since_seconds)

    return asyncio.run(test()), asked[0]


def test_the_end_of_one_containers_log_is_requested_with_timestamps() -> None:
    _, request = read(web.Response(text=""))
    assert (request.method, request.path) == ("GET", "/api/v1/namespaces/models/pods/kimi-1/log")
    wanted = {"container": "engine", "timestamps": "true", "tailLines": str(TAIL_LINES), "limitBytes": str(TAIL_BYTES)}
    assert dict(request.query) == wanted
    assert "*/*" in request.headers["Accept"]


@pytest.mark.parametrize(("seconds", "asked"), [(0.0, "1"), (9.2, "10"), (60.0, "60")])
def test_a_request_can_be_limited_to_the_last_seconds(seconds: float, asked: str) -> None:
    assert read(web.Response(text=""), seconds)[1].query["sinceSeconds"] == asked


def test_the_text_is_returned_whatever_bytes_it_has() -> None:
    text, _ = read(web.Response(body=b"2026-11-28T21:50:44.1Z one\n2026-11-28T21:50:45.1Z \xff\n"))
    assert text == "2026-11-28T21:50:44.1Z one\n2026-11-28T21:50:45.1Z \N{REPLACEMENT CHARACTER}\n"


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_an_error_is_raised_with_its_status(status: int) -> None:
    with pytest.raises(ApiError, match="not now") as raised:
        read(web.json_response({"kind": "Status", "message": "not now"}, status=status))
    assert raised.value.status == status


def test_a_log_longer_than_requested_is_not_kept_in_memory() -> None:
    with pytest.raises(ApiError, match="more than"):
        read(web.Response(text="x" * (TAIL_BYTES + 1)))


def test_a_node_that_does_not_answer_costs_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._READ_SECONDS, "LOG", 0.1)

    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async def test() -> None:
        async with answering(hang) as cluster:
            with pytest.raises(ApiError, match="no answer"):
                await cluster.pod_log_tail(POD, "engine")

    asyncio.run(test())
