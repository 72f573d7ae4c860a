"""Passes while other clients change the cluster."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.kinds import (
    BENCHMARK,
    CLAIM,
    CONFIG_MAP,
    JOB,
    Kind,
    Manifest,
    kind_of,
)
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BLOCKED_RETRY_SECONDS, REPORTED_FAILURES
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION
from kimi_linear_operator.server.outcome import LONGEST_BLOCKED_SECONDS
from kimi_linear_operator.server.spec import SERVER
from make import make_condition, make_server, owned, stored
from passes import Passes, new_cache
from refusing import RefusingCluster, one_pass, pass_over, running_objects


@dataclass
class ChangingCluster:
    """A cluster in which somebody changes the metadata of a server just before its status is written."""

    change: Manifest

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return the current server, which has no children yet."""
        server = make_server()
        return {**server, "metadata": {**server["metadata"], "resourceVersion": "12"}} if kind == SERVER else None

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        return stored({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "2"}})

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        return {**manifest["metadata"], "resourceVersion": "12", **self.change}


def _due_again(change: Manifest) -> float | None:
    cache = new_cache()
    cache.put(SERVER, make_server())
    reconciler = Passes(ChangingCluster(change), cache)
    return asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER)))


@pytest.mark.parametrize("change", [{"generation": 2}, {"annotations": {ROLLOUT_ANNOTATION: "now"}}], ids=str)
def test_a_users_change_during_a_pass_causes_another_pass(change: Manifest) -> None:
    assert _due_again(change) == 0


class LateCluster(ChangingCluster):
    """A cluster in which somebody writes a newer spec while the pass writes the children."""

    async def patch_status(
        self, kind: Kind, manifest: Manifest, status: Manifest, *, if_unchanged: bool = False, **_: bool
    ) -> Manifest:
        if if_unchanged:
            raise ApiError(409, "the object has been modified")
        raise AssertionError("a status says that a spec was applied after a newer one was written")


def test_a_spec_written_during_a_pass_causes_another_pass_without_a_status() -> None:
    """Otherwise, by its time, the newer change would look older than the status, like a default of another version."""
    cache = new_cache()
    cache.put(SERVER, make_server())
    assert asyncio.run(Passes(LateCluster({}), cache).reconcile(Key("default", "kimi", SERVER))) == 0


def test_no_other_pass_follows_if_nothing_changed_during_a_pass() -> None:
    assert _due_again({}) is None


def test_a_new_server_lets_others_go_first_before_its_status_is_written() -> None:
    cache, cluster = new_cache(), RefusingCluster({})
    cache.put(SERVER, make_server())
    others = iter([True, False])
    reconciler = Passes(cluster, cache, postpone=lambda _: next(others))
    asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER)))
    assert {"Deployment/kimi", "Service/kimi"} <= set(cluster.written)
    assert cluster.status == {}
    asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER)))
    assert cluster.status["observedGeneration"] == 1


def _applied(manifest: Manifest) -> Manifest:
    """Return a server whose spec was applied, according to its status."""
    applied = {"type": "Ready", "status": "True", "reason": "AllReplicasServe", "message": "1 of 1 replicas serve"}
    condition = {**applied, "lastTransitionTime": "2026-11-24T02:05:00Z", "observedGeneration": 1}
    return {**manifest, "status": {"observedGeneration": 1, "image": "i", "conditions": [condition]}}


def test_missing_weights_do_not_stop_a_server_whose_pods_need_no_change() -> None:
    """An older version that does not know `model.weights` built the server's pods."""
    cluster, server = RefusingCluster({}), _applied(make_server(replicas=3, model={"weights": "kimi"}))
    record, live = running_objects(replicas=1)
    pass_over(cluster, record, live, server=server)
    [deployment] = [child for child in cluster.applied if child["kind"] == "Deployment"]
    assert deployment["spec"]["replicas"] == 3
    assert deployment["spec"]["template"] == record["data"]["template"]
    template = find_condition(cluster.status, "TemplateCurrent")
    assert (template["status"], template["reason"]) == ("Unknown", "WeightsMissing")
    assert find_condition(cluster.status, "Accepted")["status"] == "True"


def test_a_change_of_pods_waits_for_missing_weights() -> None:
    cluster, server = RefusingCluster({}), make_server(replicas=3, model={"weights": "kimi"})
    server["metadata"]["generation"] = 2
    pass_over(cluster, *running_objects(replicas=1), server=server)
    assert "Deployment/kimi" not in cluster.written
    assert ready_condition(cluster.status)["reason"] == "WeightsMissing"


