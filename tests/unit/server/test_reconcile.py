"""Passes while other clients change the cluster."""

import asyncio
import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from kimi_linear_operator.cluster.errors import UNREACHABLE, ApiError
from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.kinds import (
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    HTTP_ROUTE,
    JOB,
    POD,
    REVISION,
    Kind,
    Manifest,
    kind_of,
)
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BLOCKED_RETRY_SECONDS, REPORTED_FAILURES, BehindError, NotReadYetError
from kimi_linear_operator.server import revision, templates
from kimi_linear_operator.server.labels import AUTOMATIC_ANNOTATION, ROLLOUT_ANNOTATION
from kimi_linear_operator.server.manifests import build_companions, build_deployment, build_revision
from kimi_linear_operator.server.outcome import LONGEST_BLOCKED_SECONDS
from kimi_linear_operator.server.reconcile import ServerReconciler
from kimi_linear_operator.server.revision import History
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.template_choice import choose
from kimi_linear_operator.server.templates import Templates
from make import make_condition, make_deployment, make_pod, make_server, owned, stored
from passes import Passes, make_context, new_cache


@dataclass
class ChangingCluster:
    """A cluster in which somebody changes the metadata of a server just before its status is written."""

    change: Manifest

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return the server as it is now: no child exists yet."""
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
def test_a_wish_that_came_during_a_pass_is_looked_at_again(change: Manifest) -> None:
    assert _due_again(change) == 0


class LateCluster(ChangingCluster):
    """A cluster in which somebody has written a newer spec while the pass wrote the children."""

    async def patch_status(
        self, kind: Kind, manifest: Manifest, status: Manifest, *, if_unchanged: bool = False, **_: bool
    ) -> Manifest:
        if if_unchanged:
            raise ApiError(409, "the object has been modified")
        raise AssertionError("a status says that a spec was applied after a newer one was written")


def test_no_status_says_that_a_spec_was_applied_after_a_newer_one_was_written() -> None:
    """Otherwise its time would make the newer change look older than the status, like a default of another version."""
    cache = new_cache()
    cache.put(SERVER, make_server())
    assert asyncio.run(Passes(LateCluster({}), cache).reconcile(Key("default", "kimi", SERVER))) == 0


def test_what_did_not_change_is_not() -> None:
    assert _due_again({}) is None


@dataclass
class RefusingCluster:
    """A cluster that refuses some writes, and remembers the others."""

    refused: dict[str, ApiError]
    live: dict[str, Manifest] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    applied: list[Manifest] = field(default_factory=list)
    scaled: list[Manifest] = field(default_factory=list)
    status: Manifest = field(default_factory=dict)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.live.get(f"{kind.kind}/{name}")

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self.apply(kind, manifest)

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        name = f"{kind.kind}/{manifest['metadata']['name']}"
        if name in self.refused:
            raise self.refused[name]
        self.written.append(name)
        self.applied.append(manifest)
        version = str(len(self.written) + 10)
        return stored({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}})

    async def overwrite(self, kind: Kind, manifest: Manifest) -> Manifest:
        raise self.refused[f"{kind.kind}/{manifest['metadata']['name']}"]

    async def scale(self, kind: Kind, live: Manifest, replicas: int) -> Manifest:
        self.scaled.append({**live, "spec": {**live["spec"], "replicas": replicas}})
        return self.scaled[-1]

    async def unify(self, kind: Kind, live: Manifest) -> Manifest:
        return live

    async def delete(self, kind: Kind, manifest: Manifest) -> None:
        self.written.append(f"-{kind.kind}/{manifest['metadata']['name']}")

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        self.status = status
        return {**manifest["metadata"], "resourceVersion": "99"}

    async def create(self, kind: Kind, event: Manifest) -> Manifest:
        return event


def _pass(cluster: RefusingCluster, *known: Manifest, failures: int = 0, **spec: Any) -> float | None:
    cache = new_cache()
    cache.put(SERVER, make_server(**spec))
    cluster.live.setdefault("KimiLinearServer/kimi", make_server(**spec))
    for manifest in known:
        cache.put(kind_of(manifest), manifest)
    reconciler = Passes(cluster, cache)
    return asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER), failures))


def test_a_new_server_lets_others_go_first_before_it_is_reported_on() -> None:
    cache, cluster = new_cache(), RefusingCluster({})
    cache.put(SERVER, make_server())
    others = iter([True, False])
    reconciler = Passes(cluster, cache, postpone=lambda _: next(others))
    asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER)))
    assert {"Deployment/kimi", "Service/kimi"} <= set(cluster.written)
    assert cluster.status == {}
    asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER)))
    assert cluster.status["observedGeneration"] == 1


CHILDREN = {"ControllerRevision/kimi-1", "Deployment/kimi", "Service/kimi", "Service/kimi-headless"}
HEADLESS: Any = {"service": {"headless": True}}


@pytest.mark.parametrize("refused", ["Service/kimi", "Service/kimi-headless", "Deployment/kimi"])
def test_a_child_that_is_refused_keeps_no_other_from_being_made(refused: str) -> None:
    cluster = RefusingCluster({refused: ApiError(422, "no")})
    assert _pass(cluster, **HEADLESS) == BLOCKED_RETRY_SECONDS
    assert set(cluster.written) == CHILDREN - {refused}
    ready = ready_condition(cluster.status)
    assert (ready["reason"], ready["message"].endswith("no")) == ("ApplyFailed", True)


def test_without_its_record_no_new_pod_template_is_applied() -> None:
    cluster = RefusingCluster({"ControllerRevision/kimi-1": ApiError(403, "exceeded quota")})
    assert _pass(cluster, **HEADLESS) == BLOCKED_RETRY_SECONDS
    assert set(cluster.written) == CHILDREN - {"ControllerRevision/kimi-1", "Deployment/kimi"}


def _kept(number: int, **spec: Any) -> tuple[Manifest, Manifest]:
    """Return the record and the Deployment of a server that had this spec."""
    server = KimiLinearServer.model_validate(make_server(**spec))
    (kept,) = [replace(choose(server, History()).current, number=number, generation=0)]
    record = build_revision(server, kept)
    return stored(record), stored(build_deployment(server, kept.template, number))


def _running(replicas: int = 1, **spec: Any) -> tuple[Manifest, Manifest]:
    """Return the record of a server's first spec, and its Deployment, whose pods serve."""
    record, deployment = _kept(1, replicas=replicas, **spec)
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas", "readyReplicas"), replicas)
    deployment["status"] = {"observedGeneration": 1, **counts}
    return record, deployment


