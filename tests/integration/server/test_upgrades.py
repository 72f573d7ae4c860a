"""Another version of the operator builds different pods. Running pods stay until the owner takes the new template."""

import pytest

from integration.faults import Call, refuse
from integration.namespace import Namespace
from integration.other_version import MARK, is_built_by_other
from integration.processes_under_test import OTHER_VERSION, THIS_VERSION
from integration.sandbox import Sandbox
from integration.versions import ONE_GPU, create_servers, go_on_as, has_other_pods, records, running, wait_for_offer
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, SERVICE
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION
from kimi_linear_operator.server.manifests import build
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer

_MANY = [f"kimi-{number:02}" for number in range(20)]
_QUIET_SECONDS = 2.0


def test_an_upgrade_and_a_rollback_of_the_operator_change_no_running_pod(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    create_servers(namespace, _MANY)
    before = {name: running(namespace, name) for name in _MANY}

    go_on_as(sandbox, OTHER_VERSION)
    wait_for_offer(namespace, _MANY, "False")
    stays(lambda: {name: running(namespace, name) for name in _MANY}, "nothing changes", before.__eq__, _QUIET_SECONDS)
    for name in _MANY:
        namespace.wait_until_ready(name)
    offer = namespace.wait_for_condition(_MANY[0], "TemplateCurrent", "False", "NewTemplateAvailable")
    assert f"spec.containers[sglang].env[{MARK}]" in offer["message"]
    assert ROLLOUT_ANNOTATION in offer["message"]
    told = {item["type"]: item["status"] for item in namespace.server(_MANY[0])["status"]["conditions"]}
    assert (told["Ready"], told["Reconciling"], told["Stalled"]) == ("True", "False", "False")

    go_on_as(sandbox, THIS_VERSION)
    wait_for_offer(namespace, _MANY, "True")
    assert {name: running(namespace, name) for name in _MANY} == before


def test_a_rollback_changes_nothing_that_the_newer_version_created(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    go_on_as(sandbox, OTHER_VERSION)
    create_servers(namespace, ["kimi"])
    before = running(namespace, "kimi")
    assert has_other_pods(namespace, "kimi")
    go_on_as(sandbox, THIS_VERSION)
    wait_for_offer(namespace, ["kimi"], "False")
    assert running(namespace, "kimi") == before


def test_an_upgrade_that_is_killed_half_way_rolls_each_server_out_at_most_once(sandbox: Sandbox) -> None:
    """All specs change while one version replaces another, and then the new version is killed."""
    namespace = sandbox.namespace
    create_servers(namespace, _MANY)
    for name in _MANY:
        namespace.change_server(name, {"engine": {"contextLength": 4096}})
    go_on_as(sandbox, OTHER_VERSION)
    go_on_as(sandbox, THIS_VERSION)
    for name in _MANY:
        namespace.wait_until_ready(name)
    for name in _MANY:
        runs = running(namespace, name)
        assert (runs["generation"], len(runs["replicaSets"])) == (2, 2), name
        assert len(records(namespace, name)) == 1


def test_servers_without_records_keep_the_pods_that_run(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    create_servers(namespace, ["kimi", "extended"])
    sandbox.operator.kill()
    _extend(namespace, "extended")
    for name in ("kimi", "extended"):
        _forget(namespace, name)
    before = {name: running(namespace, name) for name in ("kimi", "extended")}
    sandbox.operator.program = OTHER_VERSION
    sandbox.restart_after_crash()
    for name, ran in before.items():
        namespace.wait_for_condition(name, "TemplateCurrent", "False")
        namespace.wait_until_ready(name)
        after = running(namespace, name)
        assert {**after, "generation": 0} == {**ran, "generation": 0}
        [record] = records(namespace, name)
        assert not is_built_by_other(record["data"]["template"])
        # The operator does not own fields that others added. Otherwise others could never remove them.
        assert "restartedAt" not in str(record["data"]["template"])


def test_servers_without_records_keep_their_pods_even_if_the_record_was_blocked(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    create_servers(namespace, ["kimi"])
    sandbox.operator.kill()
    _forget(namespace, "kimi")
    before = running(namespace, "kimi")["replicaSets"]
    taken = {"metadata": {"name": "kimi-1", "namespace": namespace.name}, "revision": 1, "data": {}}
    namespace.client.apply(REVISION, {"apiVersion": REVISION.api_version, "kind": REVISION.kind, **taken}, "somebody")
    sandbox.operator.program = OTHER_VERSION
    sandbox.restart_after_crash()
    namespace.wait_for_condition("kimi", "Ready", "False", "NameConflict")
    namespace.delete(REVISION, "kimi-1")
    namespace.wait_until_ready("kimi")
    assert running(namespace, "kimi")["replicaSets"] == before
    namespace.wait_for_condition("kimi", "TemplateCurrent", "False")


def _extend(namespace: Namespace, name: str) -> None:
    """Change a Deployment like `kubectl rollout restart` and `kubectl set env`."""
    [container] = namespace.deployment(name)["spec"]["template"]["spec"]["containers"]
    changed = {**container, "env": [*container["env"], {"name": "ADDED", "value": "1"}]}
    template = {"metadata": {"annotations": {"restartedAt": "now"}}, "spec": {"containers": [changed]}}
    namespace.edit(DEPLOYMENT, name, {"spec": {"template": template}})
    wait_for(lambda: len(namespace.pods(name)), "the server's pod is replaced", (1).__eq__)
    wait_for(lambda: len(namespace.replica_sets(name)), "there is another ReplicaSet", (2).__eq__)


def _forget(namespace: Namespace, name: str) -> None:
    """Create a server as if a version without records had managed it."""
    namespace.client.delete(REVISION, namespace.name, f"{name}-1")
    server = KimiLinearServer.model_validate(namespace.server(name))
    (*_, deployment) = build(server)
    namespace.client.apply(DEPLOYMENT, deployment, MANAGER)


def test_a_refused_template_does_not_prevent_suspending_the_server(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    create_servers(namespace, ["kimi"], {"replicas": 2})
    before = namespace.deployment("kimi")["spec"]["template"]
    broken = {"spec": {"containers": [{"name": "sglang", "stdin": "no boolean"}]}}
    namespace.change_server("kimi", {"podTemplate": broken, "suspend": True})
    namespace.wait_for_condition("kimi", "Accepted", "False", "ApplyFailed")
    wait_for(lambda: namespace.pods("kimi"), "no pod runs", lambda pods: not pods)
    assert namespace.deployment("kimi")["spec"]["template"] == before


def test_a_refused_server_without_a_record_can_still_be_scaled_down(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    create_servers(namespace, ["kimi"], {"replicas": 3})
    namespace.change_server("kimi", {"security": {"hostIPC": True}})
    namespace.wait_for_condition("kimi", "Ready", "False", "InvalidSpec")
    [container] = namespace.deployment("kimi")["spec"]["template"]["spec"]["containers"]
    fixed = {"spec": {"template": {"spec": {"containers": [{**container, "image": "example.com/hotfix:1"}]}}}}
    namespace.edit(DEPLOYMENT, "kimi", fixed)
    wait_for(
        lambda: namespace.deployment("kimi")["status"].get("updatedReplicas", 0), "the change is rolled out", (3).__eq__
    )
    before = namespace.deployment("kimi")["spec"]
    namespace.client.patch(SERVER, namespace.name, "kimi", {"spec": {"replicas": 2}}, "scale")
    wait_for(lambda: namespace.deployment("kimi")["spec"], "only the size changes", {**before, "replicas": 2}.__eq__)
    namespace.delete(REVISION, "kimi-1")
    namespace.change_server("kimi", {"suspend": True})
    wait_for(lambda: namespace.deployment("kimi")["spec"], "the server is suspended", {**before, "replicas": 0}.__eq__)

    def operations() -> list[str]:
        entries = namespace.deployment("kimi")["metadata"]["managedFields"]
        return [entry["operation"] for entry in entries if entry["manager"] == MANAGER]

    # By an apply right after the patch, the manager becomes the owner of the scaled field.
    wait_for(operations, "there is one field manager", ["Apply"].__eq__)


def test_an_orphaned_server_is_adopted_again_with_its_pods(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    create_servers(namespace, ["kimi"])
    before = running(namespace, "kimi")
    _orphan(namespace, "kimi")
    go_on_as(sandbox, OTHER_VERSION)
    server = namespace.create_server("kimi", ONE_GPU)
    namespace.wait_until_ready("kimi")
    after = running(namespace, "kimi")
    assert {**after, "generation": 0} == {**before, "generation": 0}
    for kind, name in ((DEPLOYMENT, "kimi"), (SERVICE, "kimi"), (REVISION, "kimi-1")):
        [owner] = namespace.existing(kind, name)["metadata"]["ownerReferences"]
        assert owner["uid"] == server["metadata"]["uid"]


def _orphan(namespace: Namespace, name: str) -> None:
    """Delete a server and wait, like `kubectl delete --cascade=orphan`."""
    namespace.client.request(
        "DELETE", f"/apis/kimi-linear.io/v1alpha1/namespaces/{namespace.name}/kimilinearservers/{name}",
        query={"propagationPolicy": "Orphan"},
    )  # fmt: skip
    wait_for(lambda: namespace.find(SERVER, name) is None, "the server is gone")


def _brings_other_pods(call: Call) -> bool:
    return call.is_write and call.concerns(DEPLOYMENT, "kimi") and MARK.encode() in call.body


@pytest.mark.parametrize("is_taken_back", [False, True], ids=["the change stays", "the change is taken back"])
def test_after_a_rollback_a_requested_change_gets_this_versions_pods(sandbox: Sandbox, *, is_taken_back: bool) -> None:
    """The other version recorded its pod template for the change, and the API server refused the Deployment."""
    namespace = sandbox.namespace
    create_servers(namespace, ["kimi"])
    before = running(namespace, "kimi")
    with sandbox.proxy.fault(refuse(422), _brings_other_pods):
        go_on_as(sandbox, OTHER_VERSION)
        wait_for_offer(namespace, ["kimi"], "False")
        namespace.change_server("kimi", {"engine": {"contextLength": 4096}})
        namespace.wait_for_condition("kimi", "Ready", "False", "ApplyFailed")
        sandbox.operator.kill()
    if is_taken_back:
        namespace.change_server("kimi", {"engine": {"contextLength": None}})
    go_on_as(sandbox, THIS_VERSION)
    wait_for_offer(namespace, ["kimi"], "True")
    namespace.wait_until_ready("kimi")
    [record] = records(namespace, "kimi")
    assert not is_built_by_other(record["data"]["template"])
    assert not has_other_pods(namespace, "kimi")
    assert ("4096" in str(namespace.deployment("kimi")["spec"]["template"])) != is_taken_back
    assert (running(namespace, "kimi") == before) == is_taken_back
