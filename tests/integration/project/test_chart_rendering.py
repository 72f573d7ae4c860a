"""Every supported version of Kubernetes accepts the manifests that Helm and Kustomize make from our files."""

import json
import subprocess
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
import yaml

import chart
from binaries import binary
from chart import BASE, CHART, INSTALL, ROOT, SERVERS_CHART
from commands import LocalClusterError, run
from integration.schemas import LOCATION, VERSIONS, write_schemas
from kimi_linear_operator import resource_types
from kimi_linear_operator.kubernetes import crd
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.resource_types import DEFINITIONS

VALUES = {"default": (), **{file.stem: (f"--values={file}",) for file in sorted((CHART / "ci").glob("*.yaml"))}}
OVERLAYS = sorted((ROOT / "deploy/kustomize/overlays").iterdir())
# Kinds of the Prometheus Operator. tests/gitops/test_examples.py checks these with the operator's own types.
FOREIGN = "ServiceMonitor,PrometheusRule"

pytestmark = pytest.mark.usefixtures("programs")


@cache
def rendered(name: str) -> list[Manifest]:
    return list(yaml.load_all(chart.render(*VALUES[name]), yaml.CSafeLoader))


@cache
def kustomized(folder: Path) -> str:
    return run([binary("kubectl"), "kustomize", folder])


def one(manifests: list[Manifest], kind: str) -> Manifest:
    [found] = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_schemas(tmp_path_factory.mktemp("schemas"))


@pytest.fixture(scope="module")
def check(schemas: Path) -> Callable[[str, str], None]:
    """Return a check of manifests with kubeconform against the schemas of one version."""

    def check(text: str, version: str) -> None:
        location = f"-schema-location={schemas}/{LOCATION}"
        options = ["-strict", "-summary", f"-kubernetes-version={version}", f"-skip={FOREIGN}", location]
        command = [str(binary("kubeconform")), *options, "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Valid: 0" not in done.stdout

    return check


@pytest.mark.parametrize("name", VALUES)
def test_helm_3_renders_the_same(name: str) -> None:
    options = (f"--kube-version={VERSIONS[-1]}", f"--namespace={chart.NAMESPACE}", *VALUES[name])
    text = run([binary("helm-3"), "template", chart.RELEASE, CHART, *options])
    assert list(yaml.load_all(text, yaml.CSafeLoader)) == rendered(name)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_rendering_and_overlay_is_valid_in_every_version(check: Callable[[str, str], None], version: str) -> None:
    renderings = [chart.render(f"--kube-version={version}", *options) for options in VALUES.values()]
    check("\n---\n".join([*renderings, *map(kustomized, (BASE.parent, *OVERLAYS))]), version)


def test_the_check_of_renderings_finds_a_misspelt_field(check: Callable[[str, str], None]) -> None:
    text = chart.render("--show-only=templates/deployment.yaml").replace("serviceAccountName", "serviceAccountname")
    with pytest.raises(AssertionError, match="serviceAccountname"):
        check(text, VERSIONS[0])


def test_an_older_kubernetes_is_refused() -> None:
    with pytest.raises(LocalClusterError, match=r"requires kubeVersion: >=1\.30"):
        chart.render("--kube-version=1.29.9")


@pytest.mark.parametrize("name", VALUES)
def test_helm_lint_finds_nothing(name: str) -> None:
    chart.helm("lint", "--strict", "--quiet", CHART, *VALUES[name])


@pytest.mark.parametrize(
    "value",
    ["replicas=-1", "log.level=loud", "watchNamespaces[0]=Team", "image.digest=latest", "replica=1", "crds.keeps=true"],
)
def test_a_wrong_value_is_refused(value: str) -> None:
    with pytest.raises(LocalClusterError, match=value.partition("=")[0].split("[")[0].split(".")[-1]):
        chart.render(f"--set={value}")


def test_the_manifests_without_helm_are_fresh() -> None:
    assert BASE.read_text() == chart.base(), "run `make generate`"
    assert INSTALL.read_text() == chart.one_file(), "run `make generate`"


def definitions(manifests: Iterable[Manifest]) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == "CustomResourceDefinition"]