def _applied(manifest: Manifest) -> Manifest:
    """Return a server whose spec was applied, according to its status."""
    applied = {"type": "Ready", "status": "True", "reason": "AllReplicasServe", "message": "1 of 1 replicas serve"}
    condition = {**applied, "lastTransitionTime": "2026-11-24T02:05:00Z", "observedGeneration": 1}
    return {**manifest, "status": {"observedGeneration": 1, "image": "i", "conditions": [condition]}}


def _pass_with_weights(cluster: RefusingCluster, *known: Manifest, server: Manifest) -> None:
    """Make a pass over a server that names weights which are not there."""
    cache = new_cache()
    cache.put(SERVER, server)
    for manifest in known:
        cache.put(kind_of(manifest), manifest)
    cluster.live["KimiLinearServer/kimi"] = server
    asyncio.run(Passes(cluster, cache).reconcile(Key("default", "kimi", SERVER)))


def test_weights_that_are_not_there_stop_no_server_whose_pods_nobody_wants_to_change() -> None:
    """An older version that does not know `model.weights` has given the server its pods."""
    cluster, server = RefusingCluster({}), _applied(make_server(replicas=3, model={"weights": "kimi"}))
    record, live = _running(replicas=1)
    _pass_with_weights(cluster, record, live, server=server)
    [deployment] = [child for child in cluster.applied if child["kind"] == "Deployment"]
    assert deployment["spec"]["replicas"] == 3
    assert deployment["spec"]["template"] == record["data"]["template"]
    template = find_condition(cluster.status, "TemplateCurrent")
    assert (template["status"], template["reason"]) == ("Unknown", "WeightsMissing")
    assert find_condition(cluster.status, "Accepted")["status"] == "True"


def test_whoever_asks_for_pods_with_weights_that_are_not_there_waits_for_them() -> None:
    cluster, server = RefusingCluster({}), make_server(replicas=3, model={"weights": "kimi"})
    server["metadata"]["generation"] = 2
    _pass_with_weights(cluster, *_running(replicas=1), server=server)
    assert "Deployment/kimi" not in cluster.written
    assert ready_condition(cluster.status)["reason"] == "WeightsMissing"


def test_what_others_have_made_to_look_like_children_is_no_business_of_a_server() -> None:
    """The operator may not delete a claim, so each pass over the server would fail."""
    names = {CLAIM: "PersistentVolumeClaim", JOB: "Job", CONFIG_MAP: "ConfigMap"}
    cluster, cache = RefusingCluster({}), new_cache()
    cache.put(SERVER, make_server())
    for kind, name in names.items():
        cache.put(kind, owned({"apiVersion": kind.api_version, "kind": name, "metadata": {"name": "forged"}}))
    asyncio.run(Passes(cluster, cache).reconcile(Key("default", "kimi", SERVER)))
    assert not [written for written in cluster.written if "forged" in written]


def test_a_template_that_cannot_be_recorded_keeps_no_server_from_being_scaled_down() -> None:
    cluster = RefusingCluster({"ControllerRevision/kimi-2": ApiError(403, "exceeded quota")})
    _pass(cluster, *_kept(1, replicas=4), replicas=1, toolCallParser="enabled")
    assert "Deployment/kimi" in cluster.written


@pytest.mark.parametrize(
    "refused",
    [{"security": {"hostIPC": True}}, {"engine": {"extraArgs": ["--tp", "8"]}}, {"tensorParallelism": 3}],
    ids=["needs a permission", "breaks a rule", "has an unknown shape"],
)
@pytest.mark.parametrize(
    ("asked", "replicas"), [({"replicas": 1}, 1), ({"replicas": 4, "suspend": True}, 0), ({"replicas": 5}, None)]
)
def test_a_server_whose_spec_is_refused_can_have_fewer_pods_of_those_that_run(
    refused: Manifest, asked: Manifest, replicas: int | None
) -> None:
    cluster = RefusingCluster({})
    record, deployment = _kept(1, replicas=4)
    _pass(cluster, record, deployment, **refused, **asked)
    assert [manifest["spec"]["replicas"] for manifest in cluster.scaled] == ([] if replicas is None else [replicas])
    assert cluster.applied == []
    assert find_condition(cluster.status, "Accepted")["reason"] == "InvalidSpec"


