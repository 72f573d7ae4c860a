"""A status that the API server refuses is logged once, and retried slowly or when the object changes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.reporting import Reporting
from kimi_linear_operator.server.spec import SERVER
from make import make_server
from passes import new_cache

STATUS = {"observedGeneration": 1}
NOW = "2026-11-24T02:00:00Z"


@dataclass
class RefusingCluster:
    """Refuses every status with this error, if there is one."""

    error: ApiError | None
    writes: int = 0
    events: list[Manifest] = field(default_factory=list)

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        self.writes += 1
        if self.error:
            raise self.error
        return dict(manifest["metadata"])

    async def create(self, kind: Kind, event: Manifest) -> None:
        self.events.append(event)


def made(error: ApiError | None) -> tuple[RefusingCluster, Callable[[Manifest], Awaitable[float | None]]]:
    """Return a cluster, and a function that writes the status of a server there."""
    cluster = RefusingCluster(error)
    made = Reporting(cast(Cluster, cluster), new_cache(), lambda _: None, lambda: NOW)
    return cluster, lambda manifest: made.write(SERVER, manifest, STATUS, None)


def newer(manifest: Manifest, version: str) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}}


@pytest.mark.parametrize("status", [400, 403, 413, 422])
def test_a_refused_status_is_told_once_and_tried_again_later_and_later(
    status: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, write = made(ApiError(status, "spec.replicas: Invalid value"))
    clock = [0.0]
    monkeypatch.setattr("kimi_linear_operator.reconcile.reporting.time.monotonic", lambda: clock[0])

    async def flapping() -> list[float]:
        waits = []
        for _ in range(8):
            wait = await write(make_server())
            assert wait
            # The status is not written before its time, even if the object changes.
            clock[0] += wait / 2
            assert await write(make_server()) == pytest.approx(wait / 2)
            clock[0] += wait / 2 + 0.001
            waits.append(wait)
        return waits

    waits = asyncio.run(flapping())
    assert cluster.writes == len(waits)
    assert 7 < waits[0] <= 15
    assert 150 <= waits[-1] <= 300
    [event] = cluster.events
    told = f"The status cannot be written: {status}: spec.replicas: Invalid value"
    assert (event["reason"], event["type"], event["message"]) == ("StatusRefused", "Warning", told)
    assert len(caplog.records) == 1


def test_a_change_of_the_object_is_a_reason_to_try_at_once() -> None:
    cluster, write = made(ApiError(422, "no"))

    async def changing() -> None:
        for version in ("1", "1", "2", "2"):
            await write(newer(make_server(), version))
        cluster.error = None
        assert await write(newer(make_server(), "3")) is None

    asyncio.run(changing())
    assert (cluster.writes, len(cluster.events)) == (3, 1)


def test_a_refusal_after_a_success_is_told_again() -> None:
    cluster, write = made(None)

    async def coming_and_going() -> None:
        for version, error in (("1", ApiError(422, "no")), ("2", None), ("3", ApiError(422, "no"))):
            cluster.error = error
            await write(newer(make_server(), version))

    asyncio.run(coming_and_going())
    assert len(cluster.events) == 2


@pytest.mark.parametrize("status", [0, 404, 409, 429, 500, 503])
def test_what_may_succeed_in_a_moment_is_left_to_the_queue(status: int) -> None:
    cluster, write = made(ApiError(status, "later"))
    with pytest.raises(ApiError):
        asyncio.run(cast(Any, write(make_server())))
    assert cluster.events == []


class Changing:
    """Somebody has changed the object since it was cached, so a status for the cached one is refused."""

    def __init__(self, live: Manifest) -> None:
        self.live = live
        self.asked: list[bool] = []

    async def patch_status(
        self, kind: Kind, manifest: Manifest, status: Manifest, *, if_unchanged: bool = False
    ) -> Manifest:
        self.asked.append(if_unchanged)
        if if_unchanged and manifest["metadata"]["resourceVersion"] != self.live["metadata"]["resourceVersion"]:
            raise ApiError(409, "the object has been modified")
        return {**manifest["metadata"], "resourceVersion": "900"}

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        return self.live


def test_a_status_that_must_be_of_the_newest_object_is_not_written_for_an_older_one() -> None:
    live = newer(make_server(), "5")
    cluster, cache = Changing(live), new_cache()
    cache.put(SERVER, newer(make_server(), "4"))
    reporting = Reporting(cast(Cluster, cluster), cache, lambda _: None, lambda: NOW)

    def write(manifest: Manifest) -> float | None:
        return asyncio.run(reporting.write(SERVER, manifest, STATUS, None, if_unchanged=True))

    assert write(newer(make_server(), "4")) == 0
    cached = cache.get(Key("default", "kimi", SERVER))
    assert cached
    assert cached["metadata"]["resourceVersion"] == "5"
    assert write(newer(make_server(), "5")) is None
    assert cluster.asked == [True, True]


def test_a_client_that_changes_an_object_all_the_time_keeps_it_without_a_status_for_a_few_passes_only() -> None:
    cluster = Changing(newer(make_server(), "99"))
    reporting = Reporting(cast(Cluster, cluster), new_cache(), lambda _: None, lambda: NOW)
    for version in map(str, range(1, 7)):
        asyncio.run(reporting.write(SERVER, newer(make_server(), version), STATUS, None, if_unchanged=True))
    assert cluster.asked == [True] * 5 + [False]
