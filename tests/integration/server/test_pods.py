"""A server's pods on a real control plane: scheduling, eviction and quotas."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from amd_labels import CHART, CPX, DAEMONSET, MI350X, MI355X, MI355X_VF, PARTITION, WHOLE, labels
from control_plane import LocalCluster
from integration.client import path_of
from integration.kubelet import DRAINS, SLOW
from integration.namespace import Namespace, Spec, engine_container
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes import quota
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, DISRUPTION_BUDGET, POD, REVISION, Manifest
from kimi_linear_operator.server.spec import SERVER
from nodes import add_nodes, simulated_node
from pod_cluster import small_node

pytestmark = pytest.mark.usefixtures("operator")

DRAINS_SPEC: Spec = {"podTemplate": {"metadata": {"annotations": {DRAINS: "true"}}}}
# After this time, the ReplicaSet controller's back-off is 20 s. That is longer than the limit for a successor.
_SECONDS_OF_DRAINING = 25
_SECONDS_TO_A_SUCCESSOR = 10
# Longer than all attempts to wake a controller.
_SECONDS_OF_ATTEMPTS = 25


def end(namespace: Namespace, pod: Manifest) -> None:
    """End a pod like its kubelet after the end of all containers."""
    target = f"{path_of(POD, namespace.name)}/{pod['metadata']['name']}"
    namespace.client.request("DELETE", target, {"gracePeriodSeconds": 0})


def test_a_full_quota_delays_a_successor_only_until_the_old_pod_has_gone(namespace: Namespace) -> None:
    namespace.set_quota("full", {"pods": "1"})
    namespace.create_server("kimi", DRAINS_SPEC)
    namespace.wait_until_ready("kimi")
    [old] = namespace.pods("kimi")
    namespace.change_server("kimi", {"engine": {"contextLength": 131072}})
    ready = namespace.wait_for_condition("kimi", "Ready", "False", "OldPodTerminating")
    assert f"pod {old['metadata']['name']} finishes its requests" in ready["message"]
    time.sleep(_SECONDS_OF_DRAINING)
    assert [pod["metadata"]["uid"] for pod in namespace.pods("kimi")] == [old["metadata"]["uid"]]
    end(namespace, old)
    wait_for(
        lambda: [pod for pod in namespace.pods("kimi") if pod["metadata"]["uid"] != old["metadata"]["uid"]],
        "the successor is there",
        seconds=_SECONDS_TO_A_SUCCESSOR,
    )
    namespace.wait_until_ready("kimi")


def test_a_quota_that_stays_too_small_causes_a_bounded_number_of_writes(namespace: Namespace) -> None:
    namespace.set_quota("full", {"pods": "0"})
    namespace.create_server("kimi")
    namespace.wait_for_condition("kimi", "Ready", "False", "PodCreationFailed")

    def mark() -> str:
        return str(namespace.deployment("kimi")["metadata"]["annotations"].get("kimi-linear.io/woken", ""))

    last = wait_for(mark, "the last attempt", lambda text: f".{quota.ATTEMPTS}." in text, _SECONDS_OF_ATTEMPTS)
    stays(mark, "there is no other attempt", lambda text: text == last, quota.SECONDS_BETWEEN_ATTEMPTS + 2)


def test_an_old_pod_that_still_has_the_gpus_is_named(namespace: Namespace, scarce: str) -> None:
    namespace.create_server("kimi", {"hardware": scarce, "tensorParallelism": 8, **DRAINS_SPEC})
    namespace.wait_until_ready("kimi")
    [old] = namespace.pods("kimi")
    namespace.change_server("kimi", {"engine": {"contextLength": 131072}})
    ready = namespace.wait_for_condition("kimi", "Ready", "False", "OldPodTerminating")
    assert old["metadata"]["name"] in ready["message"]
    end(namespace, old)
    namespace.wait_until_ready("kimi")
    namespace.delete(SERVER, "kimi")
    wait_for(lambda: _pods_after_ending_some(namespace), "the node is empty again", lambda pods: not pods)


def _pods_after_ending_some(namespace: Namespace) -> list[Manifest]:
    """End the pods that are being deleted, after their ReplicaSet is gone. Before that, it would replace them."""
    pods = namespace.pods("kimi")
    for pod in pods:
        if "deletionTimestamp" in pod["metadata"]:
            end(namespace, pod)
    return pods


def evict(namespace: Namespace, pod: Manifest) -> int:
    name = pod["metadata"]["name"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace.name}}
    return namespace.client.send("POST", f"{path_of(POD, namespace.name)}/{name}/eviction", body).status


def test_a_drain_may_evict_one_replica_but_not_the_second(namespace: Namespace) -> None:
    # The second eviction is requested before the replacement of the first pod is Ready.
    annotations = {DRAINS: "true", SLOW: "10s"}
    namespace.create_server("kimi", {"replicas": 2, "podTemplate": {"metadata": {"annotations": annotations}}})
    namespace.wait_until_ready("kimi")
    wait_for(
        lambda: (namespace.find(DISRUPTION_BUDGET, "kimi") or {}).get("status", {}).get("disruptionsAllowed"),
        "one replica may be evicted",
        lambda allowed: allowed == 1,
    )
    first, second = namespace.pods("kimi")
    assert (evict(namespace, first), evict(namespace, second)) == (201, 429)
    end(namespace, first)


def test_the_disruption_budget_exists_only_with_several_replicas(namespace: Namespace) -> None:
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    assert namespace.find(DISRUPTION_BUDGET, "kimi") is None
    namespace.change_server("kimi", {"replicas": 2})
    wait_for(lambda: namespace.find(DISRUPTION_BUDGET, "kimi"), "the budget is there")
    namespace.change_server("kimi", {"replicas": 1})
    wait_for(lambda: namespace.find(DISRUPTION_BUDGET, "kimi"), "the budget is gone", lambda found: found is None)


def test_replicas_run_on_different_nodes_and_are_not_evicted_first(namespace: Namespace) -> None:
    namespace.create_server("kimi", {"replicas": 2})
    namespace.wait_until_ready("kimi")
    pods = namespace.pods("kimi")
    assert {pod["spec"]["nodeName"] for pod in pods} == {"mi300x-0", "mi300x-1"}
    assert {pod["status"]["qosClass"] for pod in pods} == {"Burstable"}


# The labels that AMD's labeller writes on nodes with eight MI355X: some nodes can serve, others cannot.
_USABLE = {
    "daemonset": labels([MI355X] * 8, DAEMONSET),
    "chart": labels([MI355X] * 8, CHART),
    "virtual-function": labels([MI355X_VF] * 8, DAEMONSET),
    "told-whole": labels([MI355X] * 8, (*DAEMONSET, PARTITION), WHOLE),
    "labelled-by-hand": {"amd.com/gpu.device-id": "75a3"},
}
_UNUSABLE = {
    "partitioned": labels([MI355X] * 8, CHART, CPX),
    "told-partitioned": labels([MI355X] * 8, ("device-id", PARTITION), CPX),
    "two-models": labels([MI355X] * 4 + [MI350X] * 4),
    "other-model": labels([MI350X] * 8),
}
_MI355X: Spec = {"hardware": "mi355x", "engine": {"version": "v0.5.16"}}


@contextmanager
def nodes_with(cluster: LocalCluster, labelled: Mapping[str, Mapping[str, str]]) -> Iterator[None]:
    """Add a simulated node with eight GPUs for each of these sets of labels. Remove the nodes afterwards."""
    add_nodes(cluster.kubectl, [simulated_node(name, amd_labels) for name, amd_labels in labelled.items()])
    try:
        yield
    finally:
        cluster.kubectl("delete", "node", *labelled)


def test_servers_run_only_on_nodes_whose_amd_labels_show_whole_gpus_of_their_model(
    cluster: LocalCluster, namespace: Namespace
) -> None:
    with nodes_with(cluster, {**_USABLE, **_UNUSABLE}):
        namespace.create_server("kimi", {**_MI355X, "tensorParallelism": 8, "replicas": len(_USABLE) + 1})
        wait_for(
            lambda: sorted(pod["spec"].get("nodeName", "") for pod in namespace.pods("kimi")),
            "each node that can serve has a replica, and one replica has no node",
            lambda nodes: nodes == ["", *sorted(_USABLE)],
        )
        ready = namespace.wait_for_condition("kimi", "Ready", "False", "Unschedulable")
        assert "8 free amd.com/gpu on one node whose GPUs are all mi355x and not partitioned" in ready["message"]


@pytest.mark.parametrize("name", _UNUSABLE)
def test_an_unschedulable_server_names_the_labels_of_suitable_nodes(
    cluster: LocalCluster, namespace: Namespace, name: str
) -> None:
    with nodes_with(cluster, {name: _UNUSABLE[name]}):
        namespace.create_server("kimi", _MI355X)
        message = namespace.wait_for_condition("kimi", "Ready", "False", "Unschedulable")["message"]
        assert "didn't match Pod's node affinity/selector" in message
        assert "Such a node has the label amd.com/gpu.device-id=75a3 or 75b3. " in message
        assert "but not on a node with several GPU models: put GPUs of one model into each node. " in message
        with nodes_with(cluster, {"daemonset": _USABLE["daemonset"]}):
            namespace.wait_until_ready("kimi")


def test_a_pod_template_that_reaches_beyond_the_pod_is_refused_and_nothing_is_created(namespace: Namespace) -> None:
    volume = {"name": "models", "hostPath": {"path": "/data"}}
    namespace.create_server("kimi", {"podTemplate": {"spec": {"hostPID": True, "volumes": [volume]}}})
    ready = namespace.wait_for_condition("kimi", "Ready", "False", "InvalidSpec")
    assert "hostPID: true, the node's files (hostPath of volume models)" in ready["message"]
    assert "--allow-node-access" in ready["message"]
    assert namespace.condition("kimi", "Stalled")["status"] == "True"
    assert namespace.find(DEPLOYMENT, "kimi") is None


def test_a_refused_server_can_only_be_scaled_down_or_suspended(namespace: Namespace) -> None:
    namespace.create_server("kimi", {"replicas": 2})
    namespace.wait_until_ready("kimi")
    template = namespace.deployment("kimi")["spec"]["template"]
    namespace.change_server("kimi", {"replicas": 3, "podTemplate": {"spec": {"hostPID": True}}})
    namespace.wait_for_condition("kimi", "Accepted", "False", "InvalidSpec")
    assert namespace.deployment("kimi")["spec"]["replicas"] == 2
    namespace.change_server("kimi", {"replicas": 1})
    wait_for(lambda: namespace.deployment("kimi")["spec"]["replicas"], "one replica is left", lambda count: count == 1)
    namespace.change_server("kimi", {"suspend": True})
    wait_for(lambda: namespace.pods("kimi"), "no pod is left", lambda pods: not pods)
    assert namespace.deployment("kimi")["spec"]["template"] == template
    assert namespace.condition("kimi", "Accepted")["reason"] == "InvalidSpec"


def test_a_probe_removed_by_null_is_gone_and_nothing_is_written_afterwards(namespace: Namespace) -> None:
    containers = [{"name": "sglang", "livenessProbe": None, "readinessProbe": {"exec": {"command": ["true"]}}}]
    namespace.create_server("kimi", {"podTemplate": {"spec": {"containers": containers}}})
    namespace.wait_until_ready("kimi")
    container = engine_container(namespace.deployment("kimi"))
    assert "livenessProbe" not in container
    assert container["readinessProbe"].keys() & {"exec", "httpGet"} == {"exec"}

    def written() -> tuple[int, list[str]]:
        revisions = namespace.client.list(REVISION, namespace.name)
        return namespace.deployment("kimi")["metadata"]["generation"], [item["metadata"]["name"] for item in revisions]

    namespace.edit(SERVER, "kimi", {"metadata": {"labels": {"any": "change"}}})
    stays(written, "there is only one pod template", lambda seen: seen == (1, ["kimi-1"]), 3)


def test_pods_on_a_node_with_simulated_gpus_request_only_gpus(cluster: LocalCluster, namespace: Namespace) -> None:
    labels = {"app.kubernetes.io/name": "kimi-linear", "app.kubernetes.io/component": "server"}
    resources = {"requests": {"amd.com/gpu": "4", "cpu": "6", "memory": "64Gi"}, "limits": {"amd.com/gpu": "4"}}
    container = {"name": "sglang", "image": "a", "resources": resources}
    pod = {"metadata": {"generateName": "any-", "labels": labels}, "spec": {"containers": [container]}}

    def requests() -> Manifest:
        made = namespace.client.request("POST", path_of(POD, namespace.name), pod, {"dryRun": "All"})
        return dict(made["spec"]["containers"][0]["resources"]["requests"])

    assert requests() == resources["requests"]
    cluster.kubectl.apply(small_node(has_devices=True))
    try:
        wait_for(requests, "the policy is in force", lambda seen: seen == {"amd.com/gpu": "4"}, seconds=20)
    finally:
        for manifest in reversed(small_node(has_devices=True)):
            cluster.kubectl("delete", manifest["kind"], manifest["metadata"]["name"])