def test_a_server_whose_spec_is_refused_has_fewer_pods_also_without_a_record_and_keeps_what_somebody_changed() -> None:
    cluster, (_, deployment) = RefusingCluster({}), _kept(1, replicas=4)
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "example.com/hotfix:1"
    _pass(cluster, deployment, security={"hostIPC": True}, replicas=3)
    assert [manifest["spec"] for manifest in cluster.scaled] == [{**deployment["spec"], "replicas": 3}]
    assert cluster.applied == []


def test_a_server_without_a_record_has_fewer_pods_also_if_what_it_is_to_have_cannot_be_applied() -> None:
    cluster, (_, deployment) = RefusingCluster({"Deployment/kimi": ApiError(422, "wrong")}), _kept(1, replicas=4)
    _pass(cluster, deployment, replicas=1, toolCallParser="enabled")
    assert [manifest["spec"]["replicas"] for manifest in cluster.scaled] == [1]


@pytest.mark.parametrize(("asked", "replicas"), [({"replicas": 1}, 1), ({"replicas": 4, "suspend": True}, 0)])
def test_a_deployment_that_is_refused_with_every_template_is_still_scaled_down(asked: Manifest, replicas: int) -> None:
    """Kueue refuses another queue while pods are ready, whatever the pod template is."""
    cluster = RefusingCluster({"Deployment/kimi": ApiError(403, 'admission webhook "kueue" denied the request: no')})
    _pass(cluster, *_kept(1, replicas=4), queueName="other", **asked)
    assert [manifest["spec"]["replicas"] for manifest in cluster.scaled] == [replicas]
    assert ready_condition(cluster.status)["reason"] == "ApplyFailed"


@dataclass
class LossyCluster(RefusingCluster):
    """A cluster that commits writes of Deployments, and whose first answer to one gets lost."""

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
    for manifest in _kept(1, replicas=1):
        cluster.cache.put(kind_of(manifest), manifest)
    reconciler = Passes(cluster, cluster.cache)
    with pytest.raises(ApiError):
        asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER)))
    asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER)))
    deployments = [manifest for manifest in cluster.applied if manifest["kind"] == "Deployment"]
    assert ["kimi_k2" in str(deployment) for deployment in deployments] == [True]


@dataclass
class BusyCluster(RefusingCluster):
    """A cluster that asks to wait before the next write of a Deployment."""

    asked: int = 0

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        if kind != DEPLOYMENT:
            return await super().apply(kind, manifest)
        self.asked += 1
        raise ApiError(429, "too many requests", 30.0)


@pytest.mark.parametrize("asked", [{"replicas": 1}, {"replicas": 4, "toolCallParser": "enabled"}], ids=str)
def test_a_busy_api_server_is_asked_once_in_a_pass(asked: Manifest) -> None:
    cluster = BusyCluster({})
    with pytest.raises(ApiError):
        _pass(cluster, *_kept(1, replicas=4), **asked)
    assert cluster.asked == 1


def _under_way(*, is_complete: bool) -> tuple[Manifest, Manifest]:
    """Return the record and the Deployment of a server whose template the operator chose by itself."""
    seen, deployment = _kept(1, replicas=1)
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
def test_a_server_whose_next_spec_is_refused_keeps_the_others_waiting_only_until_its_pods_are_ready(
    refused: dict[str, ApiError], spec: dict[str, Any], *, is_complete: bool
) -> None:
    cluster = RefusingCluster(refused)
    _pass(cluster, *_under_way(is_complete=is_complete), replicas=1, **spec)
    again = [manifest["metadata"] for manifest in cluster.applied if manifest["metadata"]["name"] == "kimi-1"]
    assert [AUTOMATIC_ANNOTATION in metadata.get("annotations", {}) for metadata in again] == [False] * is_complete


def test_the_mark_stays_until_the_pods_have_been_ready_for_the_pause() -> None:
    record, deployment = _under_way(is_complete=True)
    server = {**make_server(replicas=1), "status": {"observedGeneration": 1}}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-24T12:00:00Z"}
    cache, cluster = new_cache(), RefusingCluster({}, {"KimiLinearServer/kimi": server})
    known = ((SERVER, server), (REVISION, record), (DEPLOYMENT, deployment), (POD, make_pod(conditions=[ready])))
    for kind, manifest in known:
        cache.put(kind, manifest)
    times = ["2026-11-24T12:04:00Z"]
    passes = Passes(cluster, cache, now=lambda: times[-1], rollout_pause=300)
    assert asyncio.run(passes.reconcile(Key("default", "kimi", SERVER))) == 60
    assert find_condition(cluster.status, "TemplateCurrent")["reason"] == "RollingOutByItself"
    assert "ControllerRevision/kimi-1" not in cluster.written
    times.append("2026-11-24T12:05:00Z")
    assert asyncio.run(passes.reconcile(Key("default", "kimi", SERVER))) is None
    assert find_condition(cluster.status, "TemplateCurrent")["reason"] == "Newest"
    assert "ControllerRevision/kimi-1" in cluster.written


def test_the_worst_obstacle_is_told_and_what_passes_is_tried_again_sooner() -> None:
    cluster = RefusingCluster({"Service/kimi": ApiError(403, "no quota"), "Deployment/kimi": ApiError(422, "wrong")})
    _pass(cluster)
    assert ready_condition(cluster.status)["message"].endswith("wrong")
    cluster = RefusingCluster({"Service/kimi": ApiError(503, "busy"), "Deployment/kimi": ApiError(422, "wrong")})
    with pytest.raises(ApiError, match="busy"):
        _pass(cluster)
    assert ready_condition(cluster.status)["message"].endswith("wrong")


