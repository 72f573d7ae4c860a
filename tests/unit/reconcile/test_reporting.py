"""A status that the API server refuses is logged once, and retried slowly or when the object changes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.cluster.answer import Answer, error_of
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.reconcile import reporting
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.reporting import Reporting
from kimi_linear_operator.server.spec import SERVER
from make import ODD_STATUSES, make_benchmark, make_condition, make_server
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
def test_a_refused_status_is_reported_once_and_retried_less_and_less_often(
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
            # The status is not written before the retry is due, even if the object changes.
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


def of_tenant(number: int) -> Manifest:
    server = make_server(f"s{number}")
    return {**server, "metadata": {**server["metadata"], "namespace": "tenant", "uid": f"tenant-{number}"}}


def test_refusals_in_one_namespace_end_no_pause_in_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "_MOST_REMEMBERED", 8)
    cluster, write = made(ApiError(422, "no"))

    async def test() -> None:
        await write(make_server())
        for number in range(8):
            await write(of_tenant(number))
        assert cluster.writes == 9
        assert await write(make_server())
        assert cluster.writes == 9

    asyncio.run(test())


def test_a_change_of_the_object_is_a_reason_to_retry_at_once() -> None:
    cluster, write = made(ApiError(422, "no"))

    async def changing() -> None:
        for version in ("1", "1", "2", "2"):
            await write(newer(make_server(), version))
        cluster.error = None
        assert await write(newer(make_server(), "3")) is None

    asyncio.run(changing())
    assert (cluster.writes, len(cluster.events)) == (3, 1)


def test_a_refusal_after_a_success_is_reported_again() -> None:
    cluster, write = made(None)

    async def coming_and_going() -> None:
        for version, error in (("1", ApiError(422, "no")), ("2", None), ("3", ApiError(422, "no"))):
            cluster.error = error
            await write(newer(make_server(), version))

    asyncio.run(coming_and_going())
    assert len(cluster.events) == 2


@pytest.mark.parametrize("status", [0, 404, 409, 429, 500, 503])
def test_temporary_errors_are_left_to_the_queue(status: int) -> None:
    cluster, write = made(ApiError(status, "later"))
    with pytest.raises(ApiError):
        asyncio.run(cast(Any, write(make_server())))
    assert cluster.events == []


class Changing:
    """Somebody has changed the spec since it was cached, so a status for the cached spec is refused."""

    def __init__(self, live: Manifest) -> None:
        self.live = live

    async def patch_status(
        self, kind: Kind, manifest: Manifest, status: Manifest, *, if_unchanged: bool = False
    ) -> Manifest:
        if if_unchanged and manifest["metadata"]["generation"] != self.live["metadata"]["generation"]:
            raise ApiError(409, "the spec has changed")
        return {**self.live["metadata"], "resourceVersion": "900"}

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        return self.live


SERVES = {"observedGeneration": 1, "conditions": [make_condition("Ready", "True", "AllReplicasServe", "all serve")]}


@dataclass
class Written:
    """The result of a write of a status.

    Attributes:
        again: When the next pass is due.
        cached: The server in the cache.
        enqueued: Which other resources get a pass.
    """

    again: float | None
    cached: Manifest
    enqueued: set[Key]


def written(cached: Manifest, live: Manifest, *, if_unchanged: bool = True) -> Written:
    """Write a status of a server that was changed since it was cached, and that a benchmark measures."""
    cache, enqueued = new_cache(), set[Key]()
    cache.put(SERVER, cached)
    cache.put(BENCHMARK, make_benchmark())
    [manifest] = [cache.get(Key("default", "kimi", SERVER)) or {}]
    reporting = Reporting(cast(Cluster, Changing(live)), cache, enqueued.update, lambda: NOW)
    again = asyncio.run(reporting.write(SERVER, manifest, SERVES, None, if_unchanged=if_unchanged))
    return Written(again, cache.get(Key("default", "kimi", SERVER)) or {}, enqueued)


def changed(manifest: Manifest, **metadata: Any) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], **metadata}}


WAITING = {Key("default", "nightly", BENCHMARK)}


@pytest.mark.parametrize("if_unchanged", [True, False])
def test_a_spec_that_changed_meanwhile_is_read_and_waiting_resources_are_enqueued(
    if_unchanged: bool,
) -> None:
    live = changed(make_server(replicas=3), resourceVersion="5", generation=2)
    result = written(make_server(), live, if_unchanged=if_unchanged)
    assert (result.again, result.cached["spec"], result.enqueued) == (0, {"replicas": 3}, WAITING)
    # No status says something about the new spec that is only true for the old spec.
    assert "status" not in result.cached or result.cached["status"] == {}


def test_the_status_of_an_object_applied_by_kubectl_costs_no_other_read_or_pass() -> None:
    applied = {
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "tracking": "argo"},
        "managedFields": [{"manager": "kubectl-client-side-apply", "operation": "Update"}],
    }
    server = changed(make_server(), **applied)
    live = changed(make_server(), **{**applied, "managedFields": [{"manager": "kimi-linear-operator"}]})
    result = written(server, live)
    assert (result.again, result.cached["status"], result.enqueued) == (None, SERVES, WAITING)


def test_annotations_that_others_change_all_the_time_do_not_prevent_a_status() -> None:
    live = changed(make_server(), resourceVersion="99", annotations={"heartbeat": "99"}, labels={"team": "search"})
    result = written(make_server(), live)
    assert (result.again, result.cached["status"], result.enqueued) == (None, SERVES, WAITING)


def test_a_rollout_annotation_that_came_meanwhile_causes_a_pass() -> None:
    live = changed(make_server(), resourceVersion="99", annotations={"kimi-linear.io/rollout": "now"})
    result = written(make_server(), live)
    assert (result.again, result.cached["status"]) == (0, SERVES)
    assert result.cached["metadata"]["annotations"] == {"kimi-linear.io/rollout": "now"}


class LosingCluster:
    """A cluster with one server. It stores statuses, and loses the answers to some writes."""

    def __init__(self, error: ApiError) -> None:
        self.server = make_server()
        self.lost: list[ApiError] = [error]

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.server

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        version = str(int(self.server["metadata"]["resourceVersion"]) + 1)
        # A merge patch: it removes only the fields that the caller knows.
        before, known = self.server.get("status"), set(dict(manifest["status"]))
        left = {name: value for name, value in before.items() if name not in known} if isinstance(before, dict) else {}
        self.server = {**newer(self.server, version), "status": {**left, **status}}
        if self.lost:
            raise self.lost.pop()
        return dict(self.server["metadata"])


@pytest.mark.parametrize(
    ("refused", "is_read"),
    [((429, b"Too many requests, please try again later."), False), ((502, b"Bad Gateway"), True)],
)
def test_a_status_is_read_again_only_if_it_may_be_stored(refused: tuple[int, bytes], is_read: bool) -> None:
    """An overloaded API server refuses requests with a plain text before it looks at them."""
    cluster, reads = LosingCluster(error_of(Answer(*refused, "1"))), list[str]()

    async def get(_: Kind, __: str, name: str) -> Manifest:
        reads.append(name)
        return cluster.server

    cluster.get = get  # type: ignore[assignment]
    cluster.server["status"] = {"observedGeneration": 1}
    server = cluster.server
    reporting = Reporting(cast(Cluster, cluster), new_cache(), lambda _: None, lambda: NOW)
    with pytest.raises(ApiError):
        asyncio.run(reporting.write(SERVER, server, {**STATUS, "replicas": 1}, None))
    asyncio.run(reporting.write(SERVER, server, {**STATUS, "replicas": 1}, None))
    assert bool(reads) == is_read


@pytest.mark.parametrize("code", [0, 500, 504])
def test_a_status_that_was_stored_without_an_answer_leaves_no_field_behind(code: int) -> None:
    cluster, cache = LosingCluster(ApiError(code, "no answer")), new_cache()
    cluster.server["status"] = {"observedGeneration": 1}
    late = cluster.server
    reporting = Reporting(cast(Cluster, cluster), cache, lambda _: None, lambda: NOW)
    with pytest.raises(ApiError):
        asyncio.run(reporting.write(SERVER, late, {**STATUS, "startup": {"phases": []}}, None))
    # The pass after that still reads the status from before the lost write.
    asyncio.run(reporting.write(SERVER, late, {**STATUS, "replicas": 1}, None))
    assert cluster.server["status"] == {**STATUS, "replicas": 1}


@pytest.mark.parametrize("status", ODD_STATUSES, ids=str)
def test_a_status_that_somebody_has_spoilt_during_a_write_without_an_answer_is_replaced(status: Any) -> None:
    cluster = LosingCluster(ApiError(504, "no answer"))
    cluster.server["status"] = {"observedGeneration": 1}
    late = cluster.server
    reporting = Reporting(cast(Cluster, cluster), new_cache(), lambda _: None, lambda: NOW)
    with pytest.raises(ApiError):
        asyncio.run(reporting.write(SERVER, late, {**STATUS, "startup": {"phases": []}}, None))
    cluster.server = {**cluster.server, "status": status}
    asyncio.run(reporting.write(SERVER, late, {**STATUS, "replicas": 1}, None))
    assert cluster.server["status"] == {**STATUS, "replicas": 1}
