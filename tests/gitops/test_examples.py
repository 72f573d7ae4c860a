"""Argo CD, Flux and Helm read the health of our resources from their status.

Our examples for these tools have the right form.
"""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import cel
import pytest
import yaml

from binaries import binary
from chart import ROOT, render
from commands import run
from gitops.controllers import GITOPS
from kimi_linear_operator.benchmark.definition import DEFINITION as BENCHMARK_DEFINITION
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server.definition import DEFINITION as SERVER_DEFINITION
from kimi_linear_operator.weights.definition import DEFINITION as WEIGHTS_DEFINITION
from make import stored

HEALTH = sorted(GITOPS.glob("argocd/health/*/health.lua"))
GOLDEN = sorted(file.parent for file in ROOT.glob("tests/golden/*/status.yaml"))
# The answers of Argo CD and kstatus for the golden statuses that are neither healthy nor in progress.
VERDICTS = {
    "status-benchmark-passed": ("Healthy", "Current"),
    "status-benchmark-invalid": ("Degraded", "Failed"),
    "status-ready": ("Healthy", "Current"),
    "status-weights-complete": ("Healthy", "Current"),
    "status-weights-token-refused": ("Degraded", "Failed"),
    "status-inputs-unknown": ("Healthy", "Current"),
    "status-new-template": ("Healthy", "Current"),
    "status-exposed": ("Healthy", "Current"),
    "status-route-refused": ("Healthy", "Current"),
    "status-suspended": ("Healthy", "InProgress"),
    "status-keda-asleep": ("Healthy", "InProgress"),
    "status-invalid-spec-old-generation-serves": ("Degraded", "Failed"),
    "status-progress-deadline-exceeded": ("Degraded", "Failed"),
}
ON_ITS_WAY = ("Progressing", "InProgress")

pytestmark = pytest.mark.usefixtures("programs")