def test_what_passes_by_itself_is_told_only_when_it_does_not() -> None:
    for failures, is_told in ((0, False), (REPORTED_FAILURES, True)):
        cluster = RefusingCluster({"Service/kimi": ApiError(503, "busy")})
        with pytest.raises(ApiError, match="busy"):
            _pass(cluster, failures=failures)
        assert bool(cluster.status) == is_told


def test_a_template_that_another_replica_recorded_first_is_not_overwritten() -> None:
    record, _ = _kept(1, toolCallParser="enabled")
    name = "ControllerRevision/kimi-1"
    cluster = RefusingCluster({name: ApiError(409, "exists")}, {name: record})
    with pytest.raises(BehindError):
        _pass(cluster)
    assert "Deployment/kimi" not in cluster.written


def test_a_watch_that_is_late_rolls_nothing_back() -> None:
    record, deployment = _kept(2, toolCallParser="enabled")
    record["data"]["generation"] = 7
    cluster = RefusingCluster({})
    with pytest.raises(BehindError):
        _pass(cluster, record, deployment)
    assert cluster.written == []


@dataclass
class DefaultingCluster(RefusingCluster):
    """A cluster whose definition has another default now; counts how often the server and its Deployment are read."""

    reads: list[str] = field(default_factory=list)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        self.reads.append(kind.kind)
        return await super().get(kind, namespace, name)


def _pass_with_default(cluster: DefaultingCluster, observed: int, passes: int = 1, **metadata: Any) -> None:
    """Make passes over a server at generation 2, whose record knows no memory fraction."""
    record, deployment = _kept(1, replicas=1)
    defaulted = make_server(replicas=2, engine={"memoryFractionStatic": 0.85})
    ready = make_condition("Ready", "True", "AllReplicasServe", "")
    defaulted |= {"status": {"observedGeneration": observed, "conditions": [ready]}}
    defaulted["metadata"] |= {"generation": 2}
    cluster.live["KimiLinearServer/kimi"] = {**defaulted, "metadata": {**defaulted["metadata"], **metadata}}
    cache = new_cache()
    companions = map(stored, build_companions(KimiLinearServer.model_validate(defaulted)))
    for manifest in (defaulted, record, deployment, *companions):
        cache.put(SERVER if manifest is defaulted else kind_of(manifest), manifest)
    reconciler = Passes(cluster, cache)
    for _ in range(passes):
        asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER)))


def test_what_nobody_asked_for_is_remembered_of_so_many_servers_and_of_the_others_read_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(templates, "_MOST_ANSWERS", 2)
    cluster, cache, live = DefaultingCluster({}), new_cache(), {}
    for name in "abc":
        server = make_server(name, engine={"memoryFractionStatic": 0.85})
        server["metadata"] |= {"generation": 2, "managedFields": _managed()}
        cluster.live[f"KimiLinearServer/{name}"] = server
        before = KimiLinearServer.model_validate(make_server(name))
        kept = replace(choose(before, History()).current, number=1, generation=0)
        cache.put(REVISION, stored(build_revision(before, kept)))
        live[name] = stored(build_deployment(before, kept.template, 1))
    decider = Templates(make_context(cluster, cache))

    def decide(name: str) -> int:
        """Choose the template of a server; return the number of remembered servers."""
        key, found = Key("default", name, SERVER), cluster.live[f"KimiLinearServer/{name}"]
        decision = asyncio.run(decider.decide(key, KimiLinearServer.model_validate(found), live[name]))
        assert decision.server.spec.engine.memory_fraction_static is None
        return len(decider._unrequested)

    assert [decide(name) for name in "aabc"] == [1, 1, 2, 2]
    assert cluster.reads.count("KimiLinearServer") == 3
    assert (decide("b"), cluster.reads.count("KimiLinearServer")) == (2, 3)
    assert (decide("a"), cluster.reads.count("KimiLinearServer")) == (2, 4)


