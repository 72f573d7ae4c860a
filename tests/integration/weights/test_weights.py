"""The life of weights at a real API server. The tests play the kubelet of the pod that fetches."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane import LocalCluster
from integration.audit import AuditLog
from integration.kubelet import HELD_SPEC
from integration.namespace import Namespace, condition_of, engine_container
from integration.processes_under_test import USER, Operator, run_command
from integration.waiting import stays, wait_for
from integration.weights_pods import FIRST, OF_WEIGHTS, create, fail, finish, jobs, run, volume_of, weights_manifest
from kimi_linear_operator.kubernetes.kinds import CLAIM, DEPLOYMENT, JOB, POD, Manifest
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.weights.labels import FETCH_ANNOTATION
from kimi_linear_operator.weights.location import on_claim
from kimi_linear_operator.weights.spec import WEIGHTS

SECOND = "2" * 40
USES_WEIGHTS = {**HELD_SPEC, "model": {"weights": "kimi"}}


@pytest.fixture
def bare(operator: Operator, namespace: Namespace) -> Iterator[Namespace]:
    """A namespace with a volume for the claim kimi."""
    with volume_of(namespace):
        yield namespace


def wait_for_reason(namespace: Namespace, reason: str, name: str = "kimi", kind: str = "Ready") -> Manifest:
    return wait_for(
        lambda: namespace.existing(WEIGHTS, name),
        f"{kind} of the weights says {reason}",
        lambda manifest: condition_of(manifest, kind).get("reason") == reason,
    )


def served_folder(namespace: Namespace) -> str:
    words = engine_container(namespace.deployment("kimi"))["args"]
    return str(words[words.index("--model-path") + 1])


def folder(commit: str) -> str:
    return on_claim("kimi", "instruct", commit).folder


def test_weights_are_fetched_once_and_nothing_is_written_at_rest(bare: Namespace, audit_log: AuditLog) -> None:
    begin = audit_log.mark()
    create(bare)
    claim = wait_for(lambda: bare.find(CLAIM, "kimi"), "the claim is created")
    assert claim
    assert claim["spec"]["resources"] == {"requests": {"storage": "200Gi"}}
    assert "ownerReferences" not in claim["metadata"], "the claim must outlive the weights"
    run(bare)
    wait_for_reason(bare, "WeightsDownloading")
    assert condition_of(bare.existing(WEIGHTS, "kimi"), "Reconciling")["status"] == "True"
    finish(bare)
    status = wait_for_reason(bare, "WeightsComplete")["status"]
    assert (status["commit"], status["percent"], status["claim"]) == (FIRST, 100, "kimi")
    audit_log.wait_until_quiet(begin, USER, bare.name)
    mark = audit_log.mark()
    bare.edit(WEIGHTS, "kimi", {"metadata": {"labels": {"seen": "again"}}})
    stays(lambda: audit_log.writes(mark, USER, bare.name), "the operator writes nothing", lambda writes: not writes, 12)
    assert len(jobs(bare)) == 1


def test_complete_weights_stay_complete_after_their_pod_is_deleted(bare: Namespace) -> None:
    create(bare)
    finish(bare)
    wait_for_reason(bare, "WeightsComplete")
    for pod in bare.client.list(POD, bare.name, OF_WEIGHTS):
        bare.delete(POD, pod["metadata"]["name"])
    bare.edit(WEIGHTS, "kimi", {"metadata": {"labels": {"seen": "again"}}})
    stays(
        lambda: condition_of(bare.existing(WEIGHTS, "kimi"), "Ready"),
        "the weights stay complete",
        lambda ready: ready["reason"] == "WeightsComplete",
        4,
    )
    assert len(jobs(bare)) == 1


def test_diff_predicts_the_operators_changes(bare: Namespace, cluster: LocalCluster, tmp_path: Path) -> None:
    file = tmp_path / "weights.json"

    def changes(**spec: Any) -> set[tuple[str, str]]:
        file.write_text(json.dumps(weights_manifest("kimi", bare.name, **spec)))
        done = run_command(cluster.kubeconfig, "diff", "--filename", str(file), "--output=json")
        assert done.stderr == ""
        items = json.loads(done.stdout)["items"]
        return {(item["object"].partition("/")[0], item["action"]) for item in items}

    new = {("PersistentVolumeClaim", "create"), ("ConfigMap", "create"), ("Job", "create")}
    assert changes() == new
    spec = create(bare)["spec"]
    finish(bare)
    wait_for_reason(bare, "WeightsComplete")
    assert changes(**spec) == set()
    bare.edit(WEIGHTS, "kimi", {"metadata": {"annotations": {FETCH_ANNOTATION: "again"}}})
    finish(bare, SECOND)
    wait_for(
        lambda: changes(**spec), "diff shows no change, although the file has no annotation", lambda found: not found
    )
    assert changes(**{**spec, "image": "fetcher:1"}) == set(), "complete weights are not fetched again"
    other = {**spec, "source": {**spec["source"], "revision": SECOND}}
    assert changes(**other) == {("Job", "create"), ("Job", "delete")}


def test_a_refused_token_is_reported_with_its_remedy_until_it_is_accepted(bare: Namespace) -> None:
    create(bare)
    fail(bare, state="TokenRefused", message="the hub asks for a token (HTTP 401)")
    told = condition_of(wait_for_reason(bare, "TokenRefused", kind="Stalled"), "Stalled")
    assert told["status"] == "True"
    assert "spec.source.tokenSecretRef" in told["message"]
    finish(bare)
    assert condition_of(wait_for_reason(bare, "WeightsComplete"), "Stalled")["status"] == "False"


def test_the_claim_outlives_the_weights_and_new_weights_of_that_name_use_it(bare: Namespace) -> None:
    create(bare)
    finish(bare)
    wait_for_reason(bare, "WeightsComplete")
    uid = bare.existing(CLAIM, "kimi")["metadata"]["uid"]
    bare.delete(WEIGHTS, "kimi")
    wait_for(lambda: jobs(bare), "the Job is gone", lambda left: not left)
    assert bare.existing(CLAIM, "kimi")["metadata"]["uid"] == uid
    create(bare)
    finish(bare)
    wait_for_reason(bare, "WeightsComplete")
    assert bare.existing(CLAIM, "kimi")["metadata"]["uid"] == uid


def test_another_image_does_not_fetch_complete_weights_again(bare: Namespace, audit_log: AuditLog) -> None:
    begin = audit_log.mark()
    create(bare)
    finish(bare)
    wait_for_reason(bare, "WeightsComplete")
    audit_log.wait_until_quiet(begin, USER, bare.name)
    [job], mark = jobs(bare), audit_log.mark()
    bare.edit(WEIGHTS, "kimi", {"spec": {"image": "fetcher:1"}})
    wait_for(
        lambda: bare.existing(WEIGHTS, "kimi"),
        "the spec was seen",
        lambda seen: seen["status"]["observedGeneration"] == seen["metadata"]["generation"],
    )
    assert [item["metadata"]["uid"] for item in jobs(bare)] == [job["metadata"]["uid"]]
    assert condition_of(bare.existing(WEIGHTS, "kimi"), "Ready")["reason"] == "WeightsComplete"
    assert len(audit_log.writes(mark, USER, bare.name)) == 1, "the status"


def test_a_claim_is_deleted_with_its_weights_if_deletion_policy_says_so(bare: Namespace) -> None:
    create(bare, volume={"deletionPolicy": "Delete"})
    claim = wait_for(lambda: bare.find(CLAIM, "kimi"), "the claim is created")
    assert claim
    assert [owner["kind"] for owner in claim["metadata"]["ownerReferences"]] == ["KimiLinearWeights"]
    bare.delete(WEIGHTS, "kimi")
    wait_for(lambda: bare.find(CLAIM, "kimi"), "the claim is deleted", lambda found: not found or _is_going(found))


def _is_going(manifest: Manifest) -> bool:
    return "deletionTimestamp" in manifest["metadata"]


def test_a_claim_of_somebody_else_is_left_alone(bare: Namespace) -> None:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "kimi", "namespace": bare.name}
    bare.client.create(CLAIM, {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    create(bare)
    wait_for_reason(bare, "NameConflict")
    assert jobs(bare) == []
    assert "labels" not in bare.existing(CLAIM, "kimi")["metadata"]


def test_another_revision_is_fetched_while_the_old_commit_stays_available(bare: Namespace) -> None:
    create(bare)
    finish(bare)
    first = wait_for_reason(bare, "WeightsComplete")["status"]["commit"]
    bare.edit(WEIGHTS, "kimi", {"spec": {"source": {"revision": SECOND}}})
    run(bare)
    under_way = wait_for_reason(bare, "WeightsDownloading")
    assert under_way["status"]["commit"] == first
    assert len(jobs(bare)) == 1
    finish(bare, SECOND)
    assert wait_for_reason(bare, "WeightsComplete")["status"]["commit"] == SECOND


def test_a_server_creates_no_pods_before_its_weights_are_complete(bare: Namespace) -> None:
    bare.create_server("kimi", USES_WEIGHTS)
    missing = bare.wait_for_condition("kimi", "Ready", "False", "WeightsMissing")
    assert "spec.model.weights" in missing["message"]
    create(bare)
    run(bare)
    bare.wait_for_condition("kimi", "Ready", "False", "WeightsDownloading")
    assert bare.find(DEPLOYMENT, "kimi") is None
    finish(bare)
    wait_for(lambda: bare.find(DEPLOYMENT, "kimi"), "the server's pods are created")
    assert served_folder(bare) == folder(FIRST)
    container = engine_container(bare.deployment("kimi"))
    assert {"name": "weights", "mountPath": "/weights", "readOnly": True} in container["volumeMounts"]
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in container["env"]


def test_a_newer_commit_is_offered_and_taken_by_the_annotation(bare: Namespace) -> None:
    create(bare)
    finish(bare)
    bare.create_server("kimi", USES_WEIGHTS)
    wait_for(lambda: bare.find(DEPLOYMENT, "kimi"), "the server's pods are created")
    bare.edit(WEIGHTS, "kimi", {"metadata": {"annotations": {FETCH_ANNOTATION: "again"}}})
    finish(bare, SECOND)
    offered = bare.wait_for_condition("kimi", "TemplateCurrent", "False", "NewTemplateAvailable")
    assert "The weights have a new commit" in offered["message"]
    assert served_folder(bare) == folder(FIRST)
    bare.edit(SERVER, "kimi", {"metadata": {"annotations": {"kimi-linear.io/rollout": "now"}}})
    wait_for(lambda: served_folder(bare), "the server serves the newer commit", lambda served: served == folder(SECOND))


def test_deleting_weights_stops_no_pods_and_later_changes_use_the_same_commit(bare: Namespace) -> None:
    create(bare)
    finish(bare)
    bare.create_server("kimi", USES_WEIGHTS)
    made = wait_for(lambda: bare.find(DEPLOYMENT, "kimi"), "the server's pods are created")
    assert made
    bare.delete(WEIGHTS, "kimi")
    wait_for(lambda: bare.find(WEIGHTS, "kimi"), "the weights are gone", lambda found: found is None)
    stays(
        lambda: bare.deployment("kimi")["spec"],
        "the server's pods stay",
        lambda spec: spec["template"] == made["spec"]["template"] and spec["replicas"] == 1,
        3,
    )
    bare.change_server("kimi", {"toolCallParser": "enabled"})
    wait_for(
        lambda: engine_container(bare.deployment("kimi"))["args"],
        "the change is rolled out",
        lambda words: "--tool-call-parser" in words,
    )
    assert served_folder(bare) == folder(FIRST)


def test_a_finalizer_that_holds_the_job_is_named_until_the_job_is_gone(bare: Namespace, audit_log: AuditLog) -> None:
    create(bare)
    [job] = wait_for(lambda: jobs(bare), "the Job is created")
    name = job["metadata"]["name"]
    bare.edit(JOB, name, {"metadata": {"finalizers": ["tests.example.com/hold"]}})
    bare.delete(JOB, name)
    told = condition_of(wait_for_reason(bare, "DeletionBlocked", kind="Synced"), "Synced")
    assert (told["status"], f"Job {name} (tests.example.com/hold)" in told["message"]) == ("False", True)
    audit_log.wait_until_quiet(audit_log.mark(), USER, bare.name)
    mark = audit_log.mark()
    stays(lambda: audit_log.writes(mark, USER, bare.name), "the operator writes nothing", lambda writes: not writes, 6)
    bare.edit(JOB, name, {"metadata": {"finalizers": None}})
    wait_for(
        lambda: condition_of(bare.existing(WEIGHTS, "kimi"), "Synced"), "Synced is gone", lambda found: found == {}
    )
    wait_for(
        lambda: [item["metadata"]["uid"] for item in jobs(bare)],
        "another Job",
        lambda uids: uids != [job["metadata"]["uid"]],
    )
