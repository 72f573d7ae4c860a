"""Replicas follow the load.

The tests use Kubernetes' own autoscaler, and metrics that Prometheus gets from stand-ins for SGLang.
"""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from binaries import AUTOSCALING
from built import skip_unless_built
from control_plane import LocalCluster
from integration.audit import AuditLog
from integration.client import APPLY, path_of
from integration.kubelet import HELD_SPEC, held_pod, report_ready
from integration.metrics import PROMETHEUS, Prometheus, ServingPods, adapted_metrics, load, wait_for_pods
from integration.namespace import Namespace, Spec, condition_of, server_manifest
from integration.processes_under_test import USER, Operator
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import AUTOSCALER, DEPLOYMENT, Manifest
from kimi_linear_operator.server.spec import SERVER

_GUIDE = Path(__file__).parents[3] / "docs/guide/scale.md"
# In these tests, the autoscaler checks every 2 s, and a pod's first metrics come some seconds after it is Ready.
_SECONDS_TO_SCALE_UP = 60
# The autoscaler removes a replica every 15 s, after ten seconds without load.
_SECONDS_TO_SCALE_DOWN = 120
_SECONDS_WITHOUT_A_SECOND_START = 15
_SECONDS_AT_REST = 60
# In this time, the autoscaler would have checked several times.
_SECONDS_ASLEEP = 10
# What the operator and the autoscalers write.
_WRITTEN = (SERVER, AUTOSCALER, DEPLOYMENT)
SPEC: Spec = {
    **HELD_SPEC,
    "tensorParallelism": 1,
    "drain": {"timeoutSeconds": 0},
    "autoscaling": {
        "maxReplicas": 3,
        "target": {"queuedRequests": 2, "runningRequests": 2},
        "scaleUp": {"stabilizationSeconds": 5},
        "scaleDown": {"stabilizationSeconds": 10},
    },
}


