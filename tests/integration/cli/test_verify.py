"""`kimi-linear verify NAME` as a process, with the operator. The test plays the kubelet and SGLang's client."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control_plane import LocalCluster
from integration import kubelet
from integration.client_pods import end_suite, running_pod
from integration.kubelet import HELD, held_pod
from integration.namespace import Namespace
from integration.processes_under_test import run_command, start_command
from integration.waiting import wait_for
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import JOB, Manifest

pytestmark = pytest.mark.usefixtures("operator")

_ANSWERED = {"requested": 200, "completed": 200}
_CALLED = {"requested": 20, "completed": 20}


@pytest.fixture
def served(namespace: Namespace) -> Namespace:
    """A namespace with a Ready server that has a tool-call parser. The pods of its clients wait for the test."""
    held = {"inheritedMetadata": {"annotations": {HELD: "true"}}}
    namespace.create_server("kimi", {"toolCallParser": "enabled", **held})
    kubelet.report_ready(namespace, held_pod(namespace))
    namespace.wait_until_ready("kimi")
    return namespace


@contextmanager
def verifying(
    cluster: LocalCluster, namespace: Namespace, output: Path, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    with start_command(
        cluster.kubeconfig, output, "verify", "kimi", "--namespace", namespace.name, *options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def benchmark(namespace: Namespace) -> str:
    [found] = wait_for(
        lambda: [
            item["metadata"]["name"]
            for item in namespace.client.list(BENCHMARK, namespace.name)
            if "verdict" not in item.get("status", {})
        ],
        "one benchmark that has not ended",
        lambda names: len(names) == 1,
    )
    return str(found)


def answer(namespace: Namespace, accuracy: float, calls: float) -> str:
    """Let the clients end with these shares of right answers and valid calls. Return the benchmark's name."""
    name = benchmark(namespace)
    metrics = {"accuracy": accuracy, "invalid": 0.0, "latency": 12.0, "output_throughput": 3000.0}
    end_suite(namespace, name, "accuracy", _ended(_ANSWERED, metrics))
    metrics = {"valid_tool_calls": calls, "valid_streamed_tool_calls": calls, "latency": 3.0}
    end_suite(namespace, name, "tool-calls", _ended(_CALLED, metrics))
    return name


def _ended(counts: dict[str, int], metrics: dict[str, float], message: str = "") -> str:
    outcome = "Succeeded" if metrics else "Failed"
    return json.dumps({"outcome": outcome, "message": message, **counts, "metrics": metrics})


def jobs(namespace: Namespace) -> list[Manifest]:
    return namespace.client.list(JOB, namespace.name)


def test_right_answers_exit_with_0_and_wrong_answers_with_1(
    cluster: LocalCluster, served: Namespace, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    for accuracy, calls, code, words in (
        (0.7, 1.0, 0, "Passed\n"),
        (0.3, 1.0, 1, "Failed\n  accuracy: accuracy is 0.3, min 0.6\n"),
        (0.7, 0.5, 1, "Failed\n  tool-calls: valid_tool_calls is 0.5, min 0.8\n"),
    ):
        with verifying(cluster, served, output) as process:
            name = answer(served, accuracy, calls)
            assert process.wait(timeout=60) == code
        told = output.read_text()
        assert f"\n{name}: {words}" in told
        assert f"Z {name} has not passed: " in told
        kept = served.existing(BENCHMARK, name)
        assert kept["spec"]["ttlSecondsAfterFinished"] == 3600
    # These benchmarks do not count as a verification of the server.
    assert not served.condition("kimi", "Verified")


def test_verify_without_a_result_exits_with_2_and_the_cause(
    cluster: LocalCluster, served: Namespace, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    with verifying(cluster, served, output) as process:
        name = benchmark(served)
        lacking = _ended(_ANSWERED | {"completed": 0}, {}, "The dataset is not in the pod.")
        for _ in range(2):  # spec.backoffLimit is 1.
            end_suite(served, name, "accuracy", lacking, exit_code=1)
        end_suite(served, name, "tool-calls", _ended(_CALLED | {"completed": 0}, {}, "Refused."), exit_code=1)
        end_suite(served, name, "tool-calls", _ended(_CALLED | {"completed": 0}, {}, "Refused."), exit_code=1)
        assert process.wait(timeout=60) == 2
    *_, why, step = output.read_text().splitlines()
    assert why.startswith("kimi-linear verify: no result: accuracy: The dataset is not in the pod")
    assert step.startswith("Next: Correct what the message names.")
    served.change_server("kimi", {"suspend": True})
    served.wait_for_condition("kimi", "Ready", "False", "Suspended")
    done = run_command(cluster.kubeconfig, "verify", "kimi", "--namespace", served.name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kimi-linear verify: kimi is not ready: Suspended: ")


def test_ctrl_c_deletes_the_benchmark_and_its_jobs(cluster: LocalCluster, served: Namespace, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with verifying(cluster, served, output) as process:
        name = benchmark(served)
        running_pod(served, name, "accuracy")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert output.read_text().splitlines()[-1] == f"deleted {name}"
    assert served.find(BENCHMARK, name) is None
    wait_for(lambda: jobs(served), "the benchmark's Job is gone", lambda found: not found)


def test_verify_needs_only_rights_to_read_servers_and_write_benchmarks(
    cluster: LocalCluster, served: Namespace, tmp_path: Path
) -> None:
    in_namespace = f"--namespace={served.name}"
    cluster.kubectl("create", "serviceaccount", "verifier", in_namespace)
    verbs = {"servers": "get", "benchmarks": "get,create,delete"}
    for kind, allowed in verbs.items():
        resource = f"--resource=kimilinear{kind}.kimi-linear.io"
        cluster.kubectl("create", "role", kind, in_namespace, f"--verb={allowed}", resource)
        account = f"--serviceaccount={served.name}:verifier"
        cluster.kubectl("create", "rolebinding", kind, in_namespace, f"--role={kind}", account)
    kubeconfig, output = cluster.kubeconfig_of("verifier", served.name), tmp_path / "output"
    with start_command(kubeconfig, output, "verify", "kimi", in_namespace) as process:
        answer(served, 0.7, 1.0)
        assert process.wait(timeout=60) == 0