def ask(*arguments: str | Path, objects: list[Manifest]) -> list[Any]:
    """Return the answers of the program in tests/gitops/verdicts for these objects."""
    command = [str(word) for word in (binary("verdicts"), *arguments)]
    done = subprocess.run(command, input=json.dumps(objects), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@cache
def golden(case: Path) -> Manifest:
    [manifest] = [document for document in yaml.safe_load_all((case / "cr.yaml").read_text()) if document]
    return {**stored(manifest), "status": yaml.safe_load((case / "status.yaml").read_text())["status"]}


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    told = ask("health", *HEALTH, objects=[golden(case) for case in GOLDEN])
    return {case.name: answer for case, answer in zip(GOLDEN, told, strict=True)}


@pytest.mark.parametrize("case", [case.name for case in GOLDEN])
def test_argo_cd_and_kstatus_read_a_golden_status_rightly(answers: dict[str, Any], case: str) -> None:
    answer = answers[case]
    assert (answer["argo"]["status"], answer["kstatus"]["status"]) == VERDICTS.get(case, ON_ITS_WAY)


def test_argo_cd_shows_the_reason(answers: dict[str, Any]) -> None:
    told = {case: answer["argo"]["message"] for case, answer in answers.items()}
    assert told["status-ready"] == "AllReplicasServe: 1 of 1 replicas serve"
    assert told["status-unschedulable"].startswith("Unschedulable: 0 of ")
    assert told["status-progress-deadline-exceeded"].startswith("ProgressDeadlineExceeded: not complete after ")


def benchmark(succeeded: str, reason: str, stalled: str = "False", generation: int = 1) -> Manifest:
    """Return a benchmark with the part of its status that the health checks read."""
    conditions = [
        {"type": "Succeeded", "status": succeeded, "reason": reason, "message": "as told"},
        {"type": "Reconciling", "status": "False" if stalled == "True" or succeeded == "True" else "True"},
        {"type": "Stalled", "status": stalled, "reason": reason, "message": "as told"},
    ]
    return {
        "apiVersion": "kimi-linear.io/v1alpha1",
        "kind": "KimiLinearBenchmark",
        "metadata": {"name": "gate", "namespace": "default", "generation": 1},
        "status": {"observedGeneration": generation, "conditions": conditions},
    }


@pytest.mark.parametrize(
    ("manifest", "verdict"),
    [
        (benchmark("True", "ThresholdsMet"), ("Healthy", "Current")),
        (benchmark("False", "ThresholdMissed", stalled="True"), ("Degraded", "Failed")),
        (benchmark("Unknown", "InvalidSpec", stalled="True"), ("Degraded", "Failed")),
        (benchmark("Unknown", "Running"), ON_ITS_WAY),
        (benchmark("Unknown", "Suspended"), ("Suspended", "InProgress")),
        (benchmark("True", "ThresholdsMet", generation=0), ON_ITS_WAY),
    ],
)
def test_argo_cd_and_kstatus_read_a_benchmark_rightly(manifest: Manifest, verdict: tuple[str, str]) -> None:
    [answer] = ask("health", *HEALTH, objects=[manifest])
    assert (answer["argo"]["status"], answer["kstatus"]["status"]) == verdict


@pytest.mark.parametrize(
    "definition",
    [definition.manifest() for definition in (SERVER_DEFINITION, BENCHMARK_DEFINITION, WEIGHTS_DEFINITION)],
    ids=lambda item: item["kind"],
)
def test_an_object_without_a_status_is_in_progress(definition: Manifest) -> None:
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    metadata = {"name": "kimi", "namespace": "default", "generation": 1}
    status = schema["properties"]["status"]["default"]
    new = {"apiVersion": "kimi-linear.io/v1alpha1", "kind": definition["spec"]["names"]["kind"], "metadata": metadata}
    for manifest in (new | {"status": status}, new):
        [answer] = ask("health", *HEALTH, objects=[manifest])
        assert answer["argo"]["status"] == "Progressing"
    [answer] = ask("health", *HEALTH, objects=[new | {"status": status}])
    assert answer["kstatus"]["status"] == "InProgress"


def documents(*files: Path) -> list[Manifest]:
    return [document for file in files for document in yaml.safe_load_all(file.read_text()) if document]


def examples_for_flux() -> dict[str, Manifest]:
    """Return the objects that only Flux knows, by their kinds. A namespace is one of them."""
    found = documents(*sorted((GITOPS / "flux").glob("*.yaml")))
    return {example["kind"]: example for example in found if ".fluxcd.io/" in example["apiVersion"]}


def test_the_examples_for_flux_match_its_types() -> None:
    examples = examples_for_flux()
    assert examples.keys() == {"GitRepository", "HelmRelease", "Kustomization"}
    assert ask("decode", objects=list(examples.values())) == [""] * len(examples)


def test_flux_types_refuse_a_misspelt_field() -> None:
    example = examples_for_flux()["Kustomization"]
    example["spec"]["healthcheck"] = []
    [told] = ask("decode", objects=[example])
    assert "healthcheck" in told


def test_the_charts_monitoring_objects_match_the_prometheus_operators_types() -> None:
    values = f"--values={ROOT / 'charts/kimi-linear-operator/ci/everything-values.yaml'}"
    manifests = list(yaml.safe_load_all(render(values)))
    foreign = [manifest for manifest in manifests if manifest["apiVersion"].startswith("monitoring.coreos.com/")]
    foreign += documents(ROOT / "deploy/monitoring/servicemonitor.yaml", ROOT / "deploy/monitoring/alerts.yaml")
    assert ask("decode", objects=foreign) == [""] * 4


def test_a_watched_servers_monitoring_objects_match_the_prometheus_operators_types() -> None:
    built = documents(ROOT / "tests/golden/watched/objects.yaml")
    foreign = [manifest for manifest in built if manifest["apiVersion"].startswith("monitoring.coreos.com/")]
    assert [manifest["kind"] for manifest in foreign] == ["PodMonitor", "PrometheusRule"]
    assert ask("decode", objects=foreign) == ["", ""]


def test_health_checks_of_flux_and_argo_cd_agree_on_every_golden_status() -> None:
    example = examples_for_flux()["Kustomization"]
    [check] = example["spec"]["healthCheckExprs"]
    verdicts = {}
    for case in GOLDEN:
        manifest = golden(case)
        if manifest["kind"] == check["kind"]:
            verdicts[case.name] = [name for name in ("current", "failed") if cel.evaluate(check[name], dict(manifest))]
    expected = {"Healthy": ["current"], "Degraded": ["failed"], "Progressing": []}
    assert verdicts == {name: expected[VERDICTS.get(name, ON_ITS_WAY)[0]] for name in verdicts}


def test_the_chart_accepts_the_values_of_the_example_for_flux() -> None:
    release = examples_for_flux()["HelmRelease"]
    assert (ROOT / release["spec"]["chart"]["spec"]["chart"] / "Chart.yaml").exists()
    render(*(f"--set-json={key}={json.dumps(value)}" for key, value in release["spec"]["values"].items()))


def test_the_folder_of_servers_is_valid() -> None:
    text = run([binary("kubectl"), "kustomize", GITOPS / "servers"])
    manifests = list(yaml.safe_load_all(text))
    assert {manifest["kind"] for manifest in manifests} == {"KimiLinearServer", "KimiLinearBenchmark"}
    assert [problem for manifest in manifests for problem in check(manifest).problems] == []
