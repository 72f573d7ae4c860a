"""A list is refused only by the API server's own word. A proxy's answer with the same status counts as no answer."""

import asyncio
import json
from typing import Any, NamedTuple

import pytest
from aiohttp import web

from answering import answering
from kimi_linear_operator.cluster import refusals
from kimi_linear_operator.cluster.errors import UNREACHABLE, ApiError, OtherVersionError
from kimi_linear_operator.kubernetes.kinds import POD, SCALED_OBJECT, Kind, Manifest


class Reply(NamedTuple):
    """The status and the body of an answer."""

    status: int
    body: str


def reply(content: Manifest, status: int = 200) -> Reply:
    return Reply(status, json.dumps(content))


def status_of(status: int, reason: str, **more: Any) -> Reply:
    """Return an error of the API server."""
    return reply({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, **more}, status)


def resources(api_version: str, *plurals: str) -> Reply:
    named = [{"name": plural, "kind": "Any", "namespaced": True} for plural in plurals]
    return reply({"kind": "APIResourceList", "groupVersion": api_version, "resources": named})


def groups(*api_versions: str) -> Reply:
    named = [{"name": each.partition("/")[0], "versions": [{"groupVersion": each}]} for each in api_versions]
    return reply({"kind": "APIGroupList", "groups": named})


NOT_SERVED = Reply(404, "404 page not found\n")
BACKEND = Reply(404, "default backend - 404")
FORBIDDEN = status_of(403, "Forbidden", message="User x cannot list resource scaledobjects")
KEDA, KEDA_V1, ALL_GROUPS, CORE = "/apis/keda.sh/v1alpha1", "/apis/keda.sh/v1", "/apis", "/api/v1"