def _managed(*owners: Manifest) -> list[Manifest]:
    return [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:replicas": {}}}}, *owners]


def test_a_default_that_came_with_a_scale_replaces_no_pod_and_is_looked_up_once() -> None:
    cluster = DefaultingCluster({})
    _pass_with_default(cluster, 1, managedFields=_managed())
    assert cluster.reads.count("KimiLinearServer") == 1
    assert "ControllerRevision/kimi-2" not in cluster.written
    [deployment] = [item for item in cluster.applied if item["kind"] == "Deployment"]
    assert deployment["spec"]["replicas"] == 2
    assert "0.85" not in str(deployment)


def test_a_spec_that_was_applied_is_looked_up_once_and_no_default_that_nobody_asked_for_is_offered() -> None:
    cluster = DefaultingCluster({})
    _pass_with_default(cluster, 2, passes=3, managedFields=_managed())
    assert cluster.reads.count("KimiLinearServer") == 1
    assert "ControllerRevision/kimi-2" not in cluster.written
    assert find_condition(cluster.status, "TemplateCurrent")["reason"] == "Newest"
    assert "0.85" not in cluster.status["command"]


def test_a_wish_for_what_is_the_default_elsewhere_replaces_pods() -> None:
    cluster = DefaultingCluster({})
    wish = {"manager": "me", "fieldsV1": {"f:spec": {"f:engine": {"f:memoryFractionStatic": {}}}}}
    _pass_with_default(cluster, 1, managedFields=_managed(wish))
    assert "ControllerRevision/kimi-2" in cluster.written


@pytest.mark.parametrize(
    ("owners", "reason"),
    [
        ([], "SpecValid"),
        ([{"manager": "me", "fieldsV1": {"f:spec": {"f:engine": {"f:attentionBackend": {}}}}}], "InvalidSpec"),
    ],
    ids=["a default", "somebody set it"],
)
def test_a_default_that_this_version_cannot_read_is_as_if_it_were_not_there(
    owners: list[Manifest], reason: str
) -> None:
    cluster, (record, deployment) = DefaultingCluster({}), _kept(1, replicas=1)
    defaulted = make_server(replicas=2, engine={"attentionBackend": "AITER-v2"})
    defaulted["metadata"] |= {"generation": 2, "managedFields": _managed(*owners)}
    cluster.live["KimiLinearServer/kimi"] = defaulted
    cache = new_cache()
    for kind, manifest in ((SERVER, defaulted), (REVISION, record), (DEPLOYMENT, deployment)):
        cache.put(kind, manifest)
    reconciler = Passes(cluster, cache)
    for _ in range(2):
        asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER)))
    assert find_condition(cluster.status, "Accepted")["reason"] == reason
    assert cluster.reads.count("KimiLinearServer") == 1
    sizes = [item["spec"]["replicas"] for item in cluster.applied if item["kind"] == "Deployment"]
    assert (sizes, "ControllerRevision/kimi-2" in cluster.written) == ([2] if reason == "SpecValid" else [], False)


def test_who_owns_a_newer_spec_says_nothing_of_the_one_that_was_seen() -> None:
    cluster = DefaultingCluster({})
    with pytest.raises(BehindError):
        _pass_with_default(cluster, 1, generation=3, managedFields=_managed())
    assert "ControllerRevision/kimi-2" not in cluster.written


def _pass_after_another_version(cluster: DefaultingCluster, applied: Manifest, seen: Manifest) -> None:
    """Make a pass over a server with an automatic record of another version, which may have applied it already."""
    ran, _ = _kept(1)
    begun = copy.deepcopy(ran)
    begun["metadata"] |= {"name": "kimi-2", "annotations": {AUTOMATIC_ANNOTATION: "true"}}
    begun |= {"revision": 2}
    begun["data"]["template"]["spec"]["containers"][0]["image"] = "another"
    cluster.live["Deployment/kimi"] = applied
    cache = new_cache()
    for kind, manifest in ((SERVER, make_server()), (REVISION, ran), (REVISION, begun), (DEPLOYMENT, seen)):
        cache.put(kind, manifest)
    asyncio.run(Passes(cluster, cache).reconcile(Key("default", "kimi", SERVER)))


def test_what_another_version_recorded_by_itself_and_did_not_apply_is_given_up() -> None:
    cluster, (_, deployment) = DefaultingCluster({}), _kept(1)
    _pass_after_another_version(cluster, deployment, deployment)
    assert "-ControllerRevision/kimi-2" in cluster.written
    assert "another" not in str(cluster.applied)


def test_what_another_version_did_apply_is_gone_on_with_also_if_no_watch_has_told_yet() -> None:
    cluster, (_, seen), (_, applied) = DefaultingCluster({}), _kept(1), _kept(2)
    _pass_after_another_version(cluster, applied, seen)
    assert "-ControllerRevision/kimi-2" not in cluster.written


def _pass_over(cluster: RefusingCluster, status: Manifest, *children: Manifest) -> None:
    """Make a pass over a server with this status, and with these children in the cache."""
    cluster.live["KimiLinearServer/kimi"] = make_server() | {"status": status}
    cache = new_cache()
    cache.put(SERVER, cluster.live["KimiLinearServer/kimi"])
    for manifest in children:
        cache.put(kind_of(manifest), manifest)
    asyncio.run(Passes(cluster, cache).reconcile(Key("default", "kimi", SERVER)))


def _record_of_another_version() -> Manifest:
    record, _ = _kept(1)
    record["data"]["template"]["spec"]["containers"][0]["image"] = "another"
    return record


def test_a_new_server_that_another_version_could_not_apply_gets_todays_pods() -> None:
    cluster = RefusingCluster({})
    _pass_over(cluster, {"observedGeneration": 1}, _record_of_another_version())
    assert {"ControllerRevision/kimi-2", "Deployment/kimi"} <= set(cluster.written)
    assert "another" not in str(cluster.applied)


def test_a_server_that_was_served_gets_its_deployment_back_as_it_was() -> None:
    cluster = RefusingCluster({})
    _pass_over(cluster, {"observedGeneration": 1, "image": "another"}, _record_of_another_version())
    [deployment] = [item for item in cluster.applied if item["kind"] == "Deployment"]
    assert "another" in str(deployment["spec"]["template"])


def test_a_new_server_whose_deployment_no_watch_has_told_of_yet_keeps_its_pods() -> None:
    cluster, (_, applied) = RefusingCluster({}), _kept(1)
    cluster.live["Deployment/kimi"] = applied
    _pass_over(cluster, {}, _record_of_another_version())
    assert "ControllerRevision/kimi-2" not in cluster.written