@pytest.fixture(scope="module")
def prometheus(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    skip_unless_built(AUTOSCALING, [] if PROMETHEUS.exists() else ["prometheus"])
    with adapted_metrics(cluster, tmp_path_factory.mktemp("metrics")) as started:
        yield started


def metrics_by_the_guide(cluster: LocalCluster, namespace: Namespace) -> list[Manifest]:
    """Return the output of the guide's command for the metrics."""
    [command] = re.findall(r"^\$ kubectl (get --raw .*)$", _GUIDE.read_text(), re.MULTILINE)
    words = shlex.split(command.replace("/namespaces/default/", f"/namespaces/{namespace.name}/"))
    items: list[Manifest] = json.loads(cluster.kubectl(*words))["items"]
    return items


def reason(namespace: Namespace) -> str:
    return str(namespace.condition("kimi", "Autoscaling").get("reason"))


def test_replicas_follow_the_load_with_one_start_at_a_time(
    operator: Operator, cluster: LocalCluster, namespace: Namespace, prometheus: Prometheus, audit_log: AuditLog
) -> None:
    namespace.create_server("kimi", SPEC)
    with ServingPods(namespace, "kimi", prometheus) as pods:
        wait_for_pods(pods, 1, _SECONDS_TO_SCALE_UP)
        namespace.wait_for_condition("kimi", "Autoscaling", "True", "FollowsLoad", _SECONDS_TO_SCALE_UP)
        assert [item["describedObject"]["name"] for item in metrics_by_the_guide(cluster, namespace)] == pods.names
        pods.may_start = False
        with load(pods, users=12):
            wait_for_pods(pods, 2, _SECONDS_TO_SCALE_UP)
            # The load asks for more replicas, but a start is under way.
            stays(pods.tend, "two pods", lambda found: len(found) == 2, _SECONDS_WITHOUT_A_SECOND_START)
            assert reason(namespace) == "ReplicaAwaited"
            pods.may_start = True
            wait_for_pods(pods, 3, _SECONDS_TO_SCALE_UP)
            namespace.wait_for_condition("kimi", "Autoscaling", "True", "MaximumReached", _SECONDS_TO_SCALE_UP)
        wait_for_pods(pods, 1, _SECONDS_TO_SCALE_DOWN)
        namespace.wait_for_condition("kimi", "Autoscaling", "True", "FollowsLoad", _SECONDS_TO_SCALE_UP)
        audit_log.wait_until_quiet(0, USER, namespace.name)
        namespace.stays_unwritten("kimi", _WRITTEN, _SECONDS_AT_REST)
        assert namespace.replicas("kimi") == 1


def test_without_metrics_nothing_is_scaled_and_the_status_names_the_missing_metrics(
    operator: Operator, namespace: Namespace
) -> None:
    namespace.create_server("kimi", SPEC)
    pod = held_pod(namespace)
    namespace.wait_for_condition("kimi", "Autoscaling", "True", "ReplicaAwaited")
    report_ready(namespace, pod)
    told = namespace.wait_for_condition("kimi", "Autoscaling", "False", "MetricsMissing")
    assert "sglang_num_queue_reqs" in told["message"]
    assert namespace.replicas("kimi") == 1


def test_the_autoscaler_raises_replicas_to_min_replicas_and_an_apply_without_replicas_keeps_them(
    operator: Operator, namespace: Namespace
) -> None:
    spec = {**SPEC, "autoscaling": {"minReplicas": 2, "maxReplicas": 3}}
    manifest = server_manifest("kimi", namespace.name, spec)
    path = path_of(SERVER, namespace.name, "kimi")
    query = {"fieldManager": "gitops", "force": "true"}
    for _ in range(2):
        namespace.client.request("PATCH", path, manifest, query, APPLY)
        wait_for(lambda: namespace.replicas("kimi"), "the server has minReplicas", lambda seen: seen == 2)
    wait_for(
        lambda: namespace.deployment("kimi")["spec"]["replicas"],
        "the Deployment wants two pods",
        lambda seen: seen == 2,
    )
    assert namespace.replicas("kimi") == 2


def test_a_suspended_server_has_no_autoscaler_and_keeps_its_replicas(operator: Operator, namespace: Namespace) -> None:
    namespace.create_server("kimi", {**SPEC, "replicas": 2})
    wait_for(lambda: namespace.find(AUTOSCALER, "kimi"), "there is an autoscaler")
    namespace.change_server("kimi", {"suspend": True})
    wait_for(lambda: namespace.find(AUTOSCALER, "kimi"), "the autoscaler is gone", lambda found: found is None)
    told = wait_for(
        lambda: condition_of(namespace.server("kimi"), "Autoscaling"),
        "the condition says Suspended",
        lambda found: found.get("reason") == "Suspended",
    )
    assert told["status"] == "False"
    assert namespace.replicas("kimi") == 2
    namespace.change_server("kimi", {"suspend": False})
    wait_for(lambda: namespace.find(AUTOSCALER, "kimi"), "the autoscaler is back")


def test_a_suspended_server_with_a_refused_spec_has_no_autoscaler_and_keeps_its_replicas(
    operator: Operator, namespace: Namespace
) -> None:
    namespace.create_server("kimi", {"tensorParallelism": 1, "autoscaling": {"minReplicas": 2, "maxReplicas": 3}})
    wait_for(lambda: namespace.replicas("kimi"), "the autoscaler raises replicas", lambda seen: seen == 2)
    namespace.wait_until_ready("kimi")
    namespace.change_server("kimi", {"security": {"hostIPC": True}})
    namespace.wait_for_condition("kimi", "Ready", "False", "InvalidSpec")
    assert namespace.find(AUTOSCALER, "kimi"), "the spec asks for replicas, and the autoscaler stays"
    namespace.change_server("kimi", {"suspend": True})
    namespace.wait_for_condition("kimi", "Autoscaling", "False", "Suspended")
    wait_for(lambda: namespace.find(AUTOSCALER, "kimi"), "the autoscaler is gone", lambda found: found is None)
    wait_for(lambda: namespace.pods("kimi"), "no replica is left", lambda found: not found)
    namespace.change_server("kimi", {"replicas": 1})
    stays(lambda: namespace.replicas("kimi"), "nothing changes replicas", lambda seen: seen == 1, _SECONDS_ASLEEP)
    namespace.change_server("kimi", {"security": None, "suspend": False})
    wait_for(lambda: namespace.replicas("kimi"), "the autoscaler is back", lambda seen: seen == 2)


def test_removing_spec_autoscaling_removes_the_autoscaler_and_the_condition(
    operator: Operator, namespace: Namespace
) -> None:
    namespace.create_server("kimi", SPEC)
    wait_for(lambda: namespace.find(AUTOSCALER, "kimi"), "there is an autoscaler")
    namespace.change_server("kimi", {"autoscaling": None})
    wait_for(lambda: namespace.find(AUTOSCALER, "kimi"), "the autoscaler is gone", lambda found: found is None)
    wait_for(lambda: namespace.condition("kimi", "Autoscaling"), "the condition is gone", lambda found: found == {})


def test_bounds_that_contradict_each_other_are_refused(namespace: Namespace, cluster: LocalCluster) -> None:
    wrong = server_manifest("kimi", namespace.name, {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}})
    answer = namespace.client.send("POST", path_of(SERVER, namespace.name), wrong)
    assert answer.status == 422
    assert "is greater than spec.autoscaling.maxReplicas: correct one of them" in answer.message


def test_an_autoscaler_of_somebody_else_is_left_alone(operator: Operator, namespace: Namespace) -> None:
    target = {"apiVersion": SERVER.api_version, "kind": SERVER.kind, "name": "kimi"}
    metadata = {"name": "kimi", "namespace": namespace.name}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 9}
    manifest = {"apiVersion": AUTOSCALER.api_version, "kind": AUTOSCALER.kind, "metadata": metadata, "spec": spec}
    theirs = namespace.client.create(AUTOSCALER, manifest)
    namespace.create_server("kimi", SPEC)
    told = namespace.wait_for_condition("kimi", "Synced", "False", "NameConflict")
    assert "HorizontalPodAutoscaler kimi" in told["message"]
    assert namespace.existing(AUTOSCALER, "kimi")["metadata"]["uid"] == theirs["metadata"]["uid"]
    assert namespace.existing(AUTOSCALER, "kimi")["spec"]["maxReplicas"] == 9
