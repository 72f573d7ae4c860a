"""Which pod template a pass gives to a server, and which defaults of other versions it leaves out."""

import asyncio
import copy
from dataclasses import replace
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import (
    DEPLOYMENT,
    REVISION,
    Manifest,
    kind_of,
)
from kimi_linear_operator.reconcile import questions
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BehindError
from kimi_linear_operator.server.labels import AUTOMATIC_ANNOTATION
from kimi_linear_operator.server.manifests import build_companions, build_deployment, build_revision
from kimi_linear_operator.server.reconcile import ServerReconciler
from kimi_linear_operator.server.revision import History
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.template_choice import choose
from kimi_linear_operator.server.templates import Templates
from make import make_condition, make_server, stored
from passes import SERVER_CHECK, Passes, make_context, new_cache
from refusing import DefaultingCluster, RefusingCluster, kept_objects, one_pass, pass_over


def test_a_late_watch_rolls_nothing_back() -> None:
    record, deployment = kept_objects(2, toolCallParser="enabled")
    record["data"]["generation"] = 7
    cluster, newer = RefusingCluster({}), make_server(toolCallParser="enabled")
    newer["metadata"]["generation"] = 7
    cluster.live["KimiLinearServer/kimi"] = newer
    with pytest.raises(BehindError):
        one_pass(cluster, record, deployment)
    assert cluster.written == []


@pytest.mark.parametrize("is_same", [True, False], ids=["the same spec", "another spec"])
def test_after_a_restore_of_etcd_a_server_is_not_stuck_with_a_record_of_a_lost_time(*, is_same: bool) -> None:
    """The API server's spec is older than the record. Its inputs decide."""
    record, deployment = kept_objects(2, toolCallParser="enabled")
    record["data"]["generation"] = 7
    cluster = RefusingCluster({})
    one_pass(cluster, record, deployment, toolCallParser="enabled" if is_same else "disabled")
    assert ("ControllerRevision/kimi-3" in cluster.written) is not is_same
    assert find_condition(cluster.status, "TemplateCurrent")["reason"] == "Newest"


def _pass_with_default(cluster: DefaultingCluster, observed: int, passes: int = 1, **metadata: Any) -> None:
    """Make passes over a server at generation 2, whose record knows no memory fraction."""
    record, deployment = kept_objects(1, replicas=1)
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


def test_unrequested_fields_of_a_bounded_number_of_servers_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(questions, "_MOST_BYTES", int(2.5 * questions._BYTES_BESIDES_TEXT))
    cluster, cache, live = DefaultingCluster({}), new_cache(), {}
    for name in "abc":
        server = make_server(name, engine={"memoryFractionStatic": 0.85})
        server["metadata"] |= {"generation": 2, "managedFields": _managed()}
        cluster.live[f"KimiLinearServer/{name}"] = server
        before = KimiLinearServer.model_validate(make_server(name))
        kept = replace(choose(before, History()).current, number=1, generation=0)
        cache.put(REVISION, stored(build_revision(before, kept)))
        live[name] = stored(build_deployment(before, kept.template, 1))
    decider = Templates(make_context(cluster, cache), SERVER_CHECK)

    def decide(name: str) -> int:
        """Choose the template of a server; return the number of remembered servers."""
        key, found = Key("default", name, SERVER), cluster.live[f"KimiLinearServer/{name}"]
        decision = asyncio.run(decider.decide(key, KimiLinearServer.model_validate(found), live[name]))
        assert decision.server.spec.engine.memory_fraction_static is None
        return len(decider._questions._memory)

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


def test_an_applied_spec_is_looked_up_once_and_no_unrequested_default_is_offered() -> None:
    cluster = DefaultingCluster({})
    _pass_with_default(cluster, 2, passes=3, managedFields=_managed())
    assert cluster.reads.count("KimiLinearServer") == 1
    assert "ControllerRevision/kimi-2" not in cluster.written
    assert find_condition(cluster.status, "TemplateCurrent")["reason"] == "Newest"
    assert "0.85" not in cluster.status["command"]


def test_a_value_set_by_a_user_replaces_pods_even_if_it_is_a_default_elsewhere() -> None:
    cluster = DefaultingCluster({})
    request = {"manager": "me", "fieldsV1": {"f:spec": {"f:engine": {"f:memoryFractionStatic": {}}}}}
    _pass_with_default(cluster, 1, managedFields=_managed(request))
    assert "ControllerRevision/kimi-2" in cluster.written


@pytest.mark.parametrize(
    ("owners", "reason"),
    [
        ([], "SpecValid"),
        ([{"manager": "me", "fieldsV1": {"f:spec": {"f:engine": {"f:attentionBackend": {}}}}}], "InvalidSpec"),
    ],
    ids=["a default", "somebody set it"],
)
def test_a_default_that_this_version_cannot_read_is_ignored_unless_somebody_set_it(
    owners: list[Manifest], reason: str
) -> None:
    cluster, (record, deployment) = DefaultingCluster({}), kept_objects(1, replicas=1)
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


