"""The operator's own health, readiness, metrics and log lines."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from control_plane import LocalCluster
from integration.namespace import Namespace
from integration.permissions import grant
from integration.processes_under_test import Operator, run_command
from integration.sandbox import Sandboxes
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.metadata import MANAGER

_ACCOUNT = "logging-operator"


def test_a_working_operator_is_healthy_and_ready_and_counts_its_work(operator: Operator, namespace: Namespace) -> None:
    namespace.create_server("kimi")
    namespace.wait_for_condition("kimi", "Ready", "True")
    assert operator.ask("/healthz") == (200, "ok\n")
    assert operator.ask("/readyz") == (200, "ok\n")
    ready = f'kimi_linear_server_ready{{server="kimi",server_namespace="{namespace.name}"}} 1.0'
    # The operator counts a written status only when it has the answer.
    text = wait_for(lambda: operator.ask("/metrics")[1], "the server is counted as ready", lambda text: ready in text)
    assert "\nkimi_linear_operator_leading 1.0\n" in text
    assert 'kimi_linear_operator_api_requests_total{code="201",verb="APPLY"}' in text
    assert 'kimi_linear_operator_api_requests_total{code="200",verb="WATCH"}' in text
    assert re.search(r'kimi_linear_operator_reconciles_total\{result="succeeded"\} [1-9]', text)
    assert 'reconciles_total{result="failed"}' not in text


def test_an_operator_that_cannot_read_the_cluster_is_healthy_and_not_ready(sandboxes: Sandboxes) -> None:
    with sandboxes.open() as sandbox:
        sandbox.proxy.refuse_connections()
        sandbox.operator.launch()
        assert sandbox.operator.ask("/readyz") == (503, "the operator has not read the cluster yet\n")
        assert sandbox.operator.ask("/healthz") == (200, "ok\n")
        sandbox.proxy.heal()
        wait_for(lambda: sandbox.operator.ask("/readyz")[0], "the operator is ready", lambda status: status == 200)


def test_log_lines_can_be_json_and_never_contain_the_token(
    no_operator: None, cluster: LocalCluster, namespace: Namespace, tmp_path: Path
) -> None:
    grant(namespace.client, namespace.name, _ACCOUNT)
    kubeconfig = cluster.kubeconfig_of(_ACCOUNT, "kube-system")
    token = yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"]
    own = ("--namespace", namespace.name, "--lease", f"{namespace.name}/{MANAGER}")
    with running(Operator(kubeconfig, tmp_path / "log", (*own, "--log-level=debug", "--log-format=json"))) as operator:
        namespace.create_server("kimi")
        namespace.wait_for_condition("kimi", "Ready", "True")
        # The last line may be incomplete.
        whole, _, _ = operator.told().rpartition("\n")
        lines = [json.loads(line) for line in whole.splitlines()]
    assert {line["level"] for line in lines} >= {"DEBUG", "INFO"}
    about = {"kind": "KimiLinearServer", "namespace": namespace.name, "name": "kimi"}
    assert [line["object"] for line in lines if line["message"].startswith("Created Service")] == [about]
    assert token
    assert token not in operator.log.read_text()


@contextmanager
def running(operator: Operator) -> Iterator[Operator]:
    operator.start()
    try:
        yield operator
    finally:
        operator.stop()


def test_an_address_that_is_in_use_is_named_and_gives_exit_code_2(cluster: LocalCluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_command(cluster.kubeconfig, "run", f"--listen={address}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"kimi-linear run: cannot listen on {address}: ")
    assert done.stderr.splitlines()[-1].endswith("choose another with --listen")


@pytest.mark.parametrize("option", ["--listen=8080x", "--listen=localhost", "--lease=name", "--lease=/name"])
def test_a_malformed_option_gives_exit_code_2_and_one_line(cluster: LocalCluster, option: str) -> None:
    done = run_command(cluster.kubeconfig, "run", option)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("kimi-linear run: " + option.replace("=", " ") + ": must be ")
