"""The status of an object is exactly what the operator writes, although the API server merges it."""

import asyncio
import copy
import functools
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from answering import answering
from kimi_linear_operator.cluster.errors import ApiError
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


def applied(document: Any, patch: list[Any]) -> Any:
    """Patch as RFC 6902 says, with the three operations that the operator uses.

    Raises:
        KeyError: A test failed, or a field to be removed is not there.
    """
    document = copy.deepcopy(document)
    for step in patch:
        *parents, name = step["path"].split("/")[1:]
        place = functools.reduce(lambda part, key: part[key], parents, document)
        match step["op"]:
            case "test" if place[name] != step["value"]:
                raise KeyError(name)
            case "add":
                place[name] = step["value"]
            case "remove":
                del place[name]
    return document


@dataclass
class Written:
    """An API server with one server, which merges and patches like a real one.

    Attributes:
        live: The server as it is stored.
    """

    live: Manifest

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response(self.live)
        body = await request.json()
        if isinstance(body, dict):
            self.live = {**self.live, "status": merged(self.live.get("status"), body["status"])}
            return self._metadata()
        assert request.content_type == "application/json-patch+json"
        try:
            self.live = applied(self.live, body)
        except KeyError:
            return web.json_response({"message": "the server rejected our request due to an error"}, status=422)
        return self._metadata()

    def _metadata(self) -> web.Response:
        return web.json_response({"kind": "PartialObjectMetadata", "metadata": self.live["metadata"]})

    def write(self, seen: Manifest, status: Manifest, *, if_unchanged: bool) -> Manifest:
        """Write a status for this observed state of the server. Return the stored status."""

        async def write() -> None:
            async with answering(self.answer) as cluster:
                await cluster.patch_status(SERVER, seen, status, if_unchanged=if_unchanged)

        asyncio.run(write())
        return dict(self.live["status"])


BEFORE = {"url": "u", "environment": {"server": "kimi", "hardware": {"gpu": 8}}, "results": [{"a": 1}]}
AFTER = {"environment": {"server": "kimi"}, "results": [{"b": 2}], "image": "i"}


@pytest.mark.parametrize("if_unchanged", [True, False])
@pytest.mark.parametrize("before", [BEFORE, {}], ids=["changed", "first"])
def test_fields_that_left_the_status_are_removed_at_every_level(before: Manifest, if_unchanged: bool) -> None:
    server = {**make_server(), "status": before}
    assert Written(server).write(server, AFTER, if_unchanged=if_unchanged) == AFTER


def test_fields_of_another_version_in_the_status_stay() -> None:
    stored = {**make_server(), "status": {**BEFORE, "newer": 1}}
    seen = {**make_server(), "status": BEFORE}
    assert Written(stored).write(seen, AFTER, if_unchanged=True) == {**AFTER, "newer": 1}


def test_fields_that_somebody_has_already_removed_cause_no_error() -> None:
    stored = {**make_server(), "status": {"image": "old"}}
    seen = {**make_server(), "status": BEFORE}
    assert Written(stored).write(seen, AFTER, if_unchanged=True) == AFTER


def changed(**metadata: Any) -> Manifest:
    server = make_server()
    return {**server, "metadata": {**server["metadata"], **metadata}, "status": BEFORE}


@pytest.mark.parametrize("change", [{"generation": 2}, {"uid": "another"}], ids=str)
def test_a_status_for_another_spec_or_another_object_is_a_conflict(change: Manifest) -> None:
    with pytest.raises(ApiError) as raised:
        Written(changed(**change)).write(changed(), AFTER, if_unchanged=True)
    assert raised.value.status == 409


def test_a_change_outside_the_spec_does_not_prevent_a_status_write() -> None:
    live = changed(resourceVersion="900", annotations={"heartbeat": "900"}, labels={"team": "search"})
    assert Written(live).write(changed(), AFTER, if_unchanged=True) == AFTER


def test_a_status_that_the_definition_refuses_is_no_conflict() -> None:
    async def refuse(request: web.Request) -> web.Response:
        refused = web.json_response({"message": "status.results: Invalid value"}, status=422)
        return web.json_response(changed()) if request.method == "GET" else refused

    async def write() -> None:
        async with answering(refuse) as cluster:
            await cluster.patch_status(SERVER, changed(), AFTER, if_unchanged=True)

    with pytest.raises(ApiError) as raised:
        asyncio.run(write())
    assert raised.value.status == 422
