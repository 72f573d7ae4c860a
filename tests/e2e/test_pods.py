"""The pods of a server on a real kubelet: what survives a restart, the order of a stop, and the addresses."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import chart
from commands import LocalClusterError
from e2e.containers import python, restarts
from e2e.gpus import DevicePlugin, gpus_of
from e2e.load import steady_load
from integration.client import QUOTA, Client
from integration.kubelet import is_ready
from integration.namespace import Namespace, condition_of
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, POD, Manifest
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.server.spec import SERVER
from pod_cluster import PodCluster
from real_node import RealCluster

_SECONDS_TO_SERVE = 120
_SECONDS_TO_START_AGAIN = 60
# 15 s until no more requests come, and some seconds for the end of the stand-in.
_SECONDS_TO_END = 60
_SECONDS_TO_A_SUCCESSOR = 10
# The control plane waits 50 s for the node's answer. The rest of the time is for a busy machine.
_SECONDS_TO_LOSE_A_NODE = 120
# Sends one request to the engine, and prints the status, or that there was no answer.
_ASK = """
import urllib.request
body = b'{"text": "x", "sampling_params": {"max_new_tokens": 1}}'
request = urllib.request.Request("http://127.0.0.1:30000/generate", body, {"Content-Type": "application/json"})
try:
    print(urllib.request.urlopen(request, timeout=2).status)
except TimeoutError:
    print("timed out")
