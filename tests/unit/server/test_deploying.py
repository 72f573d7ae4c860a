"""Writes of the Deployment and of the records of its pod templates in passes."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from kimi_linear_operator.cluster.errors import UNREACHABLE, ApiError
from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.kinds import (
    AUTOSCALER,
    DEPLOYMENT,
    POD,
    REVISION,
    SCALED_OBJECT,
    Kind,
    Manifest,
    kind_of,
)
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BLOCKED_RETRY_SECONDS, BehindError
from kimi_linear_operator.server import revision
from kimi_linear_operator.server.labels import AUTOMATIC_ANNOTATION
from kimi_linear_operator.server.manifests import build_companions, build_revision
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from make import make_pod, make_server, stored
from passes import Passes, new_cache
from refusing import RefusingCluster, kept_objects, one_pass

CHILDREN = {"ControllerRevision/kimi-1", "Deployment/kimi", "Service/kimi", "Service/kimi-headless"}


HEADLESS: Any = {"service": {"headless": True}}


@pytest.mark.parametrize("refused", ["Service/kimi", "Service/kimi-headless", "Deployment/kimi"])
def test_a_refused_child_does_not_block_other_children(refused: str) -> None:
    cluster = RefusingCluster({refused: ApiError(422, "no")})
    assert one_pass(cluster, **HEADLESS) == BLOCKED_RETRY_SECONDS
    assert set(cluster.written) == CHILDREN - {refused}
    ready = ready_condition(cluster.status)
    assert (ready["reason"], ready["message"].endswith("no")) == ("ApplyFailed", True)


def test_no_new_pod_template_is_applied_without_its_record() -> None:
    cluster = RefusingCluster({"ControllerRevision/kimi-1": ApiError(403, "exceeded quota")})
    assert one_pass(cluster, **HEADLESS) == BLOCKED_RETRY_SECONDS
    assert set(cluster.written) == CHILDREN - {"ControllerRevision/kimi-1", "Deployment/kimi"}


def test_a_template_that_cannot_be_recorded_does_not_prevent_scaling_down() -> None:
    cluster = RefusingCluster({"ControllerRevision/kimi-2": ApiError(403, "exceeded quota")})
    one_pass(cluster, *kept_objects(1, replicas=4), replicas=1, toolCallParser="enabled")
    assert "Deployment/kimi" in cluster.written


@pytest.mark.parametrize(
    "refused",
    [{"security": {"hostIPC": True}}, {"engine": {"extraArgs": ["--tp", "8"]}}, {"tensorParallelism": 3}],
    ids=["needs a permission", "breaks a rule", "has an unknown shape"],
)
@pytest.mark.parametrize(
    ("asked", "replicas"), [({"replicas": 1}, 1), ({"replicas": 4, "suspend": True}, 0), ({"replicas": 5}, None)]
)
def test_a_server_with_a_refused_spec_can_be_scaled_down(
    refused: Manifest, asked: Manifest, replicas: int | None
) -> None:
    cluster = RefusingCluster({})
    record, deployment = kept_objects(1, replicas=4)
    one_pass(cluster, record, deployment, **refused, **asked)
    assert [manifest["spec"]["replicas"] for manifest in cluster.scaled] == ([] if replicas is None else [replicas])
    assert {item["kind"] for item in cluster.applied} <= {"ControllerRevision"}
    assert find_condition(cluster.status, "Accepted")["reason"] == "InvalidSpec"


_REFUSED: Manifest = {"replicas": 2, "security": {"hostIPC": True}}
_SCALING: Manifest = {"maxReplicas": 4}
_BY_KEDA: Manifest = {**_SCALING, "keda": {"prometheusAddress": "http://prometheus:9090"}}


@pytest.mark.parametrize(
    ("scaling", "kind"), [(_SCALING, AUTOSCALER), (_BY_KEDA, SCALED_OBJECT)], ids=["Kubernetes", "KEDA"]
)
@pytest.mark.parametrize("is_suspended", [False, True])
def test_only_a_suspended_server_with_a_refused_spec_loses_its_autoscaler(
    scaling: Manifest, kind: Kind, *, is_suspended: bool
) -> None:
    cluster = RefusingCluster({})
    children = build_companions(KimiLinearServer.model_validate(make_server(replicas=2, autoscaling=scaling)))
    [scaler] = [stored(child) for child in children if kind_of(child) == kind]
    one_pass(cluster, *kept_objects(1, replicas=2), scaler, **_REFUSED, autoscaling=scaling, suspend=is_suspended)
    assert (f"-{kind.kind}/kimi" in cluster.written) is is_suspended
    told = find_condition(cluster.status, "Autoscaling")
    assert told.get("reason") == ("Suspended" if is_suspended else None)
    assert ready_condition(cluster.status)["reason"] == "InvalidSpec"


def test_a_server_with_a_refused_spec_and_no_record_can_be_scaled_down() -> None:
    cluster, (_, deployment) = RefusingCluster({}), kept_objects(1, replicas=4)
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "example.com/hotfix:1"
    one_pass(cluster, deployment, security={"hostIPC": True}, replicas=3)
    assert [manifest["spec"] for manifest in cluster.scaled] == [{**deployment["spec"], "replicas": 3}]
    assert cluster.applied == []


def test_a_server_without_a_record_is_scaled_down_although_its_template_is_refused() -> None:
    cluster, (_, deployment) = RefusingCluster({"Deployment/kimi": ApiError(422, "wrong")}), kept_objects(1, replicas=4)
    one_pass(cluster, deployment, replicas=1, toolCallParser="enabled")
    assert [manifest["spec"]["replicas"] for manifest in cluster.scaled] == [1]


@pytest.mark.parametrize(("asked", "replicas"), [({"replicas": 1}, 1), ({"replicas": 4, "suspend": True}, 0)])
def test_a_deployment_that_is_refused_with_every_template_is_still_scaled_down(asked: Manifest, replicas: int) -> None:
    """While pods are ready, Kueue refuses another queue with any pod template."""
    cluster = RefusingCluster({"Deployment/kimi": ApiError(403, 'admission webhook "kueue" denied the request: no')})
    one_pass(cluster, *kept_objects(1, replicas=4), queueName="other", **asked)
    assert [manifest["spec"]["replicas"] for manifest in cluster.scaled] == [replicas]
    assert ready_condition(cluster.status)["reason"] == "ApplyFailed"


@dataclass
class LossyCluster(RefusingCluster):
    """A cluster that stores writes of Deployments, but loses its first answer to such a write."""

    cache: Cache = field(default_factory=new_cache)
    is_lost: bool = True

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        applied = await super().apply(kind, manifest)
        if kind == DEPLOYMENT and self.is_lost:
            self.is_lost = False
            # The watch event comes before the connection breaks.
            self.cache.put(kind, applied)
            raise ApiError(UNREACHABLE, "connection reset")
        return applied


def test_a_lost_answer_does_not_bring_the_old_pods_back() -> None:
    cluster = LossyCluster({})
    changed = make_server(toolCallParser="enabled", replicas=1)
    cluster.live["KimiLinearServer/kimi"] = changed
    cluster.cache.put(SERVER, changed)
    for manifest in kept_objects(1, replicas=1):
        cluster.cache.put(kind_of(manifest), manifest)
    reconciler = Passes(cluster, cluster.cache)
    with pytest.raises(ApiError):
        asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER)))
    asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER)))
    deployments = [manifest for manifest in cluster.applied if manifest["kind"] == "Deployment"]
    assert ["kimi_k2" in str(deployment) for deployment in deployments] == [True]


@dataclass
class BusyCluster(RefusingCluster):
    """A cluster that asks the operator to wait before the next write of a Deployment."""

    asked: int = 0

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        if kind != DEPLOYMENT:
            return await super().apply(kind, manifest)
        self.asked += 1
        raise ApiError(429, "too many requests", 30.0)


@pytest.mark.parametrize("asked", [{"replicas": 1}, {"replicas": 4, "toolCallParser": "enabled"}], ids=str)
def test_a_busy_api_server_is_asked_only_once_in_a_pass(asked: Manifest) -> None:
    cluster = BusyCluster({})
    with pytest.raises(ApiError):
        one_pass(cluster, *kept_objects(1, replicas=4), **asked)
    assert cluster.asked == 1


def _under_way(*, is_complete: bool) -> tuple[Manifest, Manifest]:
    """Return the record and the Deployment of a server in an automatic rollout."""
    seen, deployment = kept_objects(1, replicas=1)
    found = revision.read(seen)
    assert found
    server = KimiLinearServer.model_validate(make_server())
    record = stored(build_revision(server, replace(found, is_automatic=True)))
    counters = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 1)
    deployment["status"] = {"observedGeneration": 1, **(counters if is_complete else {})}
    deployment["metadata"]["generation"] = 1
    return record, deployment


@pytest.mark.parametrize("is_complete", [False, True])
@pytest.mark.parametrize(
    ("refused", "spec"),
    [
        ({}, {"security": {"hostIPC": True}}),
        ({"Deployment/kimi": ApiError(422, "wrong")}, {"toolCallParser": "enabled"}),
    ],
    ids=["by a rule", "by the API server"],
)
def test_a_refused_next_spec_holds_the_rollout_only_until_the_pods_are_ready(
    refused: dict[str, ApiError], spec: dict[str, Any], *, is_complete: bool
) -> None:
    record, deployment = _under_way(is_complete=is_complete)
    cluster = RefusingCluster(refused, {"Deployment/kimi": deployment})
    one_pass(cluster, record, deployment, replicas=1, **spec)
    again = [manifest["metadata"] for manifest in cluster.applied if manifest["metadata"]["name"] == "kimi-1"]
    marked = [AUTOMATIC_ANNOTATION in metadata.get("annotations", {}) for metadata in again]
    # The record also gets what the operator has seen of a spec that is refused by a rule.
    assert marked == [*([] if refused else [True]), *([False] if is_complete else [])]


def test_the_rollout_mark_stays_until_the_pods_have_been_ready_for_the_pause() -> None:
    record, deployment = _under_way(is_complete=True)
    server = {**make_server(replicas=1), "status": {"observedGeneration": 1}}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-24T12:00:00Z"}
    cache, cluster = new_cache(), RefusingCluster({}, {"KimiLinearServer/kimi": server})
    known = ((SERVER, server), (REVISION, record), (DEPLOYMENT, deployment), (POD, make_pod(conditions=[ready])))
    for kind, manifest in known:
        cache.put(kind, manifest)
        cluster.live[f"{kind.kind}/{manifest['metadata']['name']}"] = manifest
    times = ["2026-11-24T12:04:00Z"]
    passes = Passes(cluster, cache, now=lambda: times[-1], rollout_pause=300)
    assert asyncio.run(passes.reconcile(Key("default", "kimi", SERVER))) == 60
    assert find_condition(cluster.status, "TemplateCurrent")["reason"] == "RollingOutByItself"
    assert "ControllerRevision/kimi-1" not in cluster.written
    times.append("2026-11-24T12:05:00Z")
    assert asyncio.run(passes.reconcile(Key("default", "kimi", SERVER))) is None
    assert find_condition(cluster.status, "TemplateCurrent")["reason"] == "Newest"
    assert "ControllerRevision/kimi-1" in cluster.written


def test_a_template_that_another_replica_recorded_first_is_not_overwritten() -> None:
    record, _ = kept_objects(1, toolCallParser="enabled")
    name = "ControllerRevision/kimi-1"
    cluster = RefusingCluster({name: ApiError(409, "exists")}, {name: record})
    with pytest.raises(BehindError):
        one_pass(cluster)
    assert "Deployment/kimi" not in cluster.written


@pytest.mark.parametrize("is_late", [False, True], ids=["the cache is right", "the watches are late"])
def test_the_rollout_mark_stays_if_the_api_server_shows_that_the_pods_have_failed(*, is_late: bool) -> None:
    """A watch can be dead for a minute before anybody notices it."""
    record, deployment = _under_way(is_complete=True)
    server = {**make_server(replicas=1), "status": {"observedGeneration": 1}}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-24T12:00:00Z"}
    failed = {**ready, "status": "False", "lastTransitionTime": "2026-11-24T12:04:00Z"}
    cache, cluster = new_cache(), RefusingCluster({}, {"KimiLinearServer/kimi": server})
    for kind, manifest in ((SERVER, server), (REVISION, record), (DEPLOYMENT, deployment)):
        cache.put(kind, manifest)
        cluster.live[f"{kind.kind}/{manifest['metadata']['name']}"] = manifest
    cache.put(POD, make_pod(conditions=[ready]))
    cluster.live["Pod/kimi"] = make_pod(conditions=[failed if is_late else ready])
    passes = Passes(cluster, cache, now=lambda: "2026-11-24T12:06:00Z", rollout_pause=300)
    asyncio.run(passes.reconcile(Key("default", "kimi", SERVER)))
    assert ("ControllerRevision/kimi-1" in cluster.written) is not is_late