def test_a_mark_that_somebody_deleted_with_its_record_is_made_again_while_it_is_rolled_out() -> None:
    for reason in ("RollingOutByItself", "Newest"):
        cluster, (_, deployment) = RefusingCluster({}), _kept(2, replicas=1)
        cluster.live["Deployment/kimi"] = deployment
        told = [
            make_condition("Ready", "False", "RollingOut", ""),
            make_condition("TemplateCurrent", "True", reason, ""),
        ]
        _pass_over(cluster, {"observedGeneration": 1, "conditions": told}, deployment)
        [record] = [item for item in cluster.applied if item["kind"] == "ControllerRevision"]
        assert (AUTOMATIC_ANNOTATION in record["metadata"]["annotations"]) == (reason == "RollingOutByItself")


@pytest.mark.parametrize(("minutes", "seconds"), [(0, BLOCKED_RETRY_SECONDS), (4, 60), (40, LONGEST_BLOCKED_SECONDS)])
def test_what_the_spec_is_to_blame_for_is_tried_again_later_and_later(minutes: int, seconds: float) -> None:
    cache, cluster = new_cache(), RefusingCluster({"Service/kimi": ApiError(422, "no")})
    accepted = make_condition("Accepted", "False", "ApplyFailed", "no")
    cache.put(SERVER, make_server() | {"status": {"observedGeneration": 1, "conditions": [accepted]}})
    since = datetime.fromisoformat(accepted["lastTransitionTime"])
    now = (since + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    cluster.live["KimiLinearServer/kimi"] = make_server()
    reconciler = Passes(cluster, cache, now=lambda: now)
    assert asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER))) == seconds


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_chosen_server_takes_the_newest_template_only_if_it_is_ready_in_its_pass(*, is_ready: bool) -> None:
    cluster, cache, key = RefusingCluster({}), new_cache(), Key("default", "kimi", SERVER)
    told = [
        make_condition("Ready", str(is_ready), "AllReplicasServe" if is_ready else "CrashLooping", ""),
        make_condition("TemplateCurrent", "False", "NewTemplateAvailable", ""),
    ]
    server = make_server(replicas=1) | {"status": {"observedGeneration": 1, "conditions": told}}
    record, deployment = _kept(1, replicas=1)
    for template in (record["data"]["template"], deployment["spec"]["template"]):
        template["spec"]["containers"][0]["image"] = "another"
    for kind, manifest in ((SERVER, server), (REVISION, record), (DEPLOYMENT, deployment)):
        cache.put(kind, manifest)
    cluster.live["KimiLinearServer/kimi"] = server
    context = make_context(cluster, cache)
    context.about_to_change.add(key)
    asyncio.run(ServerReconciler(context).reconcile(key, 0))
    assert ("ControllerRevision/kimi-2" in cluster.written) == is_ready
    assert not context.about_to_change


ROUTED: Any = {"httpRoute": {"parentRefs": [{"name": "public"}]}}


def _ask_for(asked: list[set[Kind]], *answers: Mapping[Kind, ApiError] | Exception) -> Callable[..., Any]:
    """Return an `ask` that remembers what was asked for, and gives these answers in turn."""
    left = iter(answers)

    def ask(_: Key, kinds: Collection[Kind]) -> Mapping[Kind, ApiError]:
        asked.append({*kinds})
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def test_a_child_whose_kind_cannot_be_read_is_withheld_and_nothing_else_is() -> None:
    asked: list[set[Kind]] = []
    cache, cluster = new_cache(), RefusingCluster({})
    cache.put(SERVER, make_server(**ROUTED))
    passes = Passes(cluster, cache, ask=_ask_for(asked, {HTTP_ROUTE: ApiError(404, "page not found")}, {}))
    key = Key("default", "kimi", SERVER)
    asyncio.run(passes.reconcile(key))
    assert set(cluster.written) == {"ControllerRevision/kimi-1", "Deployment/kimi", "Service/kimi"}
    assert find_condition(cluster.status, "Synced")["reason"] == "KindMissing"
    assert find_condition(cluster.status, "Accepted")["status"] == "True"
    cluster.live["KimiLinearServer/kimi"] = make_server(**ROUTED)
    asyncio.run(passes.reconcile(key))
    assert cluster.written[-1] == "HTTPRoute/kimi"
    assert find_condition(cluster.status, "Synced")["status"] == "True"
    assert asked == [{HTTP_ROUTE}, {HTTP_ROUTE}]


OPTIONAL: Any = {
    "autoscaling": {"maxReplicas": 4},
    "networkPolicy": {"from": []},
    "monitoring": {},
    "ingress": {"hosts": ["kimi.example.com"]},
    **ROUTED,
}
OPTIONAL_NAMES = [
    f"{kind}/kimi"
    for kind in ("HorizontalPodAutoscaler", "NetworkPolicy", "PodMonitor", "PrometheusRule", "Ingress", "HTTPRoute")
]
WORDS = 'admission webhook "example.com" denied the request: no'


@pytest.mark.parametrize("error", [ApiError(403, WORDS), ApiError(422, "wrong")], ids=["denied", "invalid"])
@pytest.mark.parametrize("refused", OPTIONAL_NAMES)
def test_a_server_serves_although_an_optional_child_is_refused_and_says_so(refused: str, error: ApiError) -> None:
    cluster = RefusingCluster({refused: error})
    assert _pass(cluster, *_running(replicas=1), **OPTIONAL) == BLOCKED_RETRY_SECONDS
    told = {item["type"]: (item["status"], item["reason"]) for item in cluster.status["conditions"]}
    assert told["Synced"] == ("False", "ApplyFailed")
    assert (told["Ready"], told["Accepted"], told["Stalled"][0]) == (
        ("True", "AllReplicasServe"),
        ("True", "SpecValid"),
        "False",
    )
    message = find_condition(cluster.status, "Synced")["message"]
    assert message == f"{refused.replace('/', ' ')}: {error.message}"
    assert {*OPTIONAL_NAMES} - {refused} <= {*cluster.written}


