"""Which answers of the API server lead to a retry."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from answering import answering, refused
from kimi_linear_operator import counters
from kimi_linear_operator.cluster.answer import LONGEST_RETRY_SECONDS
from kimi_linear_operator.cluster.client import connect_to
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.watch_session import Listener, watch_session
from kimi_linear_operator.kubernetes.kinds import JOB
from kimi_linear_operator.server.spec import SERVER


@asynccontextmanager
async def api_server(status: int, retry_after: str = "", times: int = 1) -> AsyncIterator[str]:
    """An API server that gives this answer a few times, and then answers with success. Yields its address."""
    answers = iter([status] * times)

    async def answer(_: web.Request) -> web.Response:
        found = next(answers, 200)
        return refused(found, headers={"Retry-After": retry_after}) if found >= 400 else web.Response(text="{}")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        yield str(server.make_url("")).rstrip("/")


async def refusal(status: int, retry_after: str) -> ApiError:
    """Send a request to an API server that gives this answer, and return the error."""
    async with api_server(status, retry_after) as address, connect_to(Configuration(host=address)) as cluster:
        with pytest.raises(ApiError) as caught:
            await cluster.get(SERVER, "default", "kimi")
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
def test_the_operator_waits_as_long_as_the_api_server_asks_within_limits(retry_after: str, seconds: float) -> None:
    assert asyncio.run(refusal(503, retry_after)).retry_seconds == seconds


@pytest.mark.parametrize(
    ("status", "retry_after", "is_passing"),
    [(503, "", True), (500, "", True), (403, "", False), (500, "2", True), (422, "", False)],
)
def test_errors_of_the_server_are_temporary_and_refusals_are_not(
    status: int, retry_after: str, is_passing: bool
) -> None:
    assert asyncio.run(refusal(status, retry_after)).is_passing == is_passing


def test_a_watch_whose_credentials_are_refused_is_retried_until_they_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    observed: list[tuple[str, int]] = []

    async def watch() -> int:
        async with api_server(401, times=5) as address:
            user = {"name": "me", "user": {"token": "t"}}
            cluster = {"name": "it", "cluster": {"server": address}}
            context = {"name": "it", "context": {"cluster": "it", "user": "me"}}
            told = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "it"}
            (tmp_path / "config").write_text(yaml.safe_dump(told))
            monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
            session = await watch_session(
                {"/api/v1/pods": Listener(lambda _, status: heard.append(status))},
                lambda verb, status: observed.append((verb, status)),
            )
            async with session.client, session.client.get(f"{session.server}/api/v1/pods?watch=true") as response:
                return response.status

    assert asyncio.run(watch()) == 200
    assert heard == [401] * 5 + [200]
    assert observed == [("WATCH", status) for status in heard]


NO_PERMISSION = (
    'pods "a" is forbidden: User "system:serviceaccount:kimi:kimi" cannot patch resource "pods" in API group ""'
)
QUOTA = 'jobs.batch "a" is forbidden: exceeded quota: few, requested: count/jobs.batch=1, used: 3, limited: 3'
LIMIT = 'persistentvolumeclaims "a" is forbidden: minimum storage usage per PersistentVolumeClaim is 2Gi'
POLICY = 'admission webhook "policy.example" denied the request: no'


@pytest.mark.parametrize(("message", "counts"), [(NO_PERMISSION, 1), (QUOTA, 0), (LIMIT, 0), (POLICY, 0)])
def test_only_a_missing_permission_counts_as_one(message: str, counts: int) -> None:
    """The status of the object quotes a full quota. An administrator need not know about it."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return refused(403, message)

    async def test() -> None:
        async with answering(answer, counters.count_request) as cluster:
            with pytest.raises(ApiError):
                await cluster.get(JOB, "default", "a")

    before = counters.FORBIDDEN_REQUESTS.labels("GET")._value.get()
    asyncio.run(test())
    assert counters.FORBIDDEN_REQUESTS.labels("GET")._value.get() - before == counts
