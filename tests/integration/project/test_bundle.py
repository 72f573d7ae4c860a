"""The bundle for the Operator Lifecycle Manager: OLM's own validator accepts it, and its parts work in a cluster.

OLM itself does not run here: the test creates the objects that OLM makes from a ClusterServiceVersion.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from binaries import binary
from chart import BUNDLE, RELEASE
from commands import run
from control_plane import LocalCluster
from integration.namespace import Namespace
from integration.processes_under_test import USER_OF_THE_BUNDLE, Operator
from kimi_linear_operator.kubernetes.kinds import Manifest

_NAMESPACE = USER_OF_THE_BUNDLE.split(":")[2]
_SERVICE_VERSION = "manifests/kimi-linear-operator.clusterserviceversion.yaml"

pytestmark = pytest.mark.usefixtures("programs")


def complaints(folder: Path) -> list[Any]:
    """Return the errors and warnings of OLM's validator."""
    return list(json.loads(run([binary("bundle-validator"), folder])))


def test_olms_validator_accepts_the_bundle() -> None:
    assert complaints(BUNDLE) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("kind: KimiLinearWeights\n", "kind: KimiLinearWeight\n", "KimiLinearWeight"),
        ("minKubeVersion: 1.30.0", "minKubeVersion: '1'", "MinKubeVersion"),
        ("AI/Machine Learning", "AI", "categories"),
    ],
)
def test_olms_validator_finds_a_mistake(tmp_path: Path, before: str, after: str, said: str) -> None:
    broken = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    text = (broken / _SERVICE_VERSION).read_text()
    assert before in text
    (broken / _SERVICE_VERSION).write_text(text.replace(before, after))
    assert said in json.dumps(complaints(broken))


def as_olm_installs(strategy: Manifest) -> list[Manifest]:
    """Return the objects that OLM makes from a ClusterServiceVersion in the namespace of its subscription."""
    [cluster_wide], [own] = strategy["clusterPermissions"], strategy["permissions"]
    [deployment] = strategy["deployments"]
    metadata = {"name": RELEASE, "namespace": _NAMESPACE}
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE, "labels": labels}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        *_bound("ClusterRole", {"name": f"{RELEASE}-of-olm"}, cluster_wide["rules"]),
        *_bound("Role", metadata, own["rules"]),
        *_others(),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {**metadata, "name": deployment["name"], "labels": deployment["label"]},
            "spec": deployment["spec"],
        },
    ]


def _others() -> list[Manifest]:
    """Return the objects of the bundle that OLM creates as they are, in its namespace."""
    manifests = [
        yaml.safe_load((BUNDLE / f"manifests/{name}.yaml").read_text()) for name in ("poddisruptionbudget", "service")
    ]
    return [{**item, "metadata": {**item["metadata"], "namespace": _NAMESPACE}} for item in manifests]


def _bound(kind: str, metadata: Manifest, rules: list[Any]) -> list[Manifest]:
    """Return a role with these rules, and its binding to the operator's service account."""
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": RELEASE, "namespace": _NAMESPACE}
    role = {"apiGroup": group, "kind": kind, "name": metadata["name"]}
    return [
        {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "roleRef": role,
            "subjects": [subject],
        },
    ]


def test_the_bundles_operator_is_admitted_as_restricted_and_makes_a_server_ready(
    cluster: LocalCluster, no_operator: None, namespace: Namespace, tmp_path: Path
) -> None:
    strategy = yaml.safe_load((BUNDLE / _SERVICE_VERSION).read_text())["spec"]["install"]["spec"]
    cluster.kubectl.apply(as_olm_installs(strategy))
    cluster.kubectl("rollout", "status", f"deployment/{RELEASE}", f"--namespace={_NAMESPACE}", "--timeout=60s")
    _, *arguments = strategy["deployments"][0]["spec"]["template"]["spec"]["containers"][0]["args"]
    arguments = [word for word in arguments if not word.startswith("--listen=")]
    # Outside a pod, there is no own namespace.
    lease = f"--lease={_NAMESPACE}/{RELEASE}"
    operator = Operator(cluster.kubeconfig_of(RELEASE, _NAMESPACE), tmp_path / "log", (lease, *arguments))
    operator.start()
    try:
        namespace.create_server("kimi", {"tensorParallelism": 1})
        namespace.wait_until_ready("kimi")
    finally:
        code = operator.stop()
        cluster.kubectl("delete", "namespace", _NAMESPACE, "--wait=false")
    assert code == 0, operator.told()
