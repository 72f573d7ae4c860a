"""After a change of a Secret, `kubectl rollout restart` creates new pods, and the operator does not undo this."""

import pytest

from control_plane import LocalCluster
from integration.client import SECRET
from integration.namespace import Namespace
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT

pytestmark = pytest.mark.usefixtures("operator")

RESTARTED = "kubectl.kubernetes.io/restartedAt"
# Longer than the operator needs to undo a change.
QUIET_SECONDS = 3


def restarted_at(namespace: Namespace) -> str | None:
    template = namespace.deployment("kimi")["spec"]["template"]
    found: str | None = template["metadata"].get("annotations", {}).get(RESTARTED)
    return found


def test_a_rollout_restart_replaces_the_pods_and_is_not_undone(cluster: LocalCluster, namespace: Namespace) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hf", "namespace": namespace.name}}
    namespace.client.create(SECRET, secret | {"stringData": {"token": "old"}})
    namespace.create_server("kimi", {"model": {"tokenSecretRef": {"name": "hf"}}})
    namespace.wait_until_ready("kimi")
    [before] = namespace.pods("kimi")
    namespace.edit(SECRET, "hf", {"stringData": {"token": "new"}})

    cluster.kubectl("rollout", "restart", "deployment/kimi", f"--namespace={namespace.name}")

    since = restarted_at(namespace)
    assert since
    wait_for(
        lambda: [pod["metadata"]["name"] for pod in namespace.pods("kimi")],
        "another pod runs",
        lambda names: len(names) == 1 and names != [before["metadata"]["name"]],
    )
    namespace.wait_until_ready("kimi")
    stays(lambda: restarted_at(namespace), "the restart is not undone", lambda found: found == since, QUIET_SECONDS)
    # The annotation stays when the operator writes the Deployment the next time.
    namespace.change_server("kimi", {"engine": {"contextLength": 131072}})
    namespace.wait_until_ready("kimi")
    assert "--context-length" in str(namespace.existing(DEPLOYMENT, "kimi"))
    assert restarted_at(namespace) == since