def test_an_optional_child_whose_name_is_taken_is_told_once_and_left_alone() -> None:
    theirs = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "kimi", "uid": "theirs"}}
    cluster = RefusingCluster({"Ingress/kimi": ApiError(409, "exists")}, live={"Ingress/kimi": stored(theirs)})
    _pass(cluster, *_running(replicas=1), ingress={})
    synced = find_condition(cluster.status, "Synced")
    assert (synced["status"], synced["reason"], synced["message"].count("Ingress kimi")) == ("False", "NameConflict", 1)
    assert ready_condition(cluster.status)["status"] == "True"


def test_all_optional_children_that_are_refused_are_named() -> None:
    refused = {name: ApiError(403, f"no {name}") for name in OPTIONAL_NAMES}
    cluster = RefusingCluster(refused)
    _pass(cluster, *_running(replicas=1), **OPTIONAL)
    message = find_condition(cluster.status, "Synced")["message"]
    assert [name for name in OPTIONAL_NAMES if f"{name.replace('/', ' ')}: no {name}" not in message] == []


def test_an_optional_child_that_is_refused_while_weights_are_missing_is_not_what_the_server_waits_for() -> None:
    cluster = RefusingCluster({"Ingress/kimi": ApiError(422, "wrong")})
    _pass(cluster, model={"weights": "kimi"}, **OPTIONAL)
    assert ready_condition(cluster.status)["reason"] == "WeightsMissing"
    assert find_condition(cluster.status, "Accepted")["status"] == "True"
    assert find_condition(cluster.status, "Synced")["message"] == "Ingress kimi: wrong"


def test_a_failure_of_an_optional_child_that_passes_is_tried_again_and_told_only_if_it_does_not() -> None:
    for failures, synced in ((0, "True"), (REPORTED_FAILURES, "False")):
        cluster = RefusingCluster({"NetworkPolicy/kimi": ApiError(503, "busy")})
        with pytest.raises(ApiError, match="busy"):
            _pass(cluster, *_running(replicas=1), failures=failures, **OPTIONAL)
        assert ready_condition(cluster.status)["status"] == "True"
        assert find_condition(cluster.status, "Synced")["status"] == synced


CLOSED: Any = {"model": {"path": "/models/kimi"}, "engine": {"extraPipPackages": []}}
"""What a server sets so that its pods fetch nothing."""
PROXY: Any = {"spec": {"containers": [{"name": "proxy", "image": "envoy", "ports": [{"containerPort": 8443}]}]}}


def _policy(cluster: RefusingCluster, *known: Manifest, **spec: Any) -> Manifest:
    """Return the NetworkPolicy that a pass writes."""
    peers: Any = {"networkPolicy": {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}}
    _pass(cluster, *known, **spec | peers)
    written = [
        item for item in cluster.applied if (item["kind"], item["metadata"]["name"]) == ("NetworkPolicy", "kimi")
    ]
    return written[-1]


def _open_ports(policy: Manifest) -> tuple[list[int], list[int]]:
    """Return the ports that are open for the peer, and to the internet."""
    spec = policy["spec"]
    to = [port["port"] for rule in spec.get("egress", ()) if "to" in rule for port in rule["ports"]]
    return [port["port"] for port in spec["ingress"][0]["ports"]], to


def test_a_policy_keeps_open_what_pods_with_the_template_before_need() -> None:
    """They download their model and answer through their proxy, until the last of them is replaced."""
    old, new = {"podTemplate": PROXY}, CLOSED
    assert _open_ports(_policy(RefusingCluster({}), **new)) == ([30000], [])
    policy = _policy(RefusingCluster({}), *_running(replicas=2, **old), replicas=2, **new)
    assert _open_ports(policy) == ([30000, 8443], [443])
    # The Deployment has the new template now, and one old pod is left.
    record, deployment = _running(replicas=2, **new)
    deployment["status"]["updatedReplicas"] = 1
    cluster = RefusingCluster({})
    _pass(cluster, record, deployment, stored(policy), replicas=2, **new, networkPolicy=_peers(policy))
    assert "NetworkPolicy/kimi" not in cluster.written
    deployment["status"]["updatedReplicas"] = 2
    assert _open_ports(_policy(RefusingCluster({}), record, deployment, stored(policy), replicas=2, **new)) == (
        [30000],
        [],
    )


def test_a_port_that_somebody_opens_is_closed_also_while_no_pod_serves_yet() -> None:
    record, deployment = _running(replicas=1, **CLOSED)
    deployment["status"]["availableReplicas"] = 0
    policy = stored(_policy(RefusingCluster({}), record, deployment, **CLOSED))
    policy["spec"]["ingress"][0]["ports"].append({"port": 22, "protocol": "TCP"})
    assert _open_ports(_policy(RefusingCluster({}), record, deployment, policy, **CLOSED)) == ([30000], [])


def _peers(policy: Manifest) -> Manifest:
    return {"from": policy["spec"]["ingress"][0]["from"]}