def test_the_charts_definitions_equal_those_of_the_models() -> None:
    ours = definitions(manifest for text in crd.files(DEFINITIONS).values() for manifest in yaml.safe_load_all(text))
    specs = {manifest["metadata"]["name"]: manifest["spec"] for manifest in definitions(rendered("default"))}
    assert specs == {manifest["metadata"]["name"]: manifest["spec"] for manifest in ours}


@pytest.mark.parametrize(("name", "is_kept"), [("default", True), ("everything-values", False)])
def test_definitions_are_kept_unless_the_values_say_otherwise(name: str, is_kept: bool) -> None:
    keeping = {"helm.sh/resource-policy": "keep", "argocd.argoproj.io/sync-options": "Prune=false"}
    annotations = [manifest["metadata"].get("annotations", {}) for manifest in definitions(rendered(name))]
    assert [keeping.items() & item.items() for item in annotations] == [keeping.items() if is_kept else set()] * len(
        DEFINITIONS
    )


def test_an_operator_of_some_namespaces_gets_nothing_cluster_wide() -> None:
    manifests = rendered("one-namespace-values")
    assert [item["kind"] for item in manifests if item["kind"].startswith("Cluster")] == []
    roles = {item["metadata"]["namespace"] for item in manifests if item["kind"] == "Role"}
    assert roles == {"team-a", "team-b", chart.NAMESPACE}
    arguments = container(manifests)["args"]
    assert [item for item in arguments if "--namespace" in item] == ["--namespace=team-a", "--namespace=team-b"]


def test_the_permissions_are_the_same_for_all_namespaces_and_for_one() -> None:
    [everywhere] = (
        item
        for item in rendered("default")
        if (item["kind"], item["metadata"]["name"]) == ("ClusterRole", chart.RELEASE)
    )
    roles = [item for item in rendered("one-namespace-values") if item["kind"] == "Role"]
    assert [item["rules"] for item in roles if item["metadata"]["namespace"] == "team-a"] == [everywhere["rules"]]


def container(manifests: list[Manifest]) -> dict[str, Any]:
    [found] = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_the_charts_alerts_and_dashboards_equal_those_of_the_project() -> None:
    manifests = rendered("everything-values")
    alerts = yaml.safe_load((ROOT / "deploy/monitoring/alerts.yaml").read_text())
    assert one(manifests, "PrometheusRule")["spec"] == alerts["spec"]
    shown = [json.loads(text) for text in one(manifests, "ConfigMap")["data"].values()]
    names = ("dashboard.json", "servers-dashboard.json")
    assert shown == [json.loads((ROOT / "deploy/monitoring" / name).read_text()) for name in names]


def test_the_operators_policy_admits_only_named_peers_and_the_releases_test_pod() -> None:
    manifests = rendered("everything-values")
    policy = one(manifests, "NetworkPolicy")["spec"]
    labels = one(manifests, "Deployment")["spec"]["selector"]
    assert policy["podSelector"] == labels
    [rule] = policy["ingress"]
    assert rule["ports"] == [{"port": "http"}]
    assert rule["from"] == [
        {"podSelector": labels},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
    ]
    tested = one(manifests, "Pod")["metadata"]["labels"]
    assert labels["matchLabels"].items() <= tested.items()


def servers(*options: str) -> list[Manifest]:
    """Return the rendered chart of servers."""
    return list(yaml.safe_load_all(chart.helm("template", "kimi", SERVERS_CHART, "--namespace=inference", *options)))


