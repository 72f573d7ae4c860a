"""The verbs that use a cluster: their exit codes and their output."""

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from control_plane import LocalCluster, free_ports
from integration import kubelet
from integration.client_pods import benchmark_manifest
from integration.kubelet import HELD_SPEC, held_pod, waiting
from integration.namespace import Namespace, Spec, server_manifest
from integration.processes_under_test import run_command, start_command
from integration.waiting import wait_for
from kimi_linear_operator.benchmark import recipe, report
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.cli import main
from kimi_linear_operator.cli.completion import resource_names
from kimi_linear_operator.kubernetes.kinds import SERVICE
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.server.spec import SERVER
from make import make_condition, make_finished_benchmark, make_result

Command = Callable[..., tuple[int, str, str]]
"""The kimi-linear command. It takes arguments, and returns the exit code, standard output and standard error."""


@pytest.fixture
def unreachable(tmp_path: Path, cluster: LocalCluster) -> Path:
    """A kubeconfig of a cluster that does not answer."""
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    [port] = free_ports(1)
    content["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture
def kimi_linear(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process, because a new process needs a second to start.

    Return the exit code and the output.
    """
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        return code, *capsys.readouterr()

    return run


@pytest.mark.usefixtures("no_operator")
def test_status_without_an_operator_exits_with_1_and_mentions_the_operator(
    namespace: Namespace, kimi_linear: Command
) -> None:
    namespace.create_server("kimi")
    code, output, _ = kimi_linear("status", "kimi", "--namespace", namespace.name)
    assert code == 1
    assert output.startswith("kimi is not ready: Pending")


@pytest.mark.usefixtures("operator")
def test_status_of_a_ready_server_exits_with_0_and_shows_its_address(
    cluster: LocalCluster, namespace: Namespace
) -> None:
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    done = run_command(cluster.kubeconfig, "status", "kimi", "--namespace", namespace.name)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("kimi is ready: AllReplicasServe")
    assert f"http://kimi.{namespace.name}.svc:30000" in done.stdout
    assert namespace.pods("kimi")[0]["metadata"]["name"] in done.stdout


@pytest.mark.usefixtures("operator")
def test_status_of_a_server_in_trouble_exits_with_1_and_the_reason(namespace: Namespace, kimi_linear: Command) -> None:
    namespace.create_server("kimi", HELD_SPEC)
    kubelet.report(namespace, held_pod(namespace), "Pending", waiting("ErrImagePull", "manifest unknown"))
    namespace.wait_for_condition("kimi", "Ready", "False", "ImagePullFailed")
    code, output, errors = kimi_linear("status", "kimi", "--namespace", namespace.name)
    assert (code, errors) == (1, "")
    assert output.startswith("kimi is not ready: ImagePullFailed")
    assert "manifest unknown" in output


@pytest.mark.usefixtures("operator")
def test_without_a_namespace_option_verbs_use_the_namespace_of_the_context(
    cluster: LocalCluster, namespace: Namespace, kimi_linear: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    create_benchmark(namespace, "good", "Passed")
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    content["contexts"][0]["context"]["namespace"] = namespace.name
    kubeconfig, server = tmp_path / "kubeconfig", tmp_path / "kimi.yaml"
    kubeconfig.write_text(yaml.safe_dump(content))
    server.write_text("{apiVersion: kimi-linear.io/v1alpha1, kind: KimiLinearServer, metadata: {name: kimi}}")
    verbs = (["status", "kimi"], ["report", "good"], ["diff", "-f", str(server)])
    assert [kimi_linear(*verb)[0] for verb in verbs] == [2, 2, 1]
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    assert [kimi_linear(*verb)[0] for verb in verbs] == [0, 0, 0]
    assert [kimi_linear(*verb, "-n", "default")[0] for verb in verbs] == [2, 2, 1]


def test_status_of_a_missing_server_exits_with_2(namespace: Namespace, kimi_linear: Command) -> None:
    code, output, errors = kimi_linear("status", "nobody", "--namespace", namespace.name)
    assert (code, output) == (2, "")
    kinds = "KimiLinearServer or KimiLinearBenchmark or KimiLinearWeights"
    assert errors.startswith(f"kimi-linear status: no {kinds} nobody in namespace {namespace.name}: `kubectl get ")


@pytest.mark.usefixtures("operator")
def test_watching_follows_a_start_until_the_server_is_ready(
    cluster: LocalCluster, namespace: Namespace, tmp_path: Path
) -> None:
    namespace.create_server("kimi", HELD_SPEC)
    pod, output = held_pod(namespace), tmp_path / "output"
    with start_command(
        cluster.kubeconfig, output, "status", "kimi", "--watch", "--namespace", namespace.name
    ) as watching:
        try:
            kubelet.report(namespace, pod, "Running", {"state": {"running": {"startedAt": "2026-11-24T09:30:00Z"}}})
            wait_for(output.read_text, "the output says that the model loads", lambda text: "ModelLoading" in text)
            kubelet.report_ready(namespace, pod)
            assert watching.wait(timeout=60) == 0
        finally:
            watching.kill()
    told = [re.sub(r"^\S+Z kimi (.*?)[:;].*", r"\1", line) for line in output.read_text().splitlines()]
    assert told[-1] == "is ready"
    assert set(told[:-1]) == {"is not ready"}


@pytest.mark.usefixtures("operator")
def test_watching_a_suspended_server_ends_with_1(namespace: Namespace, kimi_linear: Command) -> None:
    namespace.create_server("kimi", {"suspend": True})
    code, output, _ = kimi_linear("status", "kls/kimi", "--watch", "--namespace", namespace.name)
    assert (code, "kimi is not ready: Suspended" in output) == (1, True)


@pytest.mark.usefixtures("no_operator")
def test_a_shell_completes_the_names_of_existing_objects(
    cluster: LocalCluster, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace.create_server("kimi")
    create_benchmark(namespace, "nightly", "Passed")
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    options = argparse.Namespace(namespace=namespace.name)
    names = {prefix: resource_names(prefix, options) for prefix in ("", "ki", "klb/", "klb/ki")}
    assert names == {"": ["kimi", "nightly"], "ki": ["kimi"], "klb/": ["klb/nightly"], "klb/ki": []}


@pytest.mark.usefixtures("no_operator")
def test_status_of_a_benchmark_exits_with_0_if_it_has_passed(namespace: Namespace, kimi_linear: Command) -> None:
    create_benchmark(namespace, "good", "Passed")
    condition = make_condition("Succeeded", "True", "ThresholdsMet", "all thresholds are met")
    namespace.client.patch(BENCHMARK, namespace.name, "good", {"status": {"conditions": [condition]}}, "status")
    code, output, _ = kimi_linear("status", "good", "--namespace", namespace.name)
    assert (code, output.splitlines()[0]) == (0, "good has passed: ThresholdsMet")


def create_benchmark(namespace: Namespace, name: str, verdict: str) -> None:
    """Create a benchmark as if the operator had run it."""
    benchmark = make_finished_benchmark(*map(make_result, recipe.PUBLISHED), verdict=verdict)
    manifest = {key: value for key, value in benchmark.items() if key != "status"}
    namespace.client.create(BENCHMARK, manifest | {"metadata": {"name": name, "namespace": namespace.name}})
    namespace.client.patch(BENCHMARK, namespace.name, name, {"status": benchmark["status"]}, "status")


@pytest.mark.usefixtures("no_operator")
def test_report_shows_a_benchmark_and_its_exit_code_is_the_verdict(namespace: Namespace, kimi_linear: Command) -> None:
    create_benchmark(namespace, "good", "Passed")
    create_benchmark(namespace, "bad", "Failed")
    codes = {}
    for name in ("good", "bad"):
        codes[name], output, errors = kimi_linear("report", name, "--namespace", namespace.name)
        assert (output.splitlines()[0].split(":")[0], errors) == (name, "")
        assert "Output token throughput (tok/s):         176.86" in output
    assert codes == {"good": 0, "bad": 1}


@pytest.mark.usefixtures("no_operator")
def test_report_compares_two_benchmarks(namespace: Namespace, kimi_linear: Command) -> None:
    create_benchmark(namespace, "after", "Passed")
    create_benchmark(namespace, "before", "Failed")
    code, output, _ = kimi_linear("report", "after", "before", "--namespace", namespace.name, "-o", "json")
    answer = json.loads(output)
    assert (code, answer["name"], answer["reference"]["name"]) == (0, "after", "before")
    assert {row["ratio"] for suite in answer["suites"] for row in suite["metrics"] if row["reference"]} == {1.0}


def test_a_saved_benchmark_gives_the_same_report(
    cluster: LocalCluster, namespace: Namespace, kimi_linear: Command, tmp_path: Path
) -> None:
    create_benchmark(namespace, "kept", "Passed")
    saved = tmp_path / "saved.yaml"
    saved.write_text(cluster.kubectl("get", "klb", "kept", f"--namespace={namespace.name}", "--output=yaml"))
    for output in report.REPORTS:
        from_cluster = kimi_linear("report", "kept", "--namespace", namespace.name, "--output", output)
        assert kimi_linear("report", "--filename", str(saved), "--output", output) == from_cluster


def test_report_of_a_missing_benchmark_exits_with_2(namespace: Namespace, kimi_linear: Command) -> None:
    code, output, errors = kimi_linear("report", "nobody", "--namespace", namespace.name)
    assert (code, output) == (2, "")
    assert errors.startswith(f"kimi-linear report: no KimiLinearBenchmark nobody in namespace {namespace.name}: ")


@dataclass(frozen=True)
class Diff:
    """`kimi-linear diff` of a server named kimi."""

    command: Command
    namespace: Namespace
    file: Path

    def __call__(self, output: str, spec: Spec) -> tuple[int, str]:
        """Return the exit code and the output."""
        self.file.write_text(json.dumps(server_manifest("kimi", self.namespace.name, spec)))
        code, text, errors = self.command("diff", "--filename", str(self.file), "--output", output)
        assert errors == ""
        return code, text

    def changes(self, spec: Spec) -> dict[str, str]:
        """Return the action for each object. The exit code must say whether there is any action."""
        code, text = self("json", spec)
        items = json.loads(text)["items"]
        assert code == (1 if items else 0)
        return {item["object"].replace(f"/{self.namespace.name}/", "/"): item["action"] for item in items}


@pytest.fixture
def diff(kimi_linear: Command, namespace: Namespace, tmp_path: Path) -> Diff:
    return Diff(kimi_linear, namespace, tmp_path / "kimi.json")


@pytest.mark.usefixtures("operator")
def test_diff_predicts_the_operators_changes(namespace: Namespace, diff: Diff) -> None:
    spec: Spec = {"service": {"headless": True}}
    assert diff.changes(spec) == {
        "Deployment/kimi": "create",
        "Service/kimi": "create",
        "Service/kimi-headless": "create",
    }
    namespace.create_server("kimi", spec)
    namespace.wait_until_ready("kimi")
    assert diff.changes(spec) == {}
    assert diff.changes({}) == {"Service/kimi-headless": "delete"}
    assert diff.changes({"service": {"port": 8080, "headless": True}}) == {
        "Service/kimi": "change",
        "Service/kimi-headless": "change",
    }


@pytest.mark.usefixtures("no_operator")
def test_diff_shows_objects_that_the_operator_would_leave_alone(namespace: Namespace, diff: Diff) -> None:
    metadata = {"name": "kimi", "namespace": namespace.name}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}
    namespace.client.create(SERVICE, service)
    assert diff.changes({}) == {"Deployment/kimi": "create", "Service/kimi": "blocked"}
    code, text = diff("text", {})
    assert code == 1
    assert f"# Service/{namespace.name}/kimi: Service kimi exists and does not belong to this server" in text


@pytest.mark.usefixtures("operator")
def test_diff_shows_the_changed_lines_and_changes_nothing(namespace: Namespace, diff: Diff) -> None:
    namespace.create_server("kimi", {"replicas": 2})
    namespace.wait_until_ready("kimi")
    before = namespace.deployment("kimi")
    code, text = diff("text", {"replicas": 3})
    assert code == 1
    changed = [line for line in text.splitlines() if line.startswith(("-  ", "+  "))]
    assert [line for line in changed if "fingerprint" not in line] == ["-  replicas: 2", "+  replicas: 3"]
    assert namespace.deployment("kimi")["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_diff_as_a_process_exits_with_1_if_something_would_be_created(
    cluster: LocalCluster, namespace: Namespace
) -> None:
    manifest = json.dumps(server_manifest("kimi", namespace.name, {}))
    done = run_command(cluster.kubeconfig, "diff", "--filename=-", stdin=manifest)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"+++ wanted/Deployment/{namespace.name}/kimi" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["status", "kimi"], ["report", "nightly"], ["diff", "--filename=-"]], ids=" ".join
)
def test_an_unreachable_cluster_gives_exit_code_2_and_one_clear_line(unreachable: Path, arguments: list[str]) -> None:
    done = run_command(unreachable, *arguments, stdin=json.dumps(server_manifest("kimi", "default", {})))
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(f"kimi-linear {arguments[0]}: ")
    assert "https://127.0.0.1:" in line


def test_a_missing_kubeconfig_is_named_and_gives_exit_code_2(tmp_path: Path) -> None:
    done = run_command(tmp_path / "absent", "run")
    assert (done.returncode, done.stdout) == (2, "")
    assert str(tmp_path / "absent") in done.stderr
    assert done.stderr.splitlines()[-1].startswith("kimi-linear run: ")
    assert "Traceback" not in done.stderr


def test_diff_predicts_the_objects_of_a_benchmark(cluster: LocalCluster, namespace: Namespace) -> None:
    namespace.create_server("kimi")
    manifest = json.dumps(benchmark_manifest("nightly", namespace.name, {"serverRef": {"name": "kimi"}}))
    done = run_command(cluster.kubeconfig, "diff", "--filename=-", "--output=json", stdin=manifest)
    objects = [change["object"].split("/") for change in json.loads(done.stdout)["items"]]
    # A digest makes the names of Jobs different.
    assert [re.sub("-[0-9a-f]{8}$", "", name) for *_, name in objects] == [
        "nightly-runner",
        "nightly-speed-low",
        "nightly-speed-medium",
        "nightly-speed-high",
        "nightly-gsm8k",
    ]
    missing = json.dumps(benchmark_manifest("nightly", namespace.name, {"serverRef": {"name": "nobody"}}))
    done = run_command(cluster.kubeconfig, "diff", "--filename=-", stdin=missing)
    assert (done.returncode, "there is no KimiLinearServer nobody" in done.stderr) == (2, True)


def test_a_cluster_without_the_definitions_is_named_with_the_remedy(
    kimi_linear: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server does not know this version, as a cluster without the operator does not know the kinds."""
    server = TYPES[SERVER].definition.model
    monkeypatch.setattr(server, "KIND", replace(SERVER, version="v1unknown"))
    code, output, errors = kimi_linear("status", "kls/kimi")
    assert (code, output) == (2, "")
    assert "the cluster does not know the kinds of kimi-linear.io/v1alpha1: install the operator with" in errors
    assert "`kimi-linear crd | kubectl apply --server-side -f -`" in errors