def test_a_policy_keeps_open_what_the_running_pods_need_if_their_successors_are_refused() -> None:
    cluster = RefusingCluster({"ControllerRevision/kimi-2": ApiError(403, "exceeded quota")})
    assert _open_ports(_policy(cluster, *_running(podTemplate=PROXY), **CLOSED)) == ([30000, 8443], [443])


def test_a_policy_keeps_open_what_the_running_pods_need_while_weights_are_missing() -> None:
    new: Any = {"engine": {"extraPipPackages": []}, "model": {"weights": "kimi"}}
    server = make_server(**new, networkPolicy={"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]})
    server["metadata"]["generation"] = 2
    cluster = RefusingCluster({})
    _pass_with_weights(cluster, *_running(podTemplate=PROXY), server=server)
    assert ready_condition(cluster.status)["reason"] == "WeightsMissing"
    [policy] = [item for item in cluster.applied if item["kind"] == "NetworkPolicy"]
    assert _open_ports(policy) == ([30000, 8443], [443])


class KeepingCluster(RefusingCluster):
    """A cluster that deletes nothing."""

    async def delete(self, kind: Kind, manifest: Manifest) -> None:
        raise ApiError(403, f"{kind.plural} may not be deleted")


def test_an_optional_child_that_cannot_be_deleted_keeps_no_server_from_being_ready() -> None:
    cluster = KeepingCluster({})
    server = KimiLinearServer.model_validate(make_server(ingress={}))
    [ingress] = [child for child in build_companions(server) if child["kind"] == "Ingress"]
    _pass(cluster, *_running(replicas=1), stored(ingress))
    assert ready_condition(cluster.status)["status"] == "True"
    message = find_condition(cluster.status, "Synced")["message"]
    assert message == "Objects that are not wanted any more: ingresses may not be deleted"


@pytest.mark.parametrize(("minutes", "seconds"), [(0, BLOCKED_RETRY_SECONDS), (4, 60), (40, LONGEST_BLOCKED_SECONDS)])
def test_an_optional_child_that_is_refused_is_tried_again_later_and_later(minutes: int, seconds: float) -> None:
    cache, cluster = new_cache(), RefusingCluster({"Ingress/kimi": ApiError(422, "no")})
    synced = make_condition("Synced", "False", "ApplyFailed", "Ingress kimi: no")
    server = make_server(ingress={})
    cluster.live["KimiLinearServer/kimi"] = server
    cache.put(SERVER, server | {"status": {"observedGeneration": 1, "conditions": [synced]}})
    since = datetime.fromisoformat(synced["lastTransitionTime"])
    now = (since + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    reconciler = Passes(cluster, cache, now=lambda: now)
    assert asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER))) == seconds


def test_nothing_is_written_before_it_is_known_whether_a_kind_can_be_read() -> None:
    cache, cluster = new_cache(), RefusingCluster({})
    cache.put(SERVER, make_server(**ROUTED))
    passes = Passes(cluster, cache, ask=_ask_for([], NotReadYetError()))
    with pytest.raises(NotReadYetError):
        asyncio.run(passes.reconcile(Key("default", "kimi", SERVER)))
    assert (cluster.written, cluster.status) == ([], {})


def test_a_server_without_optional_children_asks_for_none_and_a_deleted_one_no_more() -> None:
    asked: list[set[Kind]] = []
    cache = new_cache()
    cache.put(SERVER, make_server())
    passes = Passes(RefusingCluster({}), cache, ask=_ask_for(asked, {}, {}))
    asyncio.run(passes.reconcile(Key("default", "kimi", SERVER)))
    cache.clear()
    asyncio.run(passes.reconcile(Key("default", "kimi", SERVER)))
    assert asked == [set(), set()]


def _autoscaler(deployment: Manifest, **spec: Any) -> Manifest:
    """Return the autoscaler that a pass writes, given the server's Deployment."""
    cluster = RefusingCluster({})
    _pass(cluster, deployment, autoscaling={"maxReplicas": 4}, **spec)
    [found] = [item["spec"] for item in cluster.applied if item["kind"] == "HorizontalPodAutoscaler"]
    return dict(found)


def test_a_pass_lets_the_autoscaler_go_on_when_all_replicas_serve() -> None:
    def deployment(serving: int) -> Manifest:
        return {**make_deployment(availableReplicas=serving), "spec": {"replicas": 2}}

    assert _autoscaler(deployment(1), replicas=2)["maxReplicas"] == 2
    assert _autoscaler(deployment(2), replicas=2)["maxReplicas"] == 4


def test_a_server_that_does_not_ask_has_neither_an_autoscaler_nor_the_condition() -> None:
    cluster = RefusingCluster({})
    _pass(cluster)
    assert not any("HorizontalPodAutoscaler" in name for name in cluster.written)
    assert find_condition(cluster.status, "Autoscaling") == {}


def test_a_pass_comes_again_when_the_newest_replica_has_had_its_time() -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-24T10:00:00Z"}
    server = make_server(autoscaling={"maxReplicas": 4})
    cluster, cache = RefusingCluster({}, live={"KimiLinearServer/kimi": server}), new_cache()
    cache.put(SERVER, server)
    cache.put(POD, make_pod(conditions=[ready]))
    cache.put(DEPLOYMENT, make_deployment(availableReplicas=1))
    reconciler = Passes(cluster, cache, now=lambda: "2026-11-24T10:00:20Z")
    assert asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER))) == 40
    [built] = [item["spec"] for item in cluster.applied if item["kind"] == "HorizontalPodAutoscaler"]
    assert built["maxReplicas"] == 1
