"""Another version of the operator builds other pods: what runs stays as it is until its owner wants the new ones."""

import itertools
import json

import pytest

from control_plane import LocalCluster
from integration.client import path_of
from integration.client_pods import (
    benchmark,
    change_benchmark,
    create_benchmark,
    end_suite,
    running_pod,
    wait_for_reason,
)
from integration.faults import Call, Hold, refuse
from integration.kubelet import HELD_SPEC, held_pod, report_ready
from integration.namespace import Namespace, Spec, condition_of, server_manifest
from integration.newer_version import FRACTION
from integration.other_version import MARK, is_built_by_other
from integration.processes_under_test import NEWER_VERSION, OTHER_VERSION, THIS_VERSION, Program, run_command
from integration.sandbox import Sandbox, Sandboxes
from integration.schema import newer_definition
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, SERVICE, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION, SERVER_LABEL
from kimi_linear_operator.server.manifests import build
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer

_SPEC: Spec = {"tensorParallelism": 1}
_MANY = [f"kimi-{number:02}" for number in range(20)]
_QUIET_SECONDS = 2.0


def _create(namespace: Namespace, names: list[str], spec: Spec | None = None) -> None:
    for name in names:
        namespace.create_server(name, {**_SPEC, **(spec or {})})
    for name in names:
        namespace.wait_until_ready(name)


def _go_on_as(sandbox: Sandbox, program: Program) -> None:
    """Kill the operator and start another version of it: no chance to finish anything."""
    sandbox.operator.kill()
    sandbox.operator.program = program
    sandbox.restart_after_crash()


def _running(namespace: Namespace, name: str) -> Manifest:
    """Return what runs for a server: what a rollout would change."""
    deployment = namespace.deployment(name)
    return {
        "generation": deployment["metadata"]["generation"],
        "template": deployment["spec"]["template"],
        "replicaSets": sorted(item["metadata"]["name"] for item in namespace.replica_sets(name)),
        "pods": sorted(pod["metadata"]["name"] for pod in namespace.pods(name)),
    }


def _wait_for_offer(namespace: Namespace, names: list[str], status: str) -> None:
    for name in names:
        namespace.wait_for_condition(name, "TemplateCurrent", status)


def _has_other_pods(namespace: Namespace, name: str) -> bool:
    return is_built_by_other(namespace.deployment(name)["spec"]["template"])


