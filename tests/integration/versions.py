"""Servers under several versions of the operator, one after the other: their pods and their offers."""

from integration.namespace import Namespace, Spec
from integration.other_version import is_built_by_other
from integration.processes_under_test import Program
from integration.sandbox import Sandbox
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import REVISION, Manifest
from kimi_linear_operator.server.labels import SERVER_LABEL
from kimi_linear_operator.server.spec import SERVER

ONE_GPU: Spec = {"tensorParallelism": 1}


def create_servers(namespace: Namespace, names: list[str], spec: Spec | None = None) -> None:
    for name in names:
        namespace.create_server(name, {**ONE_GPU, **(spec or {})})
    for name in names:
        namespace.wait_until_ready(name)


def go_on_as(sandbox: Sandbox, program: Program) -> None:
    """Kill the operator, so that it cannot finish its work, and start another version."""
    sandbox.operator.kill()
    sandbox.operator.program = program
    sandbox.restart_after_crash()


def running(namespace: Namespace, name: str) -> Manifest:
    """Return the values of a server that a rollout would change."""
    deployment = namespace.deployment(name)
    return {
        "generation": deployment["metadata"]["generation"],
        "template": deployment["spec"]["template"],
        "replicaSets": sorted(item["metadata"]["name"] for item in namespace.replica_sets(name)),
        "pods": sorted(pod["metadata"]["name"] for pod in namespace.pods(name)),
    }


def wait_for_offer(namespace: Namespace, names: list[str], status: str) -> None:
    for name in names:
        namespace.wait_for_condition(name, "TemplateCurrent", status)


def scale(namespace: Namespace, name: str, replicas: int) -> None:
    """Scale like a HorizontalPodAutoscaler."""
    namespace.client.patch(SERVER, namespace.name, name, {"spec": {"replicas": replicas}}, "scale")
    wait_for(lambda: len(namespace.pods(name)), f"{name} has {replicas} pods", replicas.__eq__)
    namespace.wait_until_ready(name)


def has_other_pods(namespace: Namespace, name: str) -> bool:
    return is_built_by_other(namespace.deployment(name)["spec"]["template"])


def records(namespace: Namespace, name: str) -> list[Manifest]:
    """Wait until only one record of a server's pod templates is left. Return the records."""
    return wait_for(
        lambda: namespace.client.list(REVISION, namespace.name, {"labelSelector": f"{SERVER_LABEL}={name}"}),
        "one record is left",
        lambda found: len(found) == 1,
    )
