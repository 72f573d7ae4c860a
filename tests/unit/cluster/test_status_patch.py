"""The status of an object is exactly what the operator writes, whatever the API server has stored."""

import asyncio
import copy
import functools
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from answering import UNFIT_PATCH, answering, refused
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.spec import SERVER
from make import make_server


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
    """An API server with one server, which patches like a real one.

    Attributes:
        live: The server as it is stored.
    """

    live: Manifest

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response(self.live)
        body = await request.json()
        if isinstance(body, dict):
            if body["metadata"]["resourceVersion"] != self.live["metadata"]["resourceVersion"]:
                return refused(409, "the object has been modified")
            self.live = {**self.live, "status": {**self.live.get("status", {}), **body["status"]}}
            return self._metadata()
        assert request.content_type == "application/json-patch+json"
        try:
            self.live = applied(self.live, body)
        except KeyError:
            return refused(422, UNFIT_PATCH)
        return self._metadata()

    def _metadata(self) -> web.Response:
        return web.json_response({"kind": "PartialObjectMetadata", "metadata": self.live["metadata"]})

    def write(self, seen: Manifest, status: Manifest, *, if_unchanged: bool = True) -> Manifest:
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


def test_a_stored_status_of_which_no_field_is_known_keeps_its_other_fields() -> None:
    """There may be no room in the cache for any field of a large status."""
    stored = {**make_server(), "status": {"results": [{"a": 1}]}}
    assert Written(stored).write(make_server(), {"image": "i"}) == {"results": [{"a": 1}], "image": "i"}


@pytest.mark.parametrize("other", [{"uid": "another"}, {"generation": 2}])
def test_a_first_status_is_written_only_for_the_known_object_and_spec(other: dict[str, Any]) -> None:
    written = Written(changed(resourceVersion="2", **other))
    with pytest.raises(ApiError) as raised:
        written.write(make_server(), AFTER)
    assert (raised.value.status, written.live["status"]) == (409, BEFORE)


@pytest.mark.parametrize("generation", [1, 2])
def test_a_first_status_is_written_although_the_object_has_changed(generation: int) -> None:
    written = Written(changed(resourceVersion="2", generation=generation))
    found = written.write(make_server(), {"image": "i"}, if_unchanged=generation == 1)
    assert found == {**BEFORE, "image": "i"}, "fields that the writer does not know stay"


@dataclass
class Busy(Written):
    """A server that somebody changes just before each of the next writes."""

    changes: int

    async def answer(self, request: web.Request) -> web.Response:
        if request.method != "GET" and self.changes:
            self.changes -= 1
            version = str(int(self.live["metadata"]["resourceVersion"]) + 1)
            self.live = {**self.live, "metadata": {**self.live["metadata"], "resourceVersion": version}}
        return await super().answer(request)


def test_a_first_status_is_written_while_somebody_changes_the_object() -> None:
    assert Busy(make_server(), 4).write(make_server(), AFTER) == AFTER
    with pytest.raises(ApiError, match="keeps changing"):
        Busy(make_server(), 5).write(make_server(), AFTER)


def test_fields_of_another_version_in_the_status_stay() -> None:
    stored = {**make_server(), "status": {**BEFORE, "newer": 1}}
    seen = {**make_server(), "status": BEFORE}
    assert Written(stored).write(seen, AFTER) == {**AFTER, "newer": 1}


def test_fields_that_somebody_has_changed_get_their_value_back() -> None:
    stored = {**make_server(), "status": {**BEFORE, "url": "another"}}
    seen = {**make_server(), "status": BEFORE}
    assert Written(stored).write(seen, {**BEFORE, "image": "i"}) == {**BEFORE, "image": "i"}


def test_fields_that_somebody_has_already_removed_cause_no_error() -> None:
    stored = {**make_server(), "status": {"image": "old"}}
    seen = {**make_server(), "status": BEFORE}
    assert Written(stored).write(seen, AFTER) == AFTER


def changed(**metadata: Any) -> Manifest:
    server = make_server()
    return {**server, "metadata": {**server["metadata"], **metadata}, "status": BEFORE}


@pytest.mark.parametrize("if_unchanged", [True, False])
@pytest.mark.parametrize("status", [AFTER, {}], ids=["changed", "emptied"])
def test_a_status_of_an_object_that_was_made_anew_is_a_conflict(status: Manifest, if_unchanged: bool) -> None:
    written = Written(changed(uid="another"))
    with pytest.raises(ApiError) as raised:
        written.write(changed(), status, if_unchanged=if_unchanged)
    assert raised.value.status == 409
    assert written.live["status"] == BEFORE


def test_a_status_for_another_spec_is_a_conflict_only_if_the_spec_must_be_the_same() -> None:
    assert Written(changed(generation=2)).write(changed(), AFTER, if_unchanged=False) == AFTER
    with pytest.raises(ApiError) as raised:
        Written(changed(generation=2)).write(changed(), AFTER)
    assert raised.value.status == 409


def test_a_change_outside_the_spec_does_not_prevent_a_status_write() -> None:
    live = changed(resourceVersion="900", annotations={"heartbeat": "900"}, labels={"team": "search"})
    assert Written(live).write(changed(), AFTER) == AFTER


def test_a_status_that_the_definition_refuses_is_no_conflict() -> None:
    async def refuse(request: web.Request) -> web.Response:
        invalid = refused(422, "status.results: Invalid value")
        return web.json_response(changed()) if request.method == "GET" else invalid

    async def write() -> None:
        async with answering(refuse) as cluster:
            await cluster.patch_status(SERVER, changed(), AFTER, if_unchanged=True)

    with pytest.raises(ApiError) as raised:
        asyncio.run(write())
    assert raised.value.status == 422