def test_an_upgrade_and_a_rollback_change_nothing_that_runs(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    _create(namespace, _MANY)
    before = {name: _running(namespace, name) for name in _MANY}

    _go_on_as(sandbox, OTHER_VERSION)
    _wait_for_offer(namespace, _MANY, "False")
    stays(lambda: {name: _running(namespace, name) for name in _MANY}, "nothing changes", before.__eq__, _QUIET_SECONDS)
    for name in _MANY:
        namespace.wait_until_ready(name)
    offer = namespace.wait_for_condition(_MANY[0], "TemplateCurrent", "False", "NewTemplateAvailable")
    assert f"spec.containers[sglang].env[{MARK}]" in offer["message"]
    assert ROLLOUT_ANNOTATION in offer["message"]
    told = {item["type"]: item["status"] for item in namespace.server(_MANY[0])["status"]["conditions"]}
    assert (told["Ready"], told["Reconciling"], told["Stalled"]) == ("True", "False", "False")

    _go_on_as(sandbox, THIS_VERSION)
    _wait_for_offer(namespace, _MANY, "True")
    assert {name: _running(namespace, name) for name in _MANY} == before


def test_a_rollback_changes_nothing_that_the_newer_version_made(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    _go_on_as(sandbox, OTHER_VERSION)
    _create(namespace, ["kimi"])
    before = _running(namespace, "kimi")
    assert _has_other_pods(namespace, "kimi")
    _go_on_as(sandbox, THIS_VERSION)
    _wait_for_offer(namespace, ["kimi"], "False")
    assert _running(namespace, "kimi") == before


def test_an_upgrade_that_is_killed_half_way_rolls_each_server_out_once_at_most(sandbox: Sandbox) -> None:
    """Everybody's spec is changed while one version is replaced by another, and that is killed, too."""
    namespace = sandbox.namespace
    _create(namespace, _MANY)
    for name in _MANY:
        namespace.change_server(name, {"engine": {"contextLength": 4096}})
    _go_on_as(sandbox, OTHER_VERSION)
    _go_on_as(sandbox, THIS_VERSION)
    for name in _MANY:
        namespace.wait_until_ready(name)
    for name in _MANY:
        running = _running(namespace, name)
        assert (running["generation"], len(running["replicaSets"])) == (2, 2), name
        assert len(_revisions(namespace, name)) == 1


def _revisions(namespace: Namespace, name: str) -> list[Manifest]:
    return wait_for(
        lambda: namespace.client.list(REVISION, namespace.name, {"labelSelector": f"{SERVER_LABEL}={name}"}),
        "one record is left",
        lambda found: len(found) == 1,
    )


@pytest.fixture
def offered(sandbox: Sandbox) -> Namespace:
    """A namespace with a server to which another version offers its pods."""
    _create(sandbox.namespace, ["kimi", "other"])
    _go_on_as(sandbox, OTHER_VERSION)
    _wait_for_offer(sandbox.namespace, ["kimi", "other"], "False")
    return sandbox.namespace


def test_the_annotation_takes_the_new_pods_for_one_server(offered: Namespace) -> None:
    before = _running(offered, "other")
    for value in ("2026-11-28", "again"):
        offered.edit(SERVER, "kimi", {"metadata": {"annotations": {ROLLOUT_ANNOTATION: value}}})
        offered.wait_for_condition("kimi", "TemplateCurrent", "True")
        offered.wait_until_ready("kimi")
        assert _has_other_pods(offered, "kimi")
        # There is nothing new to take the second time.
        wait_for(lambda: len(_running(offered, "kimi")["replicaSets"]), "one rollout", (2).__eq__)
    assert _running(offered, "other") == before
    offered.edit(SERVER, "kimi", {"metadata": {"annotations": {ROLLOUT_ANNOTATION: None}}})
    stays(lambda: offered.deployment("kimi")["metadata"]["generation"], "no rollout", lambda _: True, 0.5)


def test_a_change_of_the_spec_takes_the_new_pods(offered: Namespace) -> None:
    offered.change_server("kimi", {"engine": {"contextLength": 4096}})
    offered.wait_for_condition("kimi", "TemplateCurrent", "True")
    assert _has_other_pods(offered, "kimi")
    assert not _has_other_pods(offered, "other")


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": 2},
        {"suspend": True},
        {"service": {"port": 8000, "headless": True}},
        {"rollout": {"strategy": "Surge"}},
    ],
    ids=str,
)
def test_what_concerns_no_pod_takes_no_new_pods(offered: Namespace, change: Spec) -> None:
    before = offered.deployment("kimi")["spec"]["template"]
    offered.change_server("kimi", change)
    offered.wait_for_condition("kimi", "Reconciling", "False")
    assert offered.deployment("kimi")["spec"]["template"] == before
    offered.wait_for_condition("kimi", "TemplateCurrent", "False")


def test_drift_is_repaired_to_the_kept_pods(offered: Namespace) -> None:
    before = offered.deployment("kimi")["spec"]["template"]
    containers = [{**before["spec"]["containers"][0], "image": "example.com/other:v1"}]
    offered.edit(DEPLOYMENT, "kimi", {"spec": {"template": {"spec": {"containers": containers}}}})
    wait_for(lambda: offered.deployment("kimi")["spec"]["template"], "it is repaired", before.__eq__)


