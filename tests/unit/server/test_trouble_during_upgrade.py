"""Failing writes, late lists and people who go back replace no pod and delete no child without a request."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.kinds import AUTOSCALER, DEPLOYMENT, NETWORK_POLICY, Kind, Manifest, kind_of
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Options
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.work import Work
from kimi_linear_operator.server.manifests import build_companions, build_deployment, build_revision
from kimi_linear_operator.server.revision import History, Result, number_on
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.template_choice import choose
from make import make_condition, make_server, stored
from passes import Passes, new_cache, new_scopes
from refusing import RefusingCluster

KEY = Key("default", "kimi", SERVER)
# More failures than a status hides.
MANY = 7


def hour(number: int) -> str:
    return f"2026-11-29T{number:02}:00:00Z"


class Upgrade:
    """A server whose owner once changed its port, and operators that follow each other.

    After the upgrade of the CRDs, the spec contains a default within a list, for which nobody asked.
    """

    def __init__(self) -> None:
        self.cluster, self.cache, self.version = RefusingCluster({}), new_cache(), 100
        server = KimiLinearServer.model_validate(make_server(podTemplate=_template()))
        kept = choose(server, History()).current
        for child in (build_revision(server, kept), build_deployment(server, kept.template, kept.number)):
            child["metadata"]["creationTimestamp"] = hour(1)
            self.cache.put(kind_of(child), stored(child))
        self.cluster.live["Deployment/kimi"] = cast(Manifest, self.cache.get(KEY.of(DEPLOYMENT)))
        self.new_operator()

    def new_operator(self) -> None:
        self.operator = Passes(self.cluster, self.cache, now=lambda: hour(23))

    def reconcile(self, default: str = "", failures: int = 0) -> None:
        """Make a pass, with this default of imagePullPolicy within the list of containers."""
        self.version += 100
        manifest = make_server(podTemplate=_template(default), service={"port": 31000})
        manifest["metadata"] |= {"generation": 2, "resourceVersion": str(self.version)}
        spec: Manifest = {"f:podTemplate": {"f:spec": {"f:containers": {}}}, "f:service": {}}
        owner = {"manager": "gitops", "time": hour(5), "fieldsV1": {"f:spec": spec}}
        status = {"manager": MANAGER, "subresource": "status", "time": hour(9), "fieldsV1": {"f:status": {}}}
        managed = {**manifest["metadata"], "managedFields": [owner, status]}
        self.cluster.live["KimiLinearServer/kimi"] = {**manifest, "metadata": managed, "status": self.cluster.status}
        self.cache.put(SERVER, {**manifest, "status": self.cluster.status})
        asyncio.run(self.operator.reconcile(KEY, failures))

    def fail(self, default: str) -> None:
        """Make passes whose writes fail until the status says so."""
        for failures in range(MANY):
            with pytest.raises(ApiError, match="webhook"):
                self.reconcile(default, failures)
        assert ready_condition(self.cluster.status)["reason"] == "ApplyFailed"


def _template(pull_policy: str = "") -> Manifest:
    container = {"name": "sglang", "env": [{"name": "X", "value": "1"}]}
    return {"spec": {"containers": [{**container, **({"imagePullPolicy": pull_policy} if pull_policy else {})}]}}


@pytest.mark.parametrize("is_upgraded_first", [True, False])
def test_failed_writes_make_no_leader_roll_out_a_default_within_a_list(*, is_upgraded_first: bool) -> None:
    upgrade = Upgrade()
    upgrade.reconcile()
    upgrade.new_operator()
    written = [*(f"ControllerRevision/kimi-{number}" for number in range(1, 4)), "Deployment/kimi", "Service/kimi"]
    if not is_upgraded_first:
        # Only a changed Service is written, so only this write can fail.
        service = next(child for child in upgrade.cluster.applied if child["kind"] == "Service")
        about = {**service["metadata"], "annotations": {}, "resourceVersion": "90000"}
        upgrade.cache.put(kind_of(service), stored({**service, "metadata": about}))
    upgrade.cluster.refused |= dict.fromkeys(written, ApiError(500, "failed calling webhook: deadline exceeded"))
    default = "Always"
    upgrade.fail(default if is_upgraded_first else "")
    upgrade.new_operator()
    upgrade.cluster.refused.clear()
    for _ in range(3):
        upgrade.reconcile(default)
    pods = [child["spec"]["template"] for child in upgrade.cluster.applied if child["kind"] == "Deployment"]
    assert "imagePullPolicy" not in str(pods)
    assert "ControllerRevision/kimi-2" not in upgrade.cluster.written
    assert find_condition(upgrade.cluster.status, "TemplateCurrent")["reason"] == "Newest"


def test_a_deployment_that_somebody_rolled_back_gets_the_template_of_the_spec_again() -> None:
    """`kubectl rollout undo` restores the older pod template, with our annotation. A verified record stays."""

    def server(generation: int, **spec: Any) -> Manifest:
        manifest = make_server(verification={"mode": "Warn"}, **spec)
        return {**manifest, "metadata": {**manifest["metadata"], "generation": generation}}

    older, newer = server(1), server(2, toolCallParser="enabled")
    models = [KimiLinearServer.model_validate(manifest) for manifest in (older, newer)]
    first = replace(choose(models[0], History()).current, result=Result(True, "right"))
    second = replace(choose(models[1], History([first], first.number)).current, result=Result(True, "right"))
    cluster, cache = RefusingCluster({}), new_cache()
    undone = stored(build_deployment(models[0], first.template, first.number))
    for child in (stored(build_revision(models[0], first)), stored(build_revision(models[1], second)), undone):
        cache.put(kind_of(child), child)
    cluster.live |= {"Deployment/kimi": undone, "KimiLinearServer/kimi": newer}
    status = {"observedGeneration": 2, "conditions": [make_condition("Ready", "True", "AllReplicasServe", "")]}
    cache.put(SERVER, {**newer, "status": status})
    asyncio.run(Passes(cluster, cache).reconcile(KEY))
    assert number_on(cache.get(KEY.of(DEPLOYMENT))) == second.number
    assert not [name for name in cluster.written if name.startswith("-")]


@pytest.mark.parametrize("is_served", [True, False], ids=["it has served", "it was never applied"])
def test_a_deployment_that_somebody_rolled_back_to_an_older_build_gets_the_kept_template_again(
    *, is_served: bool
) -> None:
    """An automatic rollout of another version took a template for the same spec. The older record is verified."""
    manifest = make_server(verification={"mode": "Warn"})
    server = KimiLinearServer.model_validate(manifest)
    first = replace(choose(server, History()).current, result=Result(True, "right"))
    template = {**first.template, "spec": {**first.template["spec"], "priorityClassName": "by-another-version"}}
    second = replace(first, number=2, template=template, is_automatic=not is_served, result=None)
    cluster, cache = RefusingCluster({}), new_cache()
    undone = stored(build_deployment(server, first.template, first.number))
    for child in (stored(build_revision(server, first)), stored(build_revision(server, second)), undone):
        cache.put(kind_of(child), child)
    cluster.live |= {"Deployment/kimi": undone, "KimiLinearServer/kimi": manifest}
    status = {"observedGeneration": 1, "conditions": [make_condition("Ready", "True", "AllReplicasServe", "")]}
    cache.put(SERVER, {**manifest, "status": status})
    asyncio.run(Passes(cluster, cache).reconcile(KEY))
    assert number_on(cache.get(KEY.of(DEPLOYMENT))) == (second.number if is_served else first.number)


def test_a_spec_with_failing_writes_rolls_out_no_default_within_a_list() -> None:
    """The owner changed the port, and the write of the Service failed until after the upgrade."""
    upgrade = Upgrade()
    upgrade.cluster.refused["Service/kimi"] = ApiError(500, "failed calling webhook: deadline exceeded")
    upgrade.fail("")
    upgrade.new_operator()
    for failures in range(3):
        with pytest.raises(ApiError, match="webhook"):
            upgrade.reconcile("Always", failures)
    upgrade.cluster.refused.clear()
    for _ in range(3):
        upgrade.reconcile("Always")
    pods = [child["spec"]["template"] for child in upgrade.cluster.applied if child["kind"] == "Deployment"]
    assert "imagePullPolicy" not in str(pods)
    assert "ControllerRevision/kimi-2" not in upgrade.cluster.written


def test_the_status_does_not_say_that_an_unrecorded_template_is_current() -> None:
    upgrade = Upgrade()
    upgrade.cluster.refused["ControllerRevision/kimi-2"] = ApiError(500, "failed calling webhook: deadline exceeded")
    upgrade.fail("Always")
    assert find_condition(upgrade.cluster.status, "TemplateCurrent")["reason"] == "SpecNotApplied"


class FencedCluster(RefusingCluster):
    """A cluster for the whole work of a leader."""

    def fenced(self, *_: object) -> "FencedCluster":
        return self

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        version = int(manifest["metadata"]["resourceVersion"]) + 1
        return {**manifest["metadata"], "resourceVersion": str(version)}


OPTIONAL = {AUTOSCALER, NETWORK_POLICY}


class World:
    """The work of a leader that cannot list autoscalers and NetworkPolicies yet. All servers have both, from before."""

    def __init__(self) -> None:
        self.cluster, self.cache, self.scopes = FencedCluster({}), new_cache(), new_scopes([])
        for number in range(32):
            self.add_server(f"s{number}")
        for scope in self.scopes:
            self.scopes.begin(scope, 0)
            if scope.kind in OPTIONAL:
                self.scopes.ask(Key("default", "s0", SERVER), OPTIONAL)
                self.scopes.fail(scope, ApiError(403, "forbidden"), 1)
            else:
                self.scopes.succeed(scope, 1)
        self.work = Work(TYPES, self.scopes, self.cache, Options())

    def add_server(self, name: str) -> None:
        manifest = make_server(name, autoscaling={"maxReplicas": 4}, networkPolicy={})
        manifest["metadata"]["uid"] = f"uid-of-{name}"
        server = KimiLinearServer.model_validate(manifest)
        kept = choose(server, History()).current
        deployment = build_deployment(server, kept.template, kept.number)
        for child in (build_revision(server, kept), deployment, *build_companions(server)):
            self.cache.put(kind_of(child), stored(child))
        self.cache.put(SERVER, manifest)
        self.cluster.live[f"KimiLinearServer/{name}"] = manifest

    def succeed(self) -> None:
        """Let the lists of the optional kinds succeed."""
        for scope in [scope for scope in self.scopes if scope.kind in OPTIONAL]:
            self.scopes.begin(scope, 2)
            if self.scopes.succeed(scope, 3):
                self.work.enqueue_scope(scope)


@pytest.mark.parametrize("turns", range(2, 12))
def test_a_list_that_succeeds_during_a_pass_makes_the_pass_delete_nothing(turns: int) -> None:
    world = World()

    async def run() -> None:
        running = asyncio.create_task(world.work.run(cast(Any, world.cluster)))
        for _ in range(turns):
            await asyncio.sleep(0)
        world.succeed()
        await asyncio.sleep(0.5)
        world.work.close()
        await running

    asyncio.run(run())
    assert not [name for name in world.cluster.written if name.startswith("-")]