def test_servers_and_benchmarks_can_be_given_as_values() -> None:
    file = SERVERS_CHART / "ci/both-values.yaml"
    given = yaml.safe_load(file.read_text())
    chart.helm("lint", "--strict", "--quiet", SERVERS_CHART, f"--values={file}")
    found = {manifest["metadata"]["name"]: manifest for manifest in servers(f"--values={file}")}
    assert {name: manifest["kind"] for name, manifest in found.items()} == {
        "gate": "KimiLinearBenchmark",
        "kimi": "KimiLinearServer",
        "plain": "KimiLinearServer",
    }
    assert found["kimi"]["spec"] == given["servers"]["kimi"]["spec"]
    assert found["kimi"]["metadata"]["labels"] == {"helm.sh/chart": ANY, "team": "a", "part": "inference"}
    assert found["gate"]["metadata"]["annotations"] == {"example.com/reason": "release"}
    assert [problem for manifest in found.values() for problem in resource_types.check(manifest).errors] == []


@pytest.mark.parametrize("wrong", ["tensorParalelism=4", "tensorParallelism=3", "hardware=mi250", "engine.version=1"])
def test_helm_refuses_a_wrong_spec(wrong: str) -> None:
    with pytest.raises(LocalClusterError, match="values don't meet the specifications"):
        servers(f"--set=servers.kimi.spec.{wrong}")


@pytest.mark.parametrize("name", ["true", "on", "1"])
def test_a_name_that_yaml_reads_as_another_type_stays_a_name(name: str) -> None:
    rendered = servers(f"--set-json=servers={json.dumps({name: {'spec': {'hardware': 'mi300x'}}})}")
    assert [manifest["metadata"]["name"] for manifest in rendered] == [name]


def test_labels_and_annotations_for_all_objects_are_on_all_objects() -> None:
    for manifest in rendered("everything-values"):
        metadata = manifest["metadata"]
        assert metadata["labels"]["team"] == "platform"
        assert metadata["annotations"]["example.com/contact"] == "platform@example.com"


def test_the_deployments_selector_has_only_labels_that_never_change() -> None:
    labels = one(rendered("everything-values"), "Deployment")["spec"]["selector"]["matchLabels"]
    assert labels.keys() == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}


def test_the_image_is_named_by_digest_tag_or_version() -> None:
    given = one(rendered("everything-values"), "Deployment")
    [found] = given["spec"]["template"]["spec"]["containers"]
    assert found["image"].startswith("registry.example.com/platform/kimi-linear-operator@sha256:01234")
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert container(rendered("default"))["image"] == f"kimi-linear-operator:{about['appVersion']}"


def test_a_cluster_may_choose_the_user() -> None:
    text = chart.render(*(f"--set=podSecurityContext.{name}=null" for name in ("runAsUser", "runAsGroup")))
    pod = one(list(yaml.safe_load_all(text)), "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_all_names_begin_with_the_name_of_the_release() -> None:
    names = {manifest["metadata"]["name"] for manifest in rendered("one-namespace-values")}
    assert {name for name in names if not name.startswith("operator-of-teams")} == set()


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_an_overlay_changes_exactly_its_fields(folder: Path) -> None:
    base = {_identity(item): item for item in yaml.safe_load_all(kustomized(BASE.parent))}
    changed = {_identity(item): item for item in yaml.safe_load_all(kustomized(folder))}
    different = {key for key in base.keys() | changed.keys() if base.get(key) != changed.get(key)}
    assert {f"{kind} {name}" for kind, name in different} == {
        "one-namespace": {
            "ClusterRoleBinding kimi-linear-operator",
            "RoleBinding kimi-linear-operator",
            "Deployment kimi-linear-operator",
        },
        "monitoring": {
            "ConfigMap kimi-linear-operator-dashboard",
            "PrometheusRule kimi-linear-operator",
            "ServiceMonitor kimi-linear-operator",
        },
        "private-registry": {"Deployment kimi-linear-operator"},
    }[folder.name]


def _identity(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]