def test_a_deployment_that_was_deleted_comes_back_with_the_kept_pods(offered: Namespace) -> None:
    before = offered.deployment("kimi")
    offered.delete(DEPLOYMENT, "kimi")
    wait_for(lambda: offered.find(DEPLOYMENT, "kimi"), "it is there again")
    again = offered.deployment("kimi")
    assert again["metadata"]["uid"] != before["metadata"]["uid"]
    assert again["spec"]["template"] == before["spec"]["template"]


def test_a_record_that_was_deleted_is_made_of_what_runs(offered: Namespace) -> None:
    before = _running(offered, "kimi")["replicaSets"]
    offered.delete(REVISION, "kimi-1")
    [record] = _revisions(offered, "kimi")
    assert not is_built_by_other(record["data"]["template"])
    offered.wait_for_condition("kimi", "TemplateCurrent", "False")
    offered.wait_until_ready("kimi")
    assert _running(offered, "kimi")["replicaSets"] == before


def test_servers_made_before_anything_was_kept_are_taken_over_as_they_run(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    _create(namespace, ["kimi", "extended"])
    sandbox.operator.kill()
    _extend(namespace, "extended")
    for name in ("kimi", "extended"):
        _forget(namespace, name)
    before = {name: _running(namespace, name) for name in ("kimi", "extended")}
    sandbox.operator.program = OTHER_VERSION
    sandbox.restart_after_crash()
    for name, ran in before.items():
        namespace.wait_for_condition(name, "TemplateCurrent", "False")
        namespace.wait_until_ready(name)
        after = _running(namespace, name)
        assert {**after, "generation": 0} == {**ran, "generation": 0}
        [record] = _revisions(namespace, name)
        assert not is_built_by_other(record["data"]["template"])
        # What others added is not the operator's now, or they could never remove it.
        assert "restartedAt" not in str(record["data"]["template"])


def test_servers_are_taken_over_as_they_run_also_after_something_was_in_the_way(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    _create(namespace, ["kimi"])
    sandbox.operator.kill()
    _forget(namespace, "kimi")
    before = _running(namespace, "kimi")["replicaSets"]
    taken = {"metadata": {"name": "kimi-1", "namespace": namespace.name}, "revision": 1, "data": {}}
    namespace.client.apply(REVISION, {"apiVersion": REVISION.api_version, "kind": REVISION.kind, **taken}, "somebody")
    sandbox.operator.program = OTHER_VERSION
    sandbox.restart_after_crash()
    namespace.wait_for_condition("kimi", "Ready", "False", "NameConflict")
    namespace.delete(REVISION, "kimi-1")
    namespace.wait_until_ready("kimi")
    assert _running(namespace, "kimi")["replicaSets"] == before
    namespace.wait_for_condition("kimi", "TemplateCurrent", "False")


def _extend(namespace: Namespace, name: str) -> None:
    """Do to a Deployment what `kubectl rollout restart` and `kubectl set env` do."""
    [container] = namespace.deployment(name)["spec"]["template"]["spec"]["containers"]
    changed = {**container, "env": [*container["env"], {"name": "ADDED", "value": "1"}]}
    template = {"metadata": {"annotations": {"restartedAt": "now"}}, "spec": {"containers": [changed]}}
    namespace.edit(DEPLOYMENT, name, {"spec": {"template": template}})
    wait_for(lambda: len(namespace.pods(name)), "its pod is replaced", (1).__eq__)
    wait_for(lambda: len(namespace.replica_sets(name)), "another ReplicaSet", (2).__eq__)


def _forget(namespace: Namespace, name: str) -> None:
    """Make a server as a version left it that kept nothing."""
    namespace.client.delete(REVISION, namespace.name, f"{name}-1")
    server = KimiLinearServer.model_validate(namespace.server(name))
    (*_, deployment) = build(server)
    namespace.client.apply(DEPLOYMENT, deployment, MANAGER)


def test_a_template_that_is_refused_keeps_no_server_from_being_suspended(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    _create(namespace, ["kimi"], {"replicas": 2})
    before = namespace.deployment("kimi")["spec"]["template"]
    broken = {"spec": {"containers": [{"name": "sglang", "stdin": "no boolean"}]}}
    namespace.change_server("kimi", {"podTemplate": broken, "suspend": True})
    namespace.wait_for_condition("kimi", "Accepted", "False", "ApplyFailed")
    wait_for(lambda: namespace.pods("kimi"), "no pod runs", lambda pods: not pods)
    assert namespace.deployment("kimi")["spec"]["template"] == before


def test_a_refused_server_is_scaled_down_as_it_runs_also_without_a_record(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    _create(namespace, ["kimi"], {"replicas": 3})
    namespace.change_server("kimi", {"security": {"hostIPC": True}})
    namespace.wait_for_condition("kimi", "Ready", "False", "InvalidSpec")
    [container] = namespace.deployment("kimi")["spec"]["template"]["spec"]["containers"]
    fixed = {"spec": {"template": {"spec": {"containers": [{**container, "image": "example.com/hotfix:1"}]}}}}
    namespace.edit(DEPLOYMENT, "kimi", fixed)
    wait_for(lambda: namespace.deployment("kimi")["status"].get("updatedReplicas"), "it is rolled out", (3).__eq__)
    before = namespace.deployment("kimi")["spec"]
    namespace.client.patch(SERVER, namespace.name, "kimi", {"spec": {"replicas": 2}}, "scale")
    wait_for(lambda: namespace.deployment("kimi")["spec"], "only the size changes", {**before, "replicas": 2}.__eq__)
    namespace.delete(REVISION, "kimi-1")
    namespace.change_server("kimi", {"suspend": True})
    wait_for(lambda: namespace.deployment("kimi")["spec"], "it is suspended", {**before, "replicas": 0}.__eq__)
    ours = [e for e in namespace.deployment("kimi")["metadata"]["managedFields"] if e["manager"] == MANAGER]
    assert [entry["operation"] for entry in ours] == ["Apply"]


_ROLLED = ["a", "b", "c", "d"]


def _roll_out(sandbox: Sandbox) -> None:
    sandbox.operator.arguments = (*sandbox.operator.arguments, "--rollout-pause=1")
    _go_on_as(sandbox, OTHER_VERSION)


def test_all_servers_get_the_new_pods_one_after_the_other_where_that_is_wanted(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    _create(namespace, _ROLLED, {"podTemplate": {"metadata": {"annotations": {"tests/slow": "1500ms"}}}})
    namespace.create_server("idle", {**_SPEC, "replicas": 0})
    namespace.wait_for_condition("idle", "Ready", "False", "NoReplicas")
    _roll_out(sandbox)
    seen: list[list[str]] = []

    def unready() -> list[str]:
        manifests = namespace.client.list(SERVER, namespace.name)
        seen.append([item["metadata"]["name"] for item in manifests if not _serves(item)])
        return [name for name in [*_ROLLED, "idle"] if not _has_other_pods(namespace, name)] + seen[-1]

    wait_for(unready, "all have the new pods and serve", lambda left: not left, 90)
    assert max(map(len, seen)) == 1, seen
    order = [names[0] for names, _ in itertools.groupby(names for names in seen if names)]
    assert order == _ROLLED
    # A restart in the middle is the next test's; at the end nothing is marked any more.
    wait_for(
        lambda: [
            item for item in namespace.client.list(REVISION, namespace.name) if "automatic" in str(item["metadata"])
        ],
        "no rollout is under way",
        lambda marked: not marked,
    )


def _serves(server: Manifest) -> bool:
    ready = condition_of(server, "Ready")
    return ready["status"] == "True" or ready["reason"] in ("NoReplicas", "Suspended")


def _begin_with_a_held_pod(sandbox: Sandbox) -> Manifest:
    """Begin to roll out to servers a and b; return the new pod of the first one, which does not become Ready."""
    namespace = sandbox.namespace
    namespace.create_server("a", {**_SPEC, **HELD_SPEC})
    report_ready(namespace, held_pod(namespace, "a"))
    namespace.wait_until_ready("a")
    _create(namespace, ["b"])
    _roll_out(sandbox)
    wait_for(lambda: _has_other_pods(namespace, "a"), "the first one gets the new pods")
    return held_pod(namespace, "a")


def test_a_server_that_does_not_become_ready_keeps_the_others_as_they_are_also_after_a_restart(
    sandbox: Sandbox,
) -> None:
    namespace, pod = sandbox.namespace, _begin_with_a_held_pod(sandbox)
    stays(lambda: _has_other_pods(namespace, "b"), "the other one keeps its pods", lambda has: not has, 4)
    _go_on_as(sandbox, OTHER_VERSION)
    stays(lambda: _has_other_pods(namespace, "b"), "also after a restart", lambda has: not has, 4)
    report_ready(namespace, pod)
    wait_for(lambda: _has_other_pods(namespace, "b"), "then the other one gets them, too")


def test_a_spec_that_is_refused_during_a_rollout_keeps_no_other_server_waiting(sandbox: Sandbox) -> None:
    namespace, pod = sandbox.namespace, _begin_with_a_held_pod(sandbox)
    namespace.change_server("a", {"security": {"hostIPC": True}})
    namespace.wait_for_condition("a", "Ready", "False", "InvalidSpec")
    stays(lambda: _has_other_pods(namespace, "b"), "the other one waits", lambda has: not has, _QUIET_SECONDS)
    report_ready(namespace, pod)
    wait_for(lambda: _has_other_pods(namespace, "b"), "then the other one gets them, too")


def test_a_leader_change_starts_no_second_rollout(sandboxes: Sandboxes) -> None:
    with sandboxes.open_pair() as (one, other):
        namespace = one.namespace
        one.operator.start()
        namespace.create_server("a", {**_SPEC, **HELD_SPEC})
        report_ready(namespace, held_pod(namespace, "a"))
        namespace.wait_until_ready("a")
        _create(namespace, ["b"])
        for sandbox in (one, other):
            sandbox.operator.arguments = (*sandbox.operator.arguments, "--rollout-pause=1")
        _go_on_as(one, OTHER_VERSION)
        wait_for(lambda: _has_other_pods(namespace, "a"), "the first one gets the new pods")
        other.operator.program = OTHER_VERSION
        other.operator.launch()
        assert one.operator.stop() == 0
        other.operator.wait_until_leading()
        stays(lambda: _has_other_pods(namespace, "b"), "the other one keeps its pods", lambda has: not has, 4)


def test_diff_shows_the_kept_pods_and_what_taking_new_ones_would_change(
    sandbox: Sandbox, cluster: LocalCluster
) -> None:
    namespace = sandbox.namespace
    _go_on_as(sandbox, OTHER_VERSION)
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    written = server_manifest("kimi", namespace.name, {})
    assert _diff(cluster, written) == (0, "")
    code, text = _diff(cluster, {**written, "spec": {"service": {"headless": True}}})
    assert (code, "kimi-headless" in text, MARK in text) == (1, True, False)
    for taking in (
        {**written, "metadata": {**written["metadata"], "annotations": {ROLLOUT_ANNOTATION: "now"}}},
        {**written, "spec": {"engine": {"contextLength": 4096}}},
    ):
        code, text = _diff(cluster, taking)
        assert (code, f"-        - name: {MARK}" in text) == (1, True)


def _diff(cluster: LocalCluster, manifest: Manifest) -> tuple[int, str]:
    """Ask this version what applying a server would change."""
    done = run_command(cluster.kubeconfig, "diff", "--filename=-", stdin=json.dumps(manifest))
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_an_orphaned_server_is_taken_back_with_its_pods(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    _create(namespace, ["kimi"])
    before = _running(namespace, "kimi")
    _orphan(namespace, "kimi")
    _go_on_as(sandbox, OTHER_VERSION)
    server = namespace.create_server("kimi", _SPEC)
    namespace.wait_until_ready("kimi")
    after = _running(namespace, "kimi")
    assert {**after, "generation": 0} == {**before, "generation": 0}
    for kind, name in ((DEPLOYMENT, "kimi"), (SERVICE, "kimi"), (REVISION, "kimi-1")):
        [owner] = namespace.existing(kind, name)["metadata"]["ownerReferences"]
        assert owner["uid"] == server["metadata"]["uid"]


def _orphan(namespace: Namespace, name: str) -> None:
    """Delete a server as `kubectl delete --cascade=orphan` does, and wait as it does."""
    namespace.client.request(
        "DELETE", f"/apis/kimi-linear.io/v1alpha1/namespaces/{namespace.name}/kimilinearservers/{name}",
        query={"propagationPolicy": "Orphan"},
    )  # fmt: skip
    wait_for(lambda: namespace.find(SERVER, name) is None, "it is gone")


def _scale(namespace: Namespace, name: str, replicas: int) -> None:
    """Scale as a HorizontalPodAutoscaler does."""
    namespace.client.patch(SERVER, namespace.name, name, {"spec": {"replicas": replicas}}, "scale")
    wait_for(lambda: len(namespace.pods(name)), f"{name} has {replicas} pods", replicas.__eq__)
    namespace.wait_until_ready(name)


def _put_back(namespace: Namespace, name: str) -> None:
    """Write what is read, as `kubectl replace` and many clients do."""
    server = namespace.server(name)
    namespace.client.request("PUT", path_of(SERVER, namespace.name, name), server)


def _assert_no_pod_was_replaced(namespace: Namespace, before: dict[str, Manifest]) -> None:
    for name, ran in before.items():
        now = _running(namespace, name)
        assert now["replicaSets"] == ran["replicaSets"], name
        assert set(ran["pods"]) <= set(now["pods"]), name


def _owners_of_fraction(namespace: Namespace, name: str) -> list[str]:
    entries = namespace.server(name)["metadata"]["managedFields"]
    return [entry["manager"] for entry in entries if "memoryFractionStatic" in str(entry["fieldsV1"])]


def _fractions(namespace: Namespace, name: str) -> list[str]:
    """Return the values of the flag that the default would set."""
    [container] = namespace.deployment(name)["spec"]["template"]["spec"]["containers"]
    return [argument for argument in container["args"] if str(FRACTION) in argument]


_TWO = ["scaled", "untouched"]


def test_a_default_that_comes_and_goes_with_a_version_replaces_no_pod(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    _create(namespace, [*_TWO, "scaled-meanwhile"])
    _scale(namespace, "scaled", 2)
    before = {name: _running(namespace, name) for name in [*_TWO, "scaled-meanwhile"]}
    with newer_definition(namespace.client):
        _go_on_as(sandbox, NEWER_VERSION)
        _wait_for_offer(namespace, list(before), "False")
        _scale(namespace, "scaled-meanwhile", 2)
        sandbox.operator.kill()
    _go_on_as(sandbox, THIS_VERSION)
    for name in before:
        _scale(namespace, name, 3)
        assert namespace.server(name)["spec"]["engine"]["memoryFractionStatic"] == FRACTION
    _go_on_as(sandbox, THIS_VERSION)
    for name in before:
        namespace.wait_until_ready(name)
        assert _fractions(namespace, name) == []
    _assert_no_pod_was_replaced(namespace, before)


def test_under_newer_definitions_servers_are_ready_and_scaled_and_only_wishes_replace_pods(sandbox: Sandbox) -> None:
    """Such is the time between the definitions and the replicas of an upgrade."""
    namespace = sandbox.namespace
    _create(namespace, _TWO)
    _scale(namespace, "scaled", 2)
    before = {name: _running(namespace, name) for name in _TWO}
    with newer_definition(namespace.client):
        namespace.edit(SERVER, "untouched", {"metadata": {"labels": {"team": "search"}}})
        _scale(namespace, "scaled", 3)
        _put_back(namespace, "scaled")
        _go_on_as(sandbox, THIS_VERSION)
        for name in _TWO:
            namespace.wait_for_condition(name, "Accepted", "True")
            namespace.wait_until_ready(name)
            assert namespace.server(name)["spec"]["warmUp"] == "enabled"
            assert _owners_of_fraction(namespace, name) == []
        _assert_no_pod_was_replaced(namespace, before)
        wished = server_manifest("scaled", namespace.name, {"engine": {"memoryFractionStatic": FRACTION}})
        namespace.client.apply(SERVER, wished, "somebody")
        # The spec stays as it is, but now somebody owns the field: the next pass that looks takes it for a wish.
        assert _owners_of_fraction(namespace, "scaled") == ["somebody"]
        _scale(namespace, "scaled", 2)
        wait_for(lambda: _fractions(namespace, "scaled"), "the wish is fulfilled")
        assert not _fractions(namespace, "untouched")


def test_a_default_of_another_version_is_neither_offered_nor_rolled_out_nor_taken_with_a_wish(
    sandbox: Sandbox,
) -> None:
    namespace = sandbox.namespace
    _create(namespace, [*_TWO, "wishing"])
    before = {name: _running(namespace, name) for name in _TWO}
    with newer_definition(namespace.client):
        for name in [*_TWO, "wishing"]:
            namespace.edit(SERVER, name, {"metadata": {"labels": {"team": "search"}}})
    sandbox.operator.arguments = (*sandbox.operator.arguments, "--rollout-pause=1")
    _go_on_as(sandbox, THIS_VERSION)
    wished = server_manifest("wishing", namespace.name, {"engine": {"contextLength": 4096}})
    namespace.client.apply(SERVER, wished, "somebody")
    wait_for(lambda: "4096" in str(namespace.deployment("wishing")["spec"]["template"]), "the wish is fulfilled")
    for name in [*_TWO, "wishing"]:
        namespace.wait_until_ready(name)
        assert namespace.server(name)["spec"]["engine"]["memoryFractionStatic"] == FRACTION
        namespace.wait_for_condition(name, "TemplateCurrent", "True", "Newest")
        assert _fractions(namespace, name) == []
    stays(lambda: {name: _running(namespace, name) for name in _TWO}, "nothing rolls", before.__eq__, _QUIET_SECONDS)


def test_what_an_owner_leaves_out_of_an_apply_is_taken_out_of_the_pods(sandbox: Sandbox) -> None:
    """The API server sets the default then, and makes nobody its owner."""
    namespace = sandbox.namespace
    for size in ({"tensorParallelism": 2}, {}):
        namespace.client.apply(SERVER, server_manifest("kimi", namespace.name, size), "somebody")
        wanted = size.get("tensorParallelism", 4)
        wait_for(lambda: namespace.find(DEPLOYMENT, "kimi"), "it is there")
        wait_for(lambda: _gpus(namespace), f"its pods have {wanted} GPUs", str(wanted).__eq__)


def _gpus(namespace: Namespace) -> str:
    [container] = namespace.deployment("kimi")["spec"]["template"]["spec"]["containers"]
    return str(container["resources"]["limits"]["amd.com/gpu"])


@pytest.mark.parametrize("is_refused", [False, True], ids=["killed before the Deployment", "the Deployment refused"])
def test_what_another_version_began_by_itself_is_not_gone_on_with(sandbox: Sandbox, *, is_refused: bool) -> None:
    namespace = sandbox.namespace
    _create(namespace, ["a", "b"])
    before = {name: _running(namespace, name) for name in "ab"}
    arguments = sandbox.operator.arguments
    hold = Hold(1, after=False)
    with sandbox.proxy.fault(refuse(422) if is_refused else hold, _writes_deployment_a):
        _roll_out(sandbox)
        if is_refused:
            namespace.wait_for_condition("a", "Ready", "False", "ApplyFailed")
        else:
            assert hold.reached.wait(30)
        assert namespace.find(REVISION, "a-2")
        sandbox.operator.kill()
    sandbox.operator.arguments = arguments
    _go_on_as(sandbox, THIS_VERSION)
    wait_for(lambda: namespace.find(REVISION, "a-2"), "the record is gone", lambda found: not found)
    for name in "ab":
        namespace.wait_until_ready(name)
    assert {name: _running(namespace, name) for name in "ab"} == before


def _writes_deployment_a(call: Call) -> bool:
    return call.is_write and call.concerns(DEPLOYMENT, "a")


def _brings_other_pods(call: Call) -> bool:
    return call.is_write and call.concerns(DEPLOYMENT, "kimi") and MARK.encode() in call.body


@pytest.mark.parametrize("is_taken_back", [False, True], ids=["the wish stays", "it is taken back"])
def test_after_a_rollback_a_wish_gets_the_pods_of_the_version_that_runs(
    sandbox: Sandbox, *, is_taken_back: bool
) -> None:
    """The other version recorded its pods for the wish, and the API server refused them."""
    namespace = sandbox.namespace
    _create(namespace, ["kimi"])
    before = _running(namespace, "kimi")
    with sandbox.proxy.fault(refuse(422), _brings_other_pods):
        _go_on_as(sandbox, OTHER_VERSION)
        _wait_for_offer(namespace, ["kimi"], "False")
        namespace.change_server("kimi", {"engine": {"contextLength": 4096}})
        namespace.wait_for_condition("kimi", "Ready", "False", "ApplyFailed")
        sandbox.operator.kill()
    if is_taken_back:
        namespace.change_server("kimi", {"engine": {"contextLength": None}})
    _go_on_as(sandbox, THIS_VERSION)
    _wait_for_offer(namespace, ["kimi"], "True")
    namespace.wait_until_ready("kimi")
    [record] = _revisions(namespace, "kimi")
    assert not is_built_by_other(record["data"]["template"])
    assert not _has_other_pods(namespace, "kimi")
    assert ("4096" in str(namespace.deployment("kimi")["spec"]["template"])) != is_taken_back
    assert (_running(namespace, "kimi") == before) == is_taken_back


def test_a_benchmark_whose_server_gets_other_pods_between_two_suites_is_invalid(offered: Namespace) -> None:
    create_benchmark(offered, "nightly", suites=[{"name": "speed-low"}, {"name": "gsm8k"}])
    end_suite(offered, "nightly", "speed-low")
    running_pod(offered, "nightly", "gsm8k")
    change_benchmark(offered, "nightly", suspend=True)
    wait_for_reason(offered, "nightly", "Suspended")
    offered.edit(SERVER, "kimi", {"metadata": {"annotations": {ROLLOUT_ANNOTATION: "now"}}})
    offered.wait_for_condition("kimi", "TemplateCurrent", "True")
    offered.wait_until_ready("kimi")
    change_benchmark(offered, "nightly", suspend=False)
    end_suite(offered, "nightly", "gsm8k")
    wait_for(lambda: benchmark(offered, "nightly")["status"].get("verdict", ""), "it is judged", "Invalid".__eq__)
    [valid, invalid] = benchmark(offered, "nightly")["status"]["results"]
    assert valid["outcome"] == invalid["outcome"] == "Succeeded"
    assert "the server got other pods between suites" in str(invalid["findings"])
    assert "other pods" not in str(valid["findings"])
