"""The operator and a server in real pods, from the installation to an empty cluster. The order of the tests matters."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

import chart
import images
from commands import LocalClusterError
from control_plane import SERVICE_ADDRESSES
from e2e import chat, recording
from e2e.conftest import everything
from e2e.load import steady_load
from integration.client import Client
from integration.client_pods import benchmark_manifest, left_of, wait_for_reason
from integration.kubelet import is_ready
from integration.namespace import Namespace, condition_of, temporary_namespace
from integration.waiting import wait_for
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, POD, SERVICE, Kind, Manifest
from pod_cluster import PodCluster

# Two checks before the stand-in opens its port, and one before it is healthy.
_SECONDS_TO_LOAD = 3
# The startup and readiness probes run every ten seconds.
_SECONDS_TO_SERVE = 120
# Replicas are replaced one after the other. Each needs 15 s until no more requests come, and then time for the open
# requests.
_SECONDS_TO_ROLL_OUT = 300
# The Lease of a dead operator ends after 15 s.
_SECONDS_TO_TAKE_OVER = 90
# Time for ten requests, and for a Job controller that must first try again.
_SECONDS_TO_MEASURE = 240
_PHASES = ["scheduled", "image", "weights", "loading", "compiling", "warm-up", "serving"]
_MODEL = "moonshotai/Kimi-Linear-48B-A3B-Instruct"

_NEXT_IMAGE = f"{images.OPERATOR.name.rpartition(':')[0]}:next"


@pytest.fixture
def server(recorded: str, models: Namespace) -> Manifest:
    """The sample, served by a stand-in that is Ready."""
    return models.wait_until_ready("kimi", _SECONDS_TO_SERVE)


def url_of(server: Manifest) -> str:
    return str(server["status"]["url"])


def lives(pods: list[Manifest]) -> set[tuple[str, int]]:
    """Return values that change when a pod or its container is replaced."""
    return {
        (pod["metadata"]["uid"], sum(container["restartCount"] for container in pod["status"]["containerStatuses"]))
        for pod in pods
    }


def crash(cluster: PodCluster, pod: Manifest) -> None:
    """Kill the only container of a pod, as the kernel does when memory runs out."""
    [container] = pod["status"]["containerStatuses"]
    cluster.containerd("tasks", "kill", "--signal=SIGKILL", container["containerID"].removeprefix("containerd://"))


def test_the_walkthrough_shows_the_output_of_a_terminal(recorded: str, pytestconfig: pytest.Config) -> None:
    recording.compare("stand-in", recorded, update=pytestconfig.getoption("--update-golden"))


def test_helm_installs_the_operator_where_only_restricted_pods_may_run(
    cluster: PodCluster, recorded: str, client: Client
) -> None:
    pods = client.list(POD, chart.NAMESPACE)
    assert [is_ready(pod) for pod in pods] == [True, True]
    assert {pod["spec"]["serviceAccountName"] for pod in pods} == {chart.RELEASE}
    with pytest.raises(LocalClusterError, match='violates PodSecurity "restricted'):
        cluster.kubectl("run", "not-restricted", "--image=any", f"--namespace={chart.NAMESPACE}")


def test_helm_test_finds_the_operator_ready(cluster: PodCluster, recorded: str) -> None:
    told = chart.helm("test", chart.RELEASE, *chart.of_release(cluster.kubeconfig))
    assert re.search(r"^Phase: +Succeeded$", told, re.MULTILINE)


def test_the_sample_became_ready_only_after_the_server_had_loaded(server: Manifest, models: Namespace) -> None:
    [pod] = models.pods("kimi")
    [container] = pod["status"]["containerStatuses"]
    [ready] = [condition for condition in pod["status"]["conditions"] if condition["type"] == "Ready"]
    began, served = map(
        datetime.fromisoformat, (container["state"]["running"]["startedAt"], ready["lastTransitionTime"])
    )
    assert (served - began).total_seconds() >= _SECONDS_TO_LOAD
    assert container["restartCount"] == 0


def test_the_kubelet_and_the_pods_log_show_the_phases_of_a_start(server: Manifest, models: Namespace) -> None:
    # When the server is Ready, the log is read once more.
    startup = wait_for(
        lambda: models.server("kimi")["status"]["startup"],
        "the status has all phases",
        lambda found: {phase["name"] for phase in found["phases"]} >= {*_PHASES},
    )
    # On kind, where GPUs are only a number, no pod has the preflight check.
    phases = [phase for phase in startup["phases"] if phase["name"] != "preflight"]
    assert [phase["name"] for phase in phases] == _PHASES
    times = [datetime.fromisoformat(phase["time"]) for phase in phases]
    assert times == sorted(times)
    assert (times[-1] - times[_PHASES.index("loading")]).total_seconds() >= _SECONDS_TO_LOAD - 1


def test_the_recipes_benchmark_passed_with_sglangs_own_clients(server: Manifest, models: Namespace) -> None:
    benchmark = models.existing(BENCHMARK, "kimi-recipe")
    status = benchmark["status"]
    assert status["verdict"] == "Passed"
    results = [(result["name"], result["outcome"], result["completed"]) for result in status["results"]]
    assert results == [
        ("speed-low", "Succeeded", 10),
        ("speed-medium", "Succeeded", 80),
        ("speed-high", "Succeeded", 500),
        ("gsm8k", "Succeeded", 200),
    ]
    # 141 of 200 answers are right, because the test configures the stand-in for this.
    assert status["results"][-1]["metrics"]["accuracy"] == 0.705


def low(name: str, namespace: str, **spec: Any) -> Manifest:
    """Return a benchmark of ten requests."""
    return benchmark_manifest(name, namespace, {"suites": [{"name": "speed-low"}], **spec})


def test_a_sidecar_that_keeps_running_does_not_delay_a_result(server: Manifest, models: Namespace) -> None:
    forever = ["python3", "-c", "import time; time.sleep(3600)"]
    sidecar = {"name": "goes-on", "image": server["status"]["image"], "command": forever}
    template = {"spec": {"containers": [sidecar]}}
    models.client.create(BENCHMARK, low("sidecar", models.name, serverRef={"name": "kimi"}, podTemplate=template))
    manifest = wait_for_reason(models, "sidecar", "ThresholdsMet", _SECONDS_TO_MEASURE)
    assert manifest["status"]["results"][0]["completed"] == 10
    wait_for(
        lambda: left_of(models, "sidecar"), "only the results are left", lambda left: left == {"sidecar-results"}, 90
    )


def test_a_limit_range_that_refuses_a_client_is_reported_within_a_minute(server: Manifest, client: Client) -> None:
    limits = Kind("", "v1", "LimitRange", "limitranges")
    with temporary_namespace(client) as narrow:
        metadata = {"name": "small", "namespace": narrow.name}
        spec = {"limits": [{"type": "Container", "default": {"cpu": "500m", "memory": "1Gi"}}]}
        client.create(limits, {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": spec})
        endpoint = {"url": "http://kimi.default.svc:30000"}
        client.create(BENCHMARK, low("refused", narrow.name, endpoint=endpoint))
        told = wait_for_reason(narrow, "refused", "PodCreationFailed", 75)
        assert "must be less than or equal to" in condition_of(told, "Succeeded")["message"]
        narrow.delete(limits, "small")
        wait_for_reason(narrow, "refused", "ThresholdsMet", _SECONDS_TO_MEASURE)


def test_openais_client_talks_to_the_server_through_its_service(cluster: PodCluster, server: Manifest) -> None:
    assert chat.talk(cluster, url_of(server), with_tools=True) == {
        "model": _MODEL,
        "answer": "You said: Are you there?",
        "streamed": "You said: Are you there?",
        "pieces": 5,
        "calls": [{"name": "get_weather", "arguments": '{"city": "city", "days": 1}'}],
        "finish_reason": "tool_calls",
        "after_tool": "The tool said: sunny",
    }


def test_an_update_of_two_replicas_under_load_loses_no_request(
    cluster: PodCluster, server: Manifest, models: Namespace
) -> None:
    models.change_server("kimi", {"replicas": 2})
    models.wait_until_ready("kimi", _SECONDS_TO_SERVE)
    before = lives(models.pods("kimi"))
    with steady_load(cluster, url_of(server)) as tally:
        models.change_server("kimi", {"engine": {"contextLength": 131072}})
        models.wait_until_ready("kimi", _SECONDS_TO_ROLL_OUT)
        wait_for(lambda: models.pods("kimi"), "the old pods are gone", lambda pods: len(pods) == 2, seconds=120)
    assert before.isdisjoint(lives(models.pods("kimi")))
    assert tally.failures == []
    assert tally.answered > 100


# A proxy that does not exist (RFC 5737). It is not used for addresses of Services, and the API server has such an
# address.
_BEHIND_PROXY = (
    "--set=env[0].name=HTTPS_PROXY,env[0].value=http://192.0.2.1:3128",
    f"--set=env[1].name=NO_PROXY,env[1].value={SERVICE_ADDRESSES}",
)


def test_an_upgrade_that_puts_the_operator_behind_a_proxy_restarts_no_server(
    cluster: PodCluster, server: Manifest, models: Namespace, client: Client
) -> None:
    before, operators = lives(models.pods("kimi")), lives(client.list(POD, chart.NAMESPACE))
    cluster.tag_image(images.OPERATOR.name, _NEXT_IMAGE)
    chart.install(cluster.kubeconfig, "--set=image.tag=next", "--set=log.format=json", *_BEHIND_PROXY)
    wait_for(lambda: lives(client.list(POD, chart.NAMESPACE)), "the old operators are gone", operators.isdisjoint, 90)
    models.change_server("kimi", {"replicas": 1})
    models.wait_until_ready("kimi", _SECONDS_TO_SERVE)
    kept = wait_for(lambda: lives(models.pods("kimi")), "one replica is left", lambda pods: len(pods) == 1, seconds=60)
    assert kept < before


def test_another_replica_takes_over_when_the_operator_crashes(
    cluster: PodCluster, server: Manifest, models: Namespace, client: Client
) -> None:
    lease = json.loads(
        cluster.kubectl("get", "lease", chart.RELEASE, f"--namespace={chart.NAMESPACE}", "--output=json")
    )
    leader = lease["spec"]["holderIdentity"].partition("_")[0]
    [pod] = [pod for pod in client.list(POD, chart.NAMESPACE) if pod["metadata"]["name"] == leader]
    crash(cluster, pod)
    models.delete(SERVICE, "kimi")
    wait_for(lambda: models.find(SERVICE, "kimi"), "the Service is repaired", seconds=_SECONDS_TO_TAKE_OVER)


def test_a_crashed_server_starts_again_and_its_status_says_why(
    cluster: PodCluster, server: Manifest, models: Namespace
) -> None:
    [pod] = models.pods("kimi")
    crash(cluster, pod)
    # How long the message stays depends on when the kubelet repeats its check.
    wait_for(
        lambda: models.server("kimi")["status"].get("lastFailure", {}).get("exitCode"),
        "the status has the exit code",
        lambda code: code == 137,
        _SECONDS_TO_SERVE,
    )
    models.wait_until_ready("kimi", _SECONDS_TO_SERVE)
    assert [uid for uid, _ in lives(models.pods("kimi"))] == [pod["metadata"]["uid"]]


def test_a_drained_node_is_named_as_the_cause_and_the_server_comes_back(
    cluster: PodCluster, server: Manifest, models: Namespace
) -> None:
    drain = ["drain", cluster.node_name, "--pod-selector=kimi-linear.io/server=kimi", "--delete-emptydir-data"]
    try:
        cluster.kubectl(*drain, "--timeout=60s", timeout=70)
        models.wait_for_condition("kimi", "Available", "False", "Unschedulable")
    finally:
        cluster.kubectl("uncordon", cluster.node_name)
    models.wait_until_ready("kimi", _SECONDS_TO_SERVE)


def test_children_are_deleted_with_their_server(cluster: PodCluster, server: Manifest, models: Namespace) -> None:
    cluster.kubectl("delete", "kls", "kimi")
    look: dict[str, Callable[[], object]] = {
        "Deployment": lambda: models.find(DEPLOYMENT, "kimi"),
        "Service": lambda: models.find(SERVICE, "kimi"),
        "pods": lambda: models.pods("kimi"),
    }
    for what, left in look.items():
        wait_for(left, f"the {what} of the server is gone", lambda seen: not seen, seconds=60)


def test_uninstalling_leaves_only_the_namespace_the_lease_and_the_definitions(
    cluster: PodCluster, recorded: str, before: set[str]
) -> None:
    cluster.kubectl("delete", "klb,kls", "--all")
    chart.helm("uninstall", chart.RELEASE, *chart.of_release(cluster.kubeconfig))
    kept = {
        "namespace/kimi-linear-system",
        "configmap/kube-root-ca.crt",
        "serviceaccount/default",
        # Without the chart's value crds.keep, the servers of others would be deleted, too.
        "customresourcedefinition.apiextensions.k8s.io/kimilinearbenchmarks.kimi-linear.io",
        "customresourcedefinition.apiextensions.k8s.io/kimilinearservers.kimi-linear.io",
        "customresourcedefinition.apiextensions.k8s.io/kimilinearweights.kimi-linear.io",
        # The operator itself created this Lease, and released it.
        f"lease.coordination.k8s.io/{chart.RELEASE}",
    }
    wait_for(
        lambda: sorted(everything(cluster) - before - kept),
        "everything that must go is gone",
        lambda left: not left,
        seconds=60,
    )