"""
_SPEC = {"tensorParallelism": 1, "drain": {"timeoutSeconds": 30}}


@pytest.fixture(scope="module")
def installed(cluster: PodCluster) -> None:
    """The operator, installed as by users."""
    chart.install(cluster.kubeconfig)


@pytest.fixture
def server(installed: None, models: Namespace) -> Iterator[Manifest]:
    models.create_server("pods", _SPEC)
    yield models.wait_until_ready("pods", _SECONDS_TO_SERVE)
    models.delete(SERVER, "pods")
    wait_for(lambda: models.pods("pods"), "the pods are gone", lambda pods: not pods, seconds=_SECONDS_TO_END)


def test_a_restarted_container_finds_its_shared_memory_empty(
    cluster: PodCluster, server: Manifest, models: Namespace
) -> None:
    [pod] = models.pods("pods")
    left = "[open(f'/dev/shm/{name}', 'w').write('x' * 1000) for name in ('nccl-1', '.hidden')]"
    python(cluster, pod, left)
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    cluster.containerd("tasks", "kill", "--signal=SIGKILL", container)
    wait_for(
        lambda: models.pods("pods"),
        "the container runs again",
        lambda pods: restarts(pods[0]) == 1 and is_ready(pods[0]),
        _SECONDS_TO_START_AGAIN,
    )
    [again] = models.pods("pods")
    assert again["metadata"]["uid"] == pod["metadata"]["uid"]
    assert python(cluster, again, "import os; print(os.listdir('/dev/shm'))") == "[]"


def test_a_server_listens_on_every_address_of_both_families(
    cluster: PodCluster, server: Manifest, models: Namespace
) -> None:
    [pod] = models.pods("pods")
    ask = "import socket; [socket.create_connection((host, 30000), 5) for host in ('127.0.0.1', '::1')]; print('both')"
    assert python(cluster, pod, ask) == "both"


def test_a_dead_engine_leaves_its_service_within_a_minute(
    cluster: PodCluster, installed: None, models: Namespace
) -> None:
    dies = {"containers": [{"name": "sglang", "env": [{"name": "STAND_IN_HANG_AFTER", "value": "1"}]}]}
    models.create_server("dead", {**_SPEC, "podTemplate": {"spec": dies}})
    models.wait_until_ready("dead", _SECONDS_TO_SERVE)
    [pod] = models.pods("dead")
    assert python(cluster, pod, _ASK) == "200"
    assert python(cluster, pod, _ASK) == "timed out"
    models.wait_for_condition("dead", "Available", "False", "NotResponding", seconds=60)
    models.delete(SERVER, "dead")
    # The kubelet knows that the engine is dead. So the pod ends at once, although a request is open.
    wait_for(lambda: models.pods("dead"), "the pod is gone", lambda pods: not pods, seconds=_SECONDS_TO_END)


def test_a_successor_starts_after_the_old_pod_if_a_gpu_quota_is_exactly_full(
    cluster: PodCluster, server: Manifest, models: Namespace
) -> None:
    models.set_quota("gpus", {"requests.amd.com/gpu": "1"})
    try:
        [old] = models.pods("pods")
        models.change_server("pods", {"engine": {"contextLength": 131072}})
        ready = models.wait_for_condition("pods", "Ready", "False", "OldPodTerminating")
        assert old["metadata"]["name"] in ready["message"]
        uid = old["metadata"]["uid"]
        wait_for(lambda: models.pods("pods"), "the old pod is gone", lambda pods: uid not in _uids(pods), 60)
        wait_for(lambda: models.pods("pods"), "the successor is there", seconds=_SECONDS_TO_A_SUCCESSOR)
        models.wait_until_ready("pods", _SECONDS_TO_SERVE)
    finally:
        models.delete(QUOTA, "gpus")


def _uids(pods: list[Manifest]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


def test_a_drain_without_room_for_successors_leaves_one_replica_serving(
    cluster: PodCluster, server: Manifest, models: Namespace, client: Client
) -> None:
    models.change_server("pods", {"replicas": 2})
    models.wait_until_ready("pods", _SECONDS_TO_SERVE)
    drain = ["drain", cluster.node_name, "--pod-selector=kimi-linear.io/server=pods", "--delete-emptydir-data"]
    try:
        with pytest.raises(LocalClusterError, match=r"disruption budget|global timeout"):
            cluster.kubectl(*drain, "--timeout=40s", timeout=60)
        assert models.existing(DEPLOYMENT, "pods")["status"]["availableReplicas"] == 1
        assert models.condition("pods", "Available")["status"] == "True"
    finally:
        cluster.kubectl("uncordon", cluster.node_name)
    models.wait_until_ready("pods", _SECONDS_TO_SERVE)


def test_a_server_requests_itself_without_the_proxy_of_its_environment(
    cluster: PodCluster, installed: None, models: Namespace
) -> None:
    dead = [{"name": name, "value": "http://127.0.0.1:9"} for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY")]
    company = {"name": "NO_PROXY", "value": ".example.com"}
    with _server_of(models, "proxied", {"containers": [{"name": "sglang", "env": [*dead, company]}]}):
        models.wait_until_ready("proxied", _SECONDS_TO_SERVE)
        [pod] = models.pods("proxied")
        environment = python(cluster, pod, "import os; print(os.environ['HTTP_PROXY'], os.environ['NO_PROXY'])")
        assert environment.startswith("http://127.0.0.1:9 ")
        assert ".example.com" in environment


def test_a_missing_volume_is_named_until_it_is_mounted(cluster: PodCluster, installed: None, models: Namespace) -> None:
    volume = {"name": "certificates", "secret": {"secretName": "company-certificates"}}
    mount = {"name": "certificates", "mountPath": "/certificates"}
    with _server_of(
        models, "unmounted", {"volumes": [volume], "containers": [{"name": "sglang", "volumeMounts": [mount]}]}
    ):
        told = models.wait_for_condition("unmounted", "Ready", "False", "VolumeNotMounted", seconds=90)
        assert "Secret company-certificates" in told["message"]
        cluster.kubectl("create", "secret", "generic", "company-certificates", "--from-literal=ca=x")
        # The kubelet tries again after up to two minutes.
        models.wait_until_ready("unmounted", _SECONDS_TO_SERVE + 120)
        cluster.kubectl("delete", "secret", "company-certificates")


def test_a_node_that_does_not_answer_is_named_until_it_answers(
    cluster: PodCluster, server: Manifest, models: Namespace
) -> None:
    cluster.signal_kubelet("STOP")
    try:
        told = models.wait_for_condition("pods", "Ready", "False", "NodeLost", seconds=_SECONDS_TO_LOSE_A_NODE)
        assert f"its node {cluster.node_name} does not answer" in told["message"]
    finally:
        cluster.signal_kubelet("CONT")
    models.wait_until_ready("pods", _SECONDS_TO_SERVE)


@pytest.fixture
def plugin(cluster: PodCluster, installed: None) -> DevicePlugin:
    if not isinstance(cluster, RealCluster):
        pytest.skip("on kind, GPUs are a number: no device plugin runs")
    return DevicePlugin(cluster)


def test_two_replicas_on_a_node_of_eight_gpus_have_four_different_gpus_each(
    plugin: DevicePlugin, models: Namespace
) -> None:
    with _server_of(models, "halves", tensorParallelism=4, replicas=2):
        models.wait_until_ready("halves", _SECONDS_TO_SERVE)
        first, second = (gpus_of(plugin.cluster, pod) for pod in models.pods("halves"))
        assert (len(first), len(second)) == (4, 4)
        assert first | second == set(range(8))


def test_the_preflight_check_opens_exactly_the_gpus_of_the_engine(plugin: DevicePlugin, models: Namespace) -> None:
    with _server_of(models, "checked", tensorParallelism=4):
        models.wait_until_ready("checked", _SECONDS_TO_SERVE)
        [pod] = models.pods("checked")
        log = plugin.cluster.kubectl("logs", pod["metadata"]["name"], "--container=preflight")
        assert log.startswith("driver: ok: kfd\ngpus: ok: ")
        opened = {int(number) - 128 for number in re.findall(r"dri/renderD(\d+)", log)}
        assert opened == gpus_of(plugin.cluster, pod)
        # This node has no GPU behind its devices, and its image brings the weights.
        assert "architecture: not checked: " in log
        assert "disk: not checked: " in log
        [check] = pod["status"]["initContainerStatuses"]
        ended = check["state"]["terminated"]
        assert (check["restartCount"], ended["exitCode"]) == (0, 0)
        # Whole seconds.
        assert (seconds_between(ended["startedAt"], ended["finishedAt"]) or 0) <= 2


def test_a_pod_that_does_not_fit_is_reported_and_loads_after_a_correction(
    plugin: DevicePlugin, models: Namespace
) -> None:
    small = {"volumes": [{"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}]}
    with _server_of(models, "unfit", small, tensorParallelism=4):
        told = models.wait_for_condition("unfit", "Ready", "False", "PreflightFailed", seconds=30)
        assert f"on node {plugin.cluster.node_name}: shared memory has only 64 MiB or less" in told["message"]
        models.change_server("unfit", {"preflight": "disabled"})
        models.wait_until_ready("unfit", _SECONDS_TO_SERVE)


def test_a_restarted_device_plugin_disturbs_no_server_and_serves_the_next_replica(
    plugin: DevicePlugin, server: Manifest, models: Namespace
) -> None:
    [before] = models.pods("pods")
    gpu = gpus_of(plugin.cluster, before)
    plugin.restart()
    assert models.condition("pods", "Ready") == condition_of(server, "Ready")
    models.change_server("pods", {"replicas": 2})
    models.wait_until_ready("pods", _SECONDS_TO_SERVE)
    pods = {pod["metadata"]["uid"]: pod for pod in models.pods("pods")}
    after = pods.pop(before["metadata"]["uid"])
    [other] = pods.values()
    assert (restarts(after), gpus_of(plugin.cluster, after)) == (0, gpu)
    assert gpus_of(plugin.cluster, other).isdisjoint(gpu)


def test_a_server_waits_for_a_late_device_plugin_and_names_the_missing_gpus(
    plugin: DevicePlugin, models: Namespace
) -> None:
    with _server_of(models, "early", suspend=True):
        with plugin.missing():
            models.change_server("early", {"suspend": False})
            told = models.wait_for_condition("early", "Ready", "False", "Unschedulable")
            assert "1 Insufficient amd.com/gpu" in told["message"]
            assert "a replica needs 1 free amd.com/gpu on one node whose GPUs are all mi300x" in told["message"]
        models.wait_until_ready("early", _SECONDS_TO_SERVE)


def test_a_server_that_fails_with_a_lost_gpu_names_it_and_gets_another(plugin: DevicePlugin, models: Namespace) -> None:
    fails = {"containers": [{"name": "sglang", "env": [{"name": "STAND_IN_HANG_AFTER", "value": "1"}]}]}
    with _server_of(models, "lost", fails):
        models.wait_until_ready("lost", _SECONDS_TO_SERVE)
        [pod] = models.pods("lost")
        gpus = gpus_of(plugin.cluster, pod)
        identity = plugin.lose(*gpus)
        assert models.condition("lost", "Ready")["status"] == "True"
        assert [python(plugin.cluster, pod, _ASK) for _ in range(2)] == ["200", "timed out"]
        told = wait_for(
            lambda: models.condition("lost", "Ready"),
            "the lost GPU is named",
            lambda ready: f"unhealthy: amd.com/gpu {identity}: " in ready["message"],
            seconds=60,
        )
        assert told["reason"] == "NotResponding"
        models.delete(POD, pod["metadata"]["name"])
        wait_for(
            lambda: models.pods("lost"),
            "the next pod serves",
            lambda pods: pod["metadata"]["uid"] not in _uids(pods) and all(map(is_ready, pods)),
            _SECONDS_TO_SERVE + _SECONDS_TO_END,
        )
        assert gpus_of(plugin.cluster, models.pods("lost")[0]).isdisjoint(gpus)
        plugin.restart()


_VERIFICATION = {"mode": "Block", "onFailure": "Rollback", "numQuestions": 50}
# A benchmark of two suites, each in a pod of its own.
_SECONDS_TO_VERIFY = 180


def test_replicas_serve_after_right_answers_and_wrong_answers_reach_no_client(
    cluster: PodCluster, installed: None, models: Namespace
) -> None:
    asked: dict[str, Any] = {"toolCallParser": "enabled", "verification": _VERIFICATION, "replicas": 2}
    with _server_of(models, "asked", **asked):
        models.wait_until_ready("asked", _SECONDS_TO_SERVE + _SECONDS_TO_VERIFY)
        verified = models.wait_for_condition("asked", "Verified", "True", "Verified")
        assert "All 2 suites are valid" in verified["message"]
        good = _templates(models)
        with steady_load(cluster, str(models.server("asked")["status"]["url"])) as tally:
            models.change_server("asked", {"podTemplate": {"spec": _env("STAND_IN_MANGLE_EVERY", "1")}})
            models.wait_for_condition("asked", "TemplateCurrent", "False", "RolledBack", _SECONDS_TO_VERIFY)
            models.wait_for_condition("asked", "Ready", "True", seconds=_SECONDS_TO_SERVE + _SECONDS_TO_END)
        assert tally.failures == []
        assert tally.answered > 50
        failed = models.condition("asked", "Verified")
        assert (failed["status"], failed["reason"]) == ("False", "VerificationFailed")
        assert "valid_tool_calls is 0, min 0.8" in failed["message"]
        # A pod with the failed template may still end.
        wait_for(lambda: _templates(models), "all pods have the good template", lambda labels: labels == good, 90)


def test_mode_block_keeps_wrong_answers_from_clients_and_mode_warn_only_reports_them(
    cluster: PodCluster, installed: None, models: Namespace
) -> None:
    block = {"mode": "Block", "numQuestions": 50}
    with _server_of(models, "doubted", _env("STAND_IN_ACCURACY", "0"), verification=block):
        failed = models.wait_for_condition(
            "doubted", "Ready", "False", "VerificationFailed", _SECONDS_TO_SERVE + _SECONDS_TO_VERIFY
        )
        assert "accuracy is 0, min 0.6" in failed["message"]
        assert _ready_endpoints(cluster, "doubted") == []
        models.change_server("doubted", {"verification": {"mode": "Warn"}})
        models.wait_for_condition("doubted", "Ready", "True", seconds=_SECONDS_TO_SERVE)
        models.wait_for_condition("doubted", "Verified", "False", "VerificationFailed", _SECONDS_TO_VERIFY)
        assert len(_ready_endpoints(cluster, "doubted")) == 1


def test_a_verification_without_questions_is_unknown_with_the_cause(
    cluster: PodCluster, installed: None, models: Namespace
) -> None:
    cluster.kubectl("create", "configmap", "no-questions", "--from-literal=test.jsonl=", "--namespace=default")
    dataset = {"configMap": "no-questions", "path": "test.jsonl"}
    with _server_of(models, "unasked", verification={"mode": "Block", "numQuestions": 50, "dataset": dataset}):
        unknown = models.wait_for_condition(
            "unasked", "Verified", "Unknown", "VerificationImpossible", _SECONDS_TO_SERVE + _SECONDS_TO_VERIFY
        )
        assert "accuracy" in unknown["message"]
        assert _ready_endpoints(cluster, "unasked") == []


def _ready_endpoints(cluster: PodCluster, server: str) -> list[str]:
    """Return the addresses to which the Service of a server sends requests."""
    selector = f"kubernetes.io/service-name={server}"
    ready = "{.items[*].endpoints[?(@.conditions.ready==true)].addresses[0]}"
    found = cluster.kubectl("get", "endpointslices", f"--selector={selector}", f"--output=jsonpath={ready}")
    return found.split()


def _templates(models: Namespace) -> set[str]:
    return {pod["metadata"]["labels"]["kimi-linear.io/template"] for pod in models.pods("asked")}


def _env(name: str, value: str) -> Manifest:
    return {"containers": [{"name": "sglang", "env": [{"name": name, "value": value}]}]}


@contextmanager
def _server_of(models: Namespace, name: str, pod: Manifest | None = None, **spec: Any) -> Iterator[None]:
    """A server with additional fields of the pod and of the spec, until the end of the block."""
    models.create_server(name, {**_SPEC, **({"podTemplate": {"spec": pod}} if pod else {}), **spec})
    try:
        yield
    finally:
        models.delete(SERVER, name)
        wait_for(lambda: models.pods(name), "the pods are gone", lambda pods: not pods, seconds=_SECONDS_TO_END)
