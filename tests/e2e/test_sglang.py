"""SGLang itself in a pod on a CPU, from Ready to its deletion. The order of the tests matters.

`sglang.yaml` has the fields that a CPU and a tiny model need. The packages are on a volume of the node, as weights can
be.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import chart
import images
from cpu_engine import environment
from e2e import chat, recording
from e2e.containers import python, restarts
from e2e.load import Load, steady_load
from integration.kubelet import is_ready
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, SERVICE, Manifest
from kimi_linear_operator.server import deployment
from kimi_linear_operator.server.spec import KimiLinearServer
from kind import replaces_real_node
from pod_cluster import PodCluster
from real_node import RealCluster

_SPEC = yaml.safe_load(Path(__file__).with_name("sglang.yaml").read_text())
_MODEL = "moonshotai/Kimi-Linear-48B-A3B-Instruct"
# On two processors, it needs a minute to become ready, and several minutes if they are busy.
_SECONDS_TO_SERVE = 600
# The old pod gets 15 s until no more requests come.
_SECONDS_TO_ROLL_OUT = 900
# Two failed readiness probes. Each answer comes after 20 s.
_SECONDS_TO_NOTICE = 120
_SECONDS_TO_END = 90
_LOAD = Load(users=3, shortest=10, longest=40, tokens=16)
_LIVENESS = {"failureThreshold": 2}

_KILL_SCHEDULER = """
import os, signal
from pathlib import Path
for process in Path("/proc").glob("[0-9]*"):
    if (process / "comm").read_text().startswith("sglang::schedul"):
        os.kill(int(process.name), signal.SIGKILL)
        print("killed")
"""


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodCluster]:
    """A real node with an image for SGLang, whose packages are in this machine's cache."""
    if replaces_real_node():
        pytest.skip("the packages are on this machine, and the nodes of kind do not see it")
    if reason := environment.obstacle():
        pytest.skip(reason)
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the packages are for this machine's Python, and the image has Debian's, 3.11")
    request.getfixturevalue("real_node_possible")
    packages = environment.environment("0.5.7")
    packages.ensure_made()
    with RealCluster(tmp_path_factory.mktemp("sglang"), bound_to_us=True) as started:
        started.load_images(images.SGLANG_ON_A_CPU)
        started.kubectl.apply(volume_of(packages.packages))
        chart.install(started.kubeconfig)
        yield started


def volume_of(packages: Path) -> list[Manifest]:
    """Return a volume with a folder of the node, and the claim by which pods mount it."""
    name = "sglang-packages"
    common = {"storageClassName": "", "accessModes": ["ReadOnlyMany"]}
    volume = {**common, "capacity": {"storage": "3Gi"}, "hostPath": {"path": str(packages), "type": "Directory"}}
    claim = {**common, "volumeName": name, "resources": {"requests": {"storage": "3Gi"}}}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "default"},
            "spec": claim,
        },
    ]


@pytest.fixture(scope="module")
def recorded(cluster: PodCluster) -> str:
    """The terminal's output for the walkthrough's commands: SGLang answers, and passes a benchmark."""
    return recording.record(cluster, "sglang")


@pytest.fixture
def server(recorded: str, models: Namespace) -> Manifest:
    """SGLang, Ready."""
    return models.wait_until_ready("kimi", _SECONDS_TO_SERVE)


def test_the_walkthrough_shows_the_output_of_a_terminal(recorded: str, pytestconfig: pytest.Config) -> None:
    recording.compare("sglang", recorded, update=pytestconfig.getoption("--update-golden"))


def test_the_pod_on_a_cpu_differs_only_by_the_additions_of_its_spec() -> None:
    added = _SPEC["spec"]["podTemplate"]["spec"]
    extra = _SPEC["spec"]["engine"]["extraArgs"]
    image = {"image": _SPEC["spec"]["engine"]["image"]}
    live, wanted = _pod(_SPEC["spec"]), _pod(_SPEC["spec"] | {"engine": image, "podTemplate": {}})
    [engine], [container] = live["containers"], wanted["containers"]
    engine["args"] = [word for word in engine["args"] if word not in extra]
    for name in ("env", "volumeMounts"):
        container[name] += added["containers"][0][name]
    wanted["volumes"] += added["volumes"]
    assert live == wanted


def _pod(spec: Manifest) -> Manifest:
    pod: Manifest = deployment.build_pod_template(KimiLinearServer.model_validate(_SPEC | {"spec": spec}))["spec"]
    return pod


def test_the_server_became_ready_without_a_restart_and_sglang_is_not_process_1(
    cluster: PodCluster, server: Manifest, models: Namespace
) -> None:
    [pod] = models.pods("kimi")
    assert restarts(pod) == 0
    words = python(cluster, pod, "print(open('/proc/1/cmdline').read().split(chr(0))[0])")
    assert words == "/pause"


def test_openais_client_talks_to_the_server_through_its_service(cluster: PodCluster, server: Manifest) -> None:
    told = chat.talk(cluster, str(server["status"]["url"]), with_tools=False)
    assert told["model"] == _MODEL
    assert told["answer"]
    assert told["streamed"]
    assert told["pieces"] > 1


def test_sglangs_clients_measured_the_server_to_a_verdict(server: Manifest, models: Namespace) -> None:
    status = models.existing(BENCHMARK, "tiny")["status"]
    assert status["verdict"] == "Passed"
    results = [(result["name"], result["outcome"], result["completed"]) for result in status["results"]]
    assert results == [("speed", "Succeeded", 8), ("questions", "Succeeded", 8)]


def test_an_update_under_load_loses_no_request(cluster: PodCluster, server: Manifest, models: Namespace) -> None:
    [before] = models.pods("kimi")
    [container] = server["spec"]["podTemplate"]["spec"]["containers"]
    changed = {**container, "livenessProbe": _LIVENESS}
    with steady_load(cluster, str(server["status"]["url"]), _LOAD) as tally:
        models.change_server("kimi", {"podTemplate": {"spec": {"containers": [changed]}}})
        models.wait_until_ready("kimi", _SECONDS_TO_ROLL_OUT)
        uid = before["metadata"]["uid"]
        pods = wait_for(
            lambda: models.pods("kimi"), "the old pod is gone", lambda pods: len(pods) == 1, _SECONDS_TO_END
        )
    assert pods[0]["metadata"]["uid"] != uid
    assert tally.failures == []
    assert tally.answered > 20


def test_a_killed_scheduler_is_noticed_and_the_container_starts_again(
    cluster: PodCluster, server: Manifest, models: Namespace
) -> None:
    [pod] = models.pods("kimi")
    assert python(cluster, pod, _KILL_SCHEDULER) == "killed"
    models.wait_for_condition("kimi", "Available", "False", "NotResponding", seconds=_SECONDS_TO_NOTICE)
    wait_for(
        lambda: models.pods("kimi"),
        "the container serves again",
        lambda pods: restarts(pods[0]) == 1 and is_ready(pods[0]),
        _SECONDS_TO_SERVE,
    )
    assert models.pods("kimi")[0]["metadata"]["uid"] == pod["metadata"]["uid"]
    models.wait_until_ready("kimi", _SECONDS_TO_SERVE)


def test_the_pod_is_deleted_with_its_server(cluster: PodCluster, server: Manifest, models: Namespace) -> None:
    cluster.kubectl("delete", "kls", "kimi")
    wait_for(lambda: models.pods("kimi"), "the pod is gone", lambda pods: not pods, seconds=_SECONDS_TO_END)
    assert models.find(DEPLOYMENT, "kimi") is None
    assert models.find(SERVICE, "kimi") is None