def refused(replies: dict[str, Reply], first: Reply, kind: Kind = SCALED_OBJECT) -> tuple[ApiError, list[str]]:
    """List a kind. Return the error, and the paths that were asked for after the list."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        status, body = first if "limit" in request.query else replies.get(request.path, NOT_SERVED)
        return web.Response(status=status, text=body)

    async def test() -> ApiError:
        async with answering(answer) as cluster:
            with pytest.raises(ApiError) as raised:
                await cluster.list(kind, "default")
            return raised.value

    return asyncio.run(test()), asked[1:]


def test_a_missing_permission_is_the_api_servers_word() -> None:
    error, asked = refused({}, FORBIDDEN)
    assert (error.status, error.message) == (403, "User x cannot list resource scaledobjects")
    assert asked == [], "discovery is asked only after a 404"


@pytest.mark.parametrize(
    "answer",
    [
        Reply(403, "<html>Forbidden</html>"),
        Reply(403, ""),
        Reply(403, '["Forbidden"]'),
        reply({"message": "Forbidden"}, 403),
        reply({"kind": "Status", "message": "blocked by a rule"}, 403),
        reply({"kind": "Error", "reason": "Forbidden"}, 403),
        status_of(403, "Unauthorized"),
    ],
)
def test_another_answer_with_status_403_counts_as_no_answer(answer: Reply) -> None:
    error, asked = refused({}, answer)
    assert error.status == UNREACHABLE
    assert error.is_passing
    assert asked == []


OF_A_LIST = {
    "the API server's text": NOT_SERVED,
    "a page of a proxy": BACKEND,
    "JSON": status_of(404, "NotFound"),
    "nothing": Reply(404, ""),
}
WITHOUT_THE_KIND: dict[str, dict[str, Reply]] = {
    "the version has other kinds": {
        KEDA: resources("keda.sh/v1alpha1", "triggerauthentications"),
        ALL_GROUPS: groups("apps/v1", "keda.sh/v1alpha1"),
    },
    "the version has no kinds": {KEDA: resources("keda.sh/v1alpha1"), ALL_GROUPS: groups("apps/v1")},
    "there is no such group": {ALL_GROUPS: groups("apps/v1", "batch/v1")},
    "another version has other kinds": {
        ALL_GROUPS: groups("apps/v1", "keda.sh/v1", "eventing.keda.sh/v1"),
        KEDA_V1: resources("keda.sh/v1", "triggerauthentications"),
    },
}


@pytest.mark.parametrize("answer", OF_A_LIST)
@pytest.mark.parametrize("discovered", WITHOUT_THE_KIND)
def test_a_kind_is_missing_if_discovery_does_not_name_it(discovered: str, answer: str) -> None:
    error, asked = refused(WITHOUT_THE_KIND[discovered], OF_A_LIST[answer])
    assert (type(error), error.status) == (ApiError, 404)
    assert asked in ([KEDA, ALL_GROUPS], [KEDA, ALL_GROUPS, KEDA_V1])


IN_ANOTHER_VERSION: dict[str, dict[str, Reply]] = {
    "the version is gone": {},
    "the version has other kinds": {KEDA: resources("keda.sh/v1alpha1", "triggerauthentications")},
}


@pytest.mark.parametrize("discovered", IN_ANOTHER_VERSION)
def test_a_kind_with_another_version_is_not_missing(discovered: str) -> None:
    kept = "keda.sh/v1alpha1" if IN_ANOTHER_VERSION[discovered] else "apps/v1"
    others = {ALL_GROUPS: groups(kept, "keda.sh/v1"), KEDA_V1: resources("keda.sh/v1", "scaledobjects")}
    error, asked = refused(IN_ANOTHER_VERSION[discovered] | others, NOT_SERVED)
    assert isinstance(error, OtherVersionError)
    assert str(error) == "404: the API server does not serve scaledobjects of keda.sh/v1alpha1, but of keda.sh/v1"
    assert not error.is_unknown_kind
    assert asked == [KEDA, ALL_GROUPS, KEDA_V1]


SERVED = resources("keda.sh/v1alpha1", "scaledobjects", "scaledobjects/status")
UNPROVEN: dict[str, dict[str, Reply]] = {
    "the version has the kind": {KEDA: SERVED},
    "the groups name the version": {ALL_GROUPS: groups("apps/v1", "keda.sh/v1alpha1")},
    "a proxy answers all requests": {KEDA: BACKEND, ALL_GROUPS: BACKEND},
    "nothing is allowed": {KEDA: status_of(403, "Forbidden")},
    "the groups are not allowed": {ALL_GROUPS: status_of(403, "Forbidden")},
    "the API server starts": {KEDA: status_of(503, "ServiceUnavailable")},
    "a page with status 200": {KEDA: Reply(200, "<html>maintenance</html>")},
    "JSON with status 200": {KEDA: reply({"status": "maintenance"})},
    "the list of another version": {KEDA: resources("keda.sh/v1", "triggerauthentications")},
    "no list of kinds": {KEDA: reply({"kind": "APIResourceList", "groupVersion": "keda.sh/v1alpha1"})},
    "a list of texts": {
        KEDA: reply({"kind": "APIResourceList", "groupVersion": "keda.sh/v1alpha1", "resources": ["a"]})
    },
    "another list": {KEDA: reply({"kind": "List", "groupVersion": "keda.sh/v1alpha1", "resources": []})},
    "no groups": {ALL_GROUPS: groups()},
    "a group without versions": {ALL_GROUPS: reply({"kind": "APIGroupList", "groups": [{"name": "keda.sh"}]})},
    "JSON instead of groups": {ALL_GROUPS: reply({"status": "maintenance"})},
    "another version cannot be read": {ALL_GROUPS: groups("apps/v1", "keda.sh/v1"), KEDA_V1: BACKEND},
    "an endless answer": {KEDA: Reply(200, " " * (refusals._MOST_BYTES + 1))},
}


@pytest.mark.parametrize("answer", OF_A_LIST)
@pytest.mark.parametrize("discovered", UNPROVEN)
def test_a_404_without_proof_counts_as_no_answer(discovered: str, answer: str) -> None:
    error, asked = refused(UNPROVEN[discovered], OF_A_LIST[answer])
    assert error.status == UNREACHABLE
    assert error.is_passing
    assert asked in ([KEDA], [KEDA, ALL_GROUPS], [KEDA, ALL_GROUPS, KEDA_V1])


def test_the_message_quotes_the_answer_and_says_why_it_does_not_count() -> None:
    error, _ = refused({KEDA: SERVED}, BACKEND)
    assert str(error) == (
        "the answer does not count (discovery names the kind): "
        "status 404 without a Status of Kubernetes: default backend - 404"
    )
    error, _ = refused({KEDA: FORBIDDEN}, NOT_SERVED)
    assert "discovery cannot be read: 403: User x cannot" in str(error)


@pytest.mark.parametrize("answer", [BACKEND, NOT_SERVED, resources("v1", "services", "pods")])
def test_a_kind_of_the_core_group_is_not_missing_because_of_a_404(answer: Reply) -> None:
    error, asked = refused({CORE: answer, ALL_GROUPS: groups("apps/v1")}, BACKEND, POD)
    assert error.status == UNREACHABLE
    assert asked == [CORE]


def test_a_refused_later_page_counts_as_little_as_a_refused_first_page() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == KEDA:
            return web.Response(text=SERVED.body)
        if "continue" in request.query:
            return web.Response(status=404, text=BACKEND.body)
        return web.json_response({"metadata": {"resourceVersion": "5", "continue": "next"}, "items": []})

    async def test() -> None:
        async with answering(answer) as cluster:
            with pytest.raises(ApiError, match="default backend") as raised:
                await cluster.list(SCALED_OBJECT, "default")
            assert raised.value.status == UNREACHABLE

    asyncio.run(test())


def test_the_time_in_retry_after_is_kept() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=403, text="slow down", headers={"Retry-After": "7"})

    async def test() -> None:
        async with answering(answer) as cluster:
            with pytest.raises(ApiError) as raised:
                await cluster.list(SCALED_OBJECT, "default")
            assert (raised.value.status, raised.value.retry_seconds) == (UNREACHABLE, 7)

    asyncio.run(test())
