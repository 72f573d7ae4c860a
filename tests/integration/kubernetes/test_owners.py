"""An object that blocks the deletion of its owner needs a permission that is in no audit log."""

import copy
import json

from chart import RELEASE
from commands import LocalClusterError
from control_plane import LocalCluster
from integration.namespace import Namespace
from integration.permissions import KINDS, grant
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import Manifest


def owned_service(owner: Manifest) -> Manifest:
    """Return a Service that blocks the deletion of its owner."""
    reference = {
        **{key: owner[key] for key in ("apiVersion", "kind")},
        **{key: owner["metadata"][key] for key in ("name", "uid")},
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {"name": "owned", "namespace": owner["metadata"]["namespace"], "ownerReferences": [reference]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}


def test_naming_a_blocking_owner_needs_the_permission_for_finalizers(
    cluster: LocalCluster, namespace: Namespace, no_operator: None
) -> None:
    grant(namespace.client, namespace.name, "of-owners")
    role = namespace.existing(KINDS["Role"], RELEASE)
    text = json.dumps(owned_service(namespace.create_server("kimi")))

    def refusal() -> str:
        as_operator = "--as=system:serviceaccount:kube-system:of-owners"
        try:
            cluster.kubectl("apply", "--server-side", "--dry-run=server", as_operator, "--filename=-", stdin=text)
        except LocalClusterError as error:
            return str(error)
        return ""

    wait_for(refusal, "the chart's rules suffice", lambda told: not told)
    rules = [rule for rule in copy.deepcopy(role["rules"]) if not rule["resources"][0].endswith("/finalizers")]
    namespace.edit(KINDS["Role"], RELEASE, {"rules": rules})
    wait_for(refusal, "the API server misses the permission", lambda told: "cannot set blockOwnerDeletion" in told)
