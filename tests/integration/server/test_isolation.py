"""Isolated servers on a real control plane: their NetworkPolicy and their priority."""

import pytest

from integration.namespace import Namespace
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, NETWORK_POLICY, POD, Kind, Manifest

pytestmark = pytest.mark.usefixtures("operator")

PRIORITY_CLASS = Kind("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")
FROM_CHAT = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "chat"}}}
_QUIET_SECONDS = 3


def policy(namespace: Namespace) -> Manifest | None:
    return namespace.find(NETWORK_POLICY, "kimi")


def test_a_network_policy_follows_its_field_and_replaces_no_pod(namespace: Namespace) -> None:
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    pods = {pod["metadata"]["uid"] for pod in namespace.pods("kimi")}
    assert policy(namespace) is None
    namespace.change_server("kimi", {"networkPolicy": {"from": [FROM_CHAT]}})
    wait_for(lambda: policy(namespace), "the policy is there")
    assert namespace.existing(NETWORK_POLICY, "kimi")["spec"]["ingress"][0]["from"] == [FROM_CHAT]
    namespace.change_server("kimi", {"networkPolicy": {"from": []}})
    wait_for(lambda: policy(namespace), "the peer is gone", lambda found: "chat" not in str(found))
    namespace.change_server("kimi", {"networkPolicy": None})
    wait_for(lambda: policy(namespace) is None, "the policy is gone")
    namespace.wait_until_ready("kimi")
    assert {pod["metadata"]["uid"] for pod in namespace.pods("kimi")} == pods


def test_a_policy_that_somebody_widens_is_repaired(namespace: Namespace) -> None:
    namespace.create_server("kimi", {"networkPolicy": {"from": [FROM_CHAT]}})
    wait_for(lambda: policy(namespace), "the policy is there")
    namespace.edit(NETWORK_POLICY, "kimi", {"spec": {"ingress": [{}]}})
    wait_for(
        lambda: policy(namespace), "the policy is as before", lambda found: bool(found and "chat" in str(found["spec"]))
    )


def test_the_policy_of_a_removed_router_stays_until_its_last_pod_has_ended(namespace: Namespace) -> None:
    namespace.create_server("kimi", {"router": {"replicas": 1}, "networkPolicy": {}})
    namespace.wait_until_ready("kimi")
    [pod] = namespace.client.list(POD, namespace.name, {"labelSelector": "kimi-linear.io/router=kimi"})
    # Its pods end at once on simulated nodes.
    namespace.edit(POD, pod["metadata"]["name"], {"metadata": {"finalizers": ["example.com/has-requests"]}})
    namespace.change_server("kimi", {"router": None})
    wait_for(
        lambda: namespace.existing(POD, pod["metadata"]["name"])["metadata"].get("deletionTimestamp"),
        "the router's pod is being deleted",
    )
    stays(
        lambda: namespace.find(NETWORK_POLICY, "kimi-router"), "the router's policy still exists", bool, _QUIET_SECONDS
    )
    namespace.wait_until_ready("kimi")
    namespace.edit(POD, pod["metadata"]["name"], {"metadata": {"finalizers": None}})
    for kind in (DEPLOYMENT, NETWORK_POLICY):
        wait_for(
            lambda kind=kind: namespace.find(kind, "kimi-router"),  # type: ignore[misc]
            "the router's children are gone",
            lambda seen: not seen,
        )


def test_a_policy_of_somebody_else_is_left_alone(namespace: Namespace) -> None:
    metadata = {"name": "kimi", "namespace": namespace.name}
    spec = {"podSelector": {}, "policyTypes": ["Ingress"]}
    taken = {"apiVersion": NETWORK_POLICY.api_version, "kind": NETWORK_POLICY.kind, "metadata": metadata, "spec": spec}
    namespace.client.create(NETWORK_POLICY, taken)
    namespace.create_server("kimi", {"networkPolicy": {"from": [FROM_CHAT]}})
    namespace.wait_for_condition("kimi", "Synced", "False", "NameConflict")
    namespace.wait_until_ready("kimi")
    assert namespace.existing(NETWORK_POLICY, "kimi")["spec"] == spec


def test_a_peer_with_empty_labels_is_not_reported_as_contested(namespace: Namespace) -> None:
    """The API server does not store empty labels."""
    namespace.create_server("kimi", {"networkPolicy": {"from": [{"podSelector": {"matchLabels": {}}}]}})
    namespace.wait_until_ready("kimi")
    namespace.wait_for_condition("kimi", "Synced", "True", "Undisputed")
    stays(
        lambda: namespace.condition("kimi", "Synced")["status"],
        "no client is reported as a rival",
        lambda seen: seen == "True",
        5,
    )


def test_pods_have_the_priority_of_the_class_in_the_pod_template(namespace: Namespace) -> None:
    name = f"{namespace.name}-inference"
    manifest = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}}
    namespace.client.create(PRIORITY_CLASS, {**manifest, "value": 1000, "preemptionPolicy": "Never"})
    namespace.create_server("kimi", {"podTemplate": {"spec": {"priorityClassName": name}}})
    namespace.wait_until_ready("kimi")
    assert [pod["spec"]["priority"] for pod in namespace.pods("kimi")] == [1000]
    namespace.client.delete(PRIORITY_CLASS, None, name)
