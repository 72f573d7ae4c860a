"""What is neither an object nor an error of Kubernetes counts as no answer, so the request is sent again later.

Something else than the API server may answer, for example a proxy in maintenance. The credentials may be unreadable
while the kubelet replaces them.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from answering import answering, refused, stored_object
from kimi_linear_operator.cluster import credentials
from kimi_linear_operator.cluster.client import Cluster, connect_to
from kimi_linear_operator.cluster.errors import UNREACHABLE, ApiError, Meaning
from kimi_linear_operator.cluster.watch_session import Listener, watch_session
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, POD, Manifest

OBJECT: Manifest = {**stored_object(DEPLOYMENT, "kimi"), "spec": {}}
Act = Callable[[Cluster], Awaitable[Any]]

REQUESTS: dict[str, Act] = {
    "get": lambda cluster: cluster.get(DEPLOYMENT, "default", "kimi"),
    "apply": lambda cluster: cluster.apply(DEPLOYMENT, OBJECT),
    "apply_new": lambda cluster: cluster.apply_new(DEPLOYMENT, OBJECT),
    "overwrite": lambda cluster: cluster.overwrite(DEPLOYMENT, OBJECT),
    "scale": lambda cluster: cluster.scale(DEPLOYMENT, OBJECT, 1),
    "annotate": lambda cluster: cluster.annotate(DEPLOYMENT, OBJECT, "a", "b"),
    "remove_annotation": lambda cluster: cluster.remove_annotation(DEPLOYMENT, OBJECT, "a"),
    "patch_status": lambda cluster: cluster.patch_status(DEPLOYMENT, OBJECT, {}),
    "set_condition": lambda cluster: cluster.set_condition(DEPLOYMENT, OBJECT, {"type": "Ready"}),
    "create": lambda cluster: cluster.create(DEPLOYMENT, OBJECT),
    "replace": lambda cluster: cluster.replace(DEPLOYMENT, OBJECT),
}


def _without(name: str) -> Manifest:
    metadata = {key: value for key, value in OBJECT["metadata"].items() if key != name}
    return {**OBJECT, "metadata": metadata}


ODD_ANSWERS: dict[str, Any] = {
    "a page of a proxy as JSON": {"status": "maintenance"},
    "a success without the object": {"kind": "Status", "metadata": {}, "status": "Success"},
    "another kind": {**OBJECT, "kind": "ReplicaSet"},
    "another object": {**OBJECT, "metadata": {**OBJECT["metadata"], "name": "other"}},
    "no metadata": {"kind": "Deployment", "metadata": None},
    "no name": _without("name"),
    "no UID": _without("uid"),
    "no resource version": _without("resourceVersion"),
    "a list": [OBJECT],
}


@pytest.mark.parametrize("answer", ODD_ANSWERS)
@pytest.mark.parametrize("request_name", REQUESTS)
def test_an_answer_that_is_not_the_object_counts_as_no_answer(request_name: str, answer: str) -> None:
    async def odd(_: web.Request) -> web.Response:
        return web.json_response(ODD_ANSWERS[answer])

    async def test() -> None:
        async with answering(odd) as cluster:
            with pytest.raises(ApiError) as raised:
                await REQUESTS[request_name](cluster)
            assert raised.value.status == UNREACHABLE
            assert raised.value.is_passing

    asyncio.run(test())


DELETE: Act = lambda cluster: cluster.delete(DEPLOYMENT, OBJECT)  # noqa: E731
# The deleted object can stay for a while, for example because of a finalizer.
DELETED: dict[str, Manifest] = {
    "a success": {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"},
    "the object": {**OBJECT, "metadata": {**OBJECT["metadata"], "deletionTimestamp": "2026-11-30T12:00:00Z"}},
}
NOT_DELETED: dict[str, Any] = {
    **{name: answer for name, answer in ODD_ANSWERS.items() if name != "a success without the object"},
    "an object that was made anew": {**OBJECT, "metadata": {**OBJECT["metadata"], "uid": "other"}},
    "a failure": {"kind": "Status", "metadata": {}, "status": "Failure"},
    "a success of a proxy": {"status": "Success"},
    "an empty object": {},
}


def _answer_to_delete(content: Any) -> None:
    async def odd(_: web.Request) -> web.Response:
        return web.json_response(content)

    async def test() -> None:
        async with answering(odd) as cluster:
            await DELETE(cluster)

    asyncio.run(test())


@pytest.mark.parametrize("answer", DELETED)
def test_the_api_server_says_that_it_deletes_an_object(answer: str) -> None:
    _answer_to_delete(DELETED[answer])


@pytest.mark.parametrize("answer", NOT_DELETED)
def test_another_answer_does_not_say_that_an_object_is_deleted(answer: str) -> None:
    with pytest.raises(ApiError) as raised:
        _answer_to_delete(NOT_DELETED[answer])
    assert raised.value.status == UNREACHABLE
    assert raised.value.is_passing


# What the API server says about the content of a request, or about a permission.
VERDICTS = (400, 403, 409, 410, 413, 415, 422)
PAGES: dict[str, str] = {
    "a page": "<html><body><h1>Request Entity Too Large</h1></body></html>",
    "a text like that of the API server": "request is too large",
    "a text like that of a webhook": 'admission webhook "proxy" denied the request',
    "JSON": json.dumps({"message": "failed to create typed patch object", "code": 422}),
    "JSON that is no object": json.dumps(["Forbidden"]),
    "nothing": "",
}


@pytest.mark.parametrize("text", PAGES)
@pytest.mark.parametrize("status", [*VERDICTS, 408, 429, 500, 502])
@pytest.mark.parametrize("request_name", [*REQUESTS, "delete"])
def test_an_error_that_is_no_status_of_kubernetes_says_nothing_about_the_request(
    request_name: str, status: int, text: str
) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(status=status, text=PAGES[text])

    async def test() -> ApiError:
        async with answering(page) as cluster:
            with pytest.raises(ApiError) as raised:
                await {**REQUESTS, "delete": DELETE}[request_name](cluster)
            return raised.value

    error = asyncio.run(test())
    assert (error.status, error.meaning) == (UNREACHABLE, Meaning.RETRY)
    assert not error.is_about_content
    assert str(status) in error.message, "people can read what has answered"
    assert PAGES[text] in error.message


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (400, Meaning.WRONG_SPEC),
        (403, Meaning.FORBIDDEN),
        (409, Meaning.RETRY),
        (413, Meaning.WRONG_SPEC),
        (415, Meaning.WRONG_SPEC),
        (422, Meaning.WRONG_SPEC),
    ],
)
def test_a_status_of_kubernetes_is_the_word_of_the_api_server(status: int, meaning: Meaning) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return refused(status, "no")

    async def test() -> ApiError:
        async with answering(refuse) as cluster:
            with pytest.raises(ApiError) as raised:
                await REQUESTS["apply"](cluster)
            return raised.value

    error = asyncio.run(test())
    assert (error.status, error.message, error.meaning) == (status, "no", meaning)


_NOT_FOUND: Manifest = {"kind": "Status", "status": "Failure", "reason": "NotFound", "details": {"name": "kimi"}}
OTHER_404: dict[str, str] = {
    "a page of a proxy": "default backend - 404",
    "a kind that is not served": "404 page not found",
    "no content": "",
    "JSON of a proxy": json.dumps({"status": 404}),
    "another object is missing": json.dumps({**_NOT_FOUND, "details": {"name": "other"}}),
    "no name": json.dumps({**_NOT_FOUND, "details": None}),
    "another reason": json.dumps({**_NOT_FOUND, "reason": "Unknown"}),
}


def _read_or_delete(text: str, act: Act) -> Any:
    async def missing(_: web.Request) -> web.Response:
        return web.Response(text=text, status=404)

    async def test() -> Any:
        async with answering(missing) as cluster:
            return await act(cluster)

    return asyncio.run(test())


READ_OR_DELETE: dict[str, Act] = {
    "get": REQUESTS["get"],
    "delete": DELETE,
}


@pytest.mark.parametrize("request_name", READ_OR_DELETE)
def test_the_api_server_can_say_that_an_object_does_not_exist(request_name: str) -> None:
    assert _read_or_delete(json.dumps(_NOT_FOUND), READ_OR_DELETE[request_name]) is None


@pytest.mark.parametrize("answer", OTHER_404)
@pytest.mark.parametrize("request_name", READ_OR_DELETE)
def test_another_answer_with_status_404_does_not_say_that_an_object_does_not_exist(
    request_name: str, answer: str
) -> None:
    with pytest.raises(ApiError) as raised:
        _read_or_delete(OTHER_404[answer], READ_OR_DELETE[request_name])
    assert raised.value.is_passing


async def _break(_: Configuration) -> None:
    """Fail like the client library while the file with the token is empty. This is no OSError."""
    raise RuntimeError("Token file exists but empty.")


def _broken() -> Configuration:
    """Return credentials that cannot be read again."""
    configuration = Configuration(host="http://127.0.0.1:1", api_key={"BearerToken": "x"})
    vars(configuration).update(refresh_api_key_hook=_break)
    return configuration


def test_unreadable_credentials_count_as_no_answer() -> None:
    async def test() -> None:
        configuration = _broken()
        async with connect_to(configuration) as cluster:
            for act in REQUESTS.values():
                with pytest.raises(ApiError, match="cannot authenticate: Token file") as raised:
                    await act(cluster)
                assert raised.value.is_passing

    asyncio.run(test())


def test_unreadable_credentials_end_no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """kopf retries after the error of a lost connection. Any other error would end all watches."""
    configuration = _broken()

    async def load() -> Configuration:
        return configuration

    async def test() -> None:
        monkeypatch.setattr(credentials, "configuration", load)
        answers = list[tuple[str, int]]()
        path = "/api/v1/pods"
        session = await watch_session({path: Listener(lambda verb, status: answers.append((verb, status)))})
        async with session.client as client:
            for query in ("", "?watch=true"):
                with pytest.raises(aiohttp.ClientConnectionError, match="cannot authenticate"):
                    await client.get(f"{session.server}{path}{query}")
        assert answers == [("LIST", UNREACHABLE), ("WATCH", UNREACHABLE)]

    asyncio.run(test())


def test_lost_credentials_end_no_watch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The API server refuses the token, and the new one cannot be read at this moment."""

    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "code": 401}, status=401)

    async def test() -> None:
        async with answering(refuse) as cluster:
            configuration = Configuration(host=cluster.server)

            async def load() -> Configuration:
                return configuration

            monkeypatch.setattr(credentials, "configuration", load)
            monkeypatch.setenv("KUBECONFIG", str(tmp_path / "gone"))
            session = await watch_session({"/api/v1/pods": Listener(lambda _, __: None)})
            async with session.client as client:
                with pytest.raises(aiohttp.ClientConnectionError, match="no cluster"):
                    await client.get(f"{session.server}/api/v1/{POD.plural}")

    asyncio.run(test())
