"""The permissions of an operator of one namespace in the tests: exactly the permissions in the chart."""

from functools import cache

import yaml

from chart import render
from integration.client import Client
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import LEASE, Kind, Manifest

_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts")
_OF_RBAC = "rbac.authorization.k8s.io"
KINDS = {
    "Role": Kind(_OF_RBAC, "v1", "Role", "roles"),
    "RoleBinding": Kind(_OF_RBAC, "v1", "RoleBinding", "rolebindings"),
}
_REVIEWS = Kind("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews")
_PLACEHOLDER = "namespace-of-a-test"
# The chart gives the operator these permissions only if they are asked for.
EVERY_PERMISSION = ("--set=rbac.expose=true", "--set=rbac.keda=true", "--set=rbac.monitoring=true")


def lasting_permissions() -> list[Manifest]:
    """Return the permissions of the chart's operator under other names.

    The commands of the guide change the chart's release, and the operator of all tests keeps its permissions meanwhile.
    """
    manifests = yaml.safe_load_all(render("--show-only=templates/rbac.yaml", *EVERY_PERMISSION))
    cluster_wide = [manifest for manifest in manifests if "namespace" not in manifest["metadata"]]
    for manifest in cluster_wide:
        name = f"{manifest['metadata']['name']}-of-tests"
        manifest["metadata"] = {"name": name}
        if "roleRef" in manifest:
            manifest["roleRef"]["name"] = name
    return cluster_wide


def grant(client: Client, namespace: str, account: str, *options: str) -> None:
    """Give a service account in kube-system the permissions of an operator of only this namespace.

    Args:
        client: Writes the Role.
        namespace: The namespace.
        account: The service account.
        options: More options of `helm template`, for example to give fewer permissions.
    """
    subject = {"kind": "ServiceAccount", "name": account, "namespace": "kube-system"}
    own: Manifest = {"metadata": {"name": account, "namespace": "kube-system"}}
    client.apply(_ACCOUNT, {"apiVersion": "v1", "kind": "ServiceAccount", **own}, "tests")
    for manifest in yaml.safe_load_all(rendered_roles(*options).replace(_PLACEHOLDER, namespace)):
        if manifest["kind"] == "RoleBinding":
            manifest["metadata"]["name"] += f"-{account}"
            manifest["subjects"] = [subject]
        client.apply(KINDS[manifest["kind"]], manifest, "tests")
    wait_for(lambda: _may_lease(client, namespace, account), f"{account} may work in {namespace}")


def _may_lease(client: Client, namespace: str, account: str) -> bool:
    """Return whether the API server knows all granted permissions.

    Before that, a refusal would look like a missing verb.

    The API server learns of writes in their order, and the permission for leases was written last.
    """
    asked = {"namespace": namespace, "verb": "create", "group": LEASE.group, "resource": LEASE.plural}
    spec = {"user": f"system:serviceaccount:kube-system:{account}", "resourceAttributes": asked}
    review = {"apiVersion": f"{_REVIEWS.group}/v1", "kind": _REVIEWS.kind, "metadata": {}, "spec": spec}
    return bool(client.create(_REVIEWS, review)["status"]["allowed"])


@cache
def rendered_roles(*options: str) -> str:
    """Return the chart's roles and bindings of an operator of one namespace. Its Lease is in the same namespace."""
    only = f"--set=watchNamespaces={{{_PLACEHOLDER}}}"
    return render("--show-only=templates/rbac.yaml", *EVERY_PERMISSION, only, *options, namespace=_PLACEHOLDER)
