"""A name from a foreign object never leads to another object."""

import asyncio
from typing import Any, cast

import pytest

from kimi_linear_operator.cluster.answer import Answer, decoded
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.pages import Pages
from kimi_linear_operator.cluster.paths import path
from kimi_linear_operator.kubernetes.kinds import SERVICE
from kimi_linear_operator.server.spec import SERVER

_ROOT = "/apis/kimi-linear.io/v1alpha1/namespaces/default/kimilinearservers"


class Silent:
    """A transport that counts requests and has no answer."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    async def answer(self, request: Any, *_: Any) -> Answer:
        self.requests.append(request)
        return Answer(200, b"{}", "")


@pytest.mark.parametrize(
    "name",
    ["../../../../../../api/v1/namespaces/victim/pods/bank-0/log?tailLines=3&x=", "..", ".", "a/b", "a%2fb", "%2e%2e"],
)
def test_a_name_that_no_object_can_have_is_not_asked_for(name: str) -> None:
    transport = cast(Any, Silent())
    cluster = Cluster(transport, Pages(transport))
    assert asyncio.run(cluster.get(SERVER, "default", name)) is None
    assert asyncio.run(cluster.get(SERVER, name, "kimi")) is None
    assert transport.requests == []


@pytest.mark.parametrize(
    ("name", "segment"),
    [("kimi", "kimi"), ("kimi-1.x", "kimi-1.x"), ("a b", "a%20b"), ("a?b#c", "a%3Fb%23c"), ("ü", "%C3%BC")],
)
def test_a_name_is_one_segment_of_the_path(name: str, segment: str) -> None:
    assert path(SERVER, "default", name) == f"{_ROOT}/{segment}"


def test_paths_of_lists_have_no_name() -> None:
    assert path(SERVER, "default") == _ROOT
    assert path(SERVICE, None) == "/api/v1/services"


def test_the_message_about_an_unreadable_answer_does_not_quote_it() -> None:
    with pytest.raises(ApiError) as caught:
        decoded(Answer(200, b"customer 4711 transferred 100", ""))
    assert "4711" not in str(caught.value)