def test_objects_that_others_made_to_look_like_children_are_left_alone() -> None:
    """The operator has no permission to delete a claim, so each pass over the server would fail."""
    names = {CLAIM: "PersistentVolumeClaim", JOB: "Job", CONFIG_MAP: "ConfigMap"}
    cluster, cache = RefusingCluster({}), new_cache()
    cache.put(SERVER, make_server())
    for kind, name in names.items():
        cache.put(kind, owned({"apiVersion": kind.api_version, "kind": name, "metadata": {"name": "forged"}}))
    asyncio.run(Passes(cluster, cache).reconcile(Key("default", "kimi", SERVER)))
    assert not [written for written in cluster.written if "forged" in written]


def test_the_worst_obstacle_is_reported_and_temporary_errors_are_retried_sooner() -> None:
    cluster = RefusingCluster({"Service/kimi": ApiError(403, "no quota"), "Deployment/kimi": ApiError(422, "wrong")})
    one_pass(cluster)
    assert ready_condition(cluster.status)["message"].endswith("wrong")
    cluster = RefusingCluster({"Service/kimi": ApiError(503, "busy"), "Deployment/kimi": ApiError(422, "wrong")})
    with pytest.raises(ApiError, match="busy"):
        one_pass(cluster)
    assert ready_condition(cluster.status)["message"].endswith("wrong")


def test_a_temporary_error_is_reported_only_if_it_continues() -> None:
    for failures, is_told in ((0, False), (REPORTED_FAILURES, True)):
        cluster = RefusingCluster({"Service/kimi": ApiError(503, "busy")})
        with pytest.raises(ApiError, match="busy"):
            one_pass(cluster, failures=failures)
        assert bool(cluster.status) == is_told


@pytest.mark.parametrize(
    ("minutes", "seconds"),
    [(0, BLOCKED_RETRY_SECONDS), (4, 60), (40, LONGEST_BLOCKED_SECONDS), (-9999, LONGEST_BLOCKED_SECONDS)],
)
@pytest.mark.parametrize(("error", "false"), [(422, "Accepted"), (403, "Ready")])
def test_an_error_that_stays_is_retried_less_and_less_often(
    minutes: int, seconds: float, error: int, false: str
) -> None:
    """Somebody may have written a time in the future into the status."""
    cache, cluster = new_cache(), RefusingCluster({"Service/kimi": ApiError(error, "no")})
    condition = make_condition(false, "False", "ApplyFailed", "no")
    cache.put(SERVER, make_server() | {"status": {"observedGeneration": 1, "conditions": [condition]}})
    since = datetime.fromisoformat(condition["lastTransitionTime"])
    now = (since + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    cluster.live["KimiLinearServer/kimi"] = make_server()
    reconciler = Passes(cluster, cache, now=lambda: now)
    assert asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER))) == seconds


class WithoutBenchmarks(RefusingCluster):
    """A cluster whose quota allows no benchmarks."""

    async def create(self, kind: Kind, event: Manifest) -> Manifest:
        if kind == BENCHMARK:
            raise ApiError(403, "exceeded quota: none")
        return event


@pytest.mark.parametrize(("minutes", "seconds"), [(0, BLOCKED_RETRY_SECONDS), (4, 60), (40, LONGEST_BLOCKED_SECONDS)])
def test_a_benchmark_that_a_quota_refuses_is_tried_again_later_and_later(minutes: int, seconds: float) -> None:
    spec: Manifest = {"verification": {"mode": "Warn"}}
    verified = make_condition("Verified", "Unknown", "VerificationImpossible", "exceeded quota: none")
    server = make_server(**spec) | {"status": {"observedGeneration": 1, "conditions": [verified]}}
    cache, cluster = new_cache(), WithoutBenchmarks({})
    cache.put(SERVER, server)
    for manifest in running_objects(**spec):
        cache.put(kind_of(manifest), manifest)
    since = datetime.fromisoformat(verified["lastTransitionTime"])
    now = (since + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    cluster.live["KimiLinearServer/kimi"] = server
    again = asyncio.run(Passes(cluster, cache, now=lambda: now).reconcile(Key("default", "kimi", SERVER)))
    assert find_condition(cluster.status or server["status"], "Verified")["reason"] == "VerificationImpossible"
    assert again == seconds