def test_the_owners_of_a_newer_spec_prove_nothing_about_an_older_one() -> None:
    cluster = DefaultingCluster({})
    with pytest.raises(BehindError):
        _pass_with_default(cluster, 1, generation=3, managedFields=_managed())
    assert "ControllerRevision/kimi-2" not in cluster.written


def _pass_after_another_version(cluster: DefaultingCluster, applied: Manifest, seen: Manifest) -> None:
    """Make a pass over a server with an automatic record of another version.

    That version may already have applied the template.
    """
    ran, _ = kept_objects(1)
    begun = copy.deepcopy(ran)
    begun["metadata"] |= {"name": "kimi-2", "annotations": {AUTOMATIC_ANNOTATION: "true"}}
    begun |= {"revision": 2}
    begun["data"]["template"]["spec"]["containers"][0]["image"] = "another"
    cluster.live["Deployment/kimi"] = applied
    cache = new_cache()
    for kind, manifest in ((SERVER, make_server()), (REVISION, ran), (REVISION, begun), (DEPLOYMENT, seen)):
        cache.put(kind, manifest)
    passes = Passes(cluster, cache)
    for _ in range(2):
        asyncio.run(passes.reconcile(Key("default", "kimi", SERVER)))


def test_an_unapplied_automatic_record_of_another_version_is_given_up() -> None:
    cluster, (_, deployment) = DefaultingCluster({}), kept_objects(1)
    _pass_after_another_version(cluster, deployment, deployment)
    assert "-ControllerRevision/kimi-2" in cluster.written
    assert "another" not in str(cluster.applied)


def test_an_applied_record_of_another_version_continues_even_if_the_watch_is_late() -> None:
    cluster, (_, seen), (_, applied) = DefaultingCluster({}), kept_objects(1), kept_objects(2)
    _pass_after_another_version(cluster, applied, seen)
    assert "-ControllerRevision/kimi-2" not in cluster.written


def _pass_with_status(cluster: RefusingCluster, status: Manifest, *children: Manifest) -> None:
    """Make a pass over a server with this status, and with these children in the cache."""
    pass_over(cluster, *children, server=make_server() | {"status": status})


def _record_of_another_version() -> Manifest:
    record, _ = kept_objects(1)
    record["data"]["template"]["spec"]["containers"][0]["image"] = "another"
    return record


def test_a_new_server_that_another_version_could_not_apply_gets_this_versions_pods() -> None:
    cluster = RefusingCluster({})
    _pass_with_status(cluster, {"observedGeneration": 1}, _record_of_another_version())
    assert {"ControllerRevision/kimi-2", "Deployment/kimi"} <= set(cluster.written)
    assert "another" not in str(cluster.applied)


def test_a_server_that_has_served_gets_its_deleted_deployment_back_unchanged() -> None:
    cluster = RefusingCluster({})
    _pass_with_status(cluster, {"observedGeneration": 1, "image": "another"}, _record_of_another_version())
    [deployment] = [item for item in cluster.applied if item["kind"] == "Deployment"]
    assert "another" in str(deployment["spec"]["template"])


def test_a_new_server_whose_deployment_no_watch_has_shown_keeps_its_pods() -> None:
    cluster, (_, applied) = RefusingCluster({}), kept_objects(1)
    cluster.live["Deployment/kimi"] = applied
    _pass_with_status(cluster, {}, _record_of_another_version())
    assert "ControllerRevision/kimi-2" not in cluster.written


def test_a_rollout_mark_deleted_with_its_record_is_restored_during_the_rollout() -> None:
    for reason in ("RollingOutByItself", "Newest"):
        cluster, (_, deployment) = RefusingCluster({}), kept_objects(2, replicas=1)
        cluster.live["Deployment/kimi"] = deployment
        told = [
            make_condition("Ready", "False", "RollingOut", ""),
            make_condition("TemplateCurrent", "True", reason, ""),
        ]
        _pass_with_status(cluster, {"observedGeneration": 1, "conditions": told}, deployment)
        [record] = [item for item in cluster.applied if item["kind"] == "ControllerRevision"]
        assert (AUTOMATIC_ANNOTATION in record["metadata"]["annotations"]) == (reason == "RollingOutByItself")


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_chosen_server_takes_the_newest_template_only_if_it_is_ready_in_its_pass(*, is_ready: bool) -> None:
    cluster, cache, key = RefusingCluster({}), new_cache(), Key("default", "kimi", SERVER)
    told = [
        make_condition("Ready", str(is_ready), "AllReplicasServe" if is_ready else "CrashLooping", ""),
        make_condition("TemplateCurrent", "False", "NewTemplateAvailable", ""),
    ]
    server = make_server(replicas=1) | {"status": {"observedGeneration": 1, "conditions": told}}
    record, deployment = kept_objects(1, replicas=1)
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
