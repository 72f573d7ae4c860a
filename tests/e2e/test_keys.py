"""The API key of a server in real pods: who needs it, who can see it, and when a new key takes effect."""

from collections.abc import Iterator

import pytest

import chart
from integration.client import SECRET
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.spec import SERVER
from pod_cluster import PodCluster

OLD, NEW = "sk-planted-old", "sk-planted-new"
_IMAGE = "lmsysorg/sglang:v0.5.7-rocm700-mi30x"
_SECONDS_TO_SERVE = 120
_SECONDS_TO_END = 60
# The kubelet may cache a Secret for a minute.
_SECONDS_TO_A_NEW_SECRET = 150
_SPEC = {
    "tensorParallelism": 1,
    "drain": {"timeoutSeconds": 30},
    "auth": {"apiKeySecretRef": {"name": "clients"}},
    "podTemplate": {
        "spec": {
            "containers": [
                {"name": "neighbour", "image": _IMAGE, "command": ["python3", "-c", "import time; time.sleep(1e6)"]}
            ]
        }
    },
}
# All information that a root process of another container can read about processes, as one text.
_LOOK = """
import glob
for path in [*glob.glob("/proc/[0-9]*/cmdline"), *glob.glob("/proc/[0-9]*/environ"),
             *glob.glob("/proc/[0-9]*/root/etc/kimi-linear/*")]:
    try:
        print(path, repr(open(path, "rb").read()))
    except OSError as error:
        print(path, error.strerror)
"""
# Prints the status of each path with the given key.
_ASK = """
import sys, urllib.error, urllib.request
for path in ("/health", "/metrics", "/v1/models", "/flush_cache"):
    request = urllib.request.Request("http://127.0.0.1:30000" + path, headers={{"Authorization": "Bearer {key}"}})
    try:
        print(urllib.request.urlopen(request, timeout=10).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""


@pytest.fixture(scope="module")
def keyed(cluster: PodCluster, models: Namespace) -> Iterator[Manifest]:
    """A server whose clients need a key, and a sidecar in its pod."""
    chart.install(cluster.kubeconfig)
    models.create_server("keyed", _SPEC)
    told = models.wait_for_condition("keyed", "Ready", "False", "VolumeNotMounted", seconds=120)
    assert "Secret clients with token" in told["message"]
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "clients", "namespace": models.name}}
    models.client.create(SECRET, secret | {"stringData": {"token": f"{OLD}\n"}})
    # The kubelet tries again after up to two minutes.
    yield models.wait_until_ready("keyed", _SECONDS_TO_SERVE + 120)
    models.delete(SERVER, "keyed")
    models.delete(SECRET, "clients")
    wait_for(lambda: models.pods("keyed"), "the pods are gone", lambda pods: not pods, seconds=_SECONDS_TO_END)


def python(cluster: PodCluster, models: Namespace, program: str, container: str = "sglang") -> str:
    [pod] = models.pods("keyed")
    command = ["exec", pod["metadata"]["name"], f"--container={container}", "--", "python3", "-c", program]
    return cluster.kubectl(*command).strip()


def answers(cluster: PodCluster, models: Namespace, key: str) -> list[str]:
    return python(cluster, models, _ASK.format(key=key)).split()


def test_the_server_requires_the_key_and_no_other_container_sees_it(
    cluster: PodCluster, keyed: Manifest, models: Namespace
) -> None:
    assert answers(cluster, models, OLD) == ["200"] * 4
    assert answers(cluster, models, "sk-other") == ["200", "200", "401", "401"]
    seen = python(cluster, models, _LOOK, "neighbour")
    assert "sglang.launch_server" in seen
    assert OLD not in seen
    [pod] = models.pods("keyed")
    assert OLD not in cluster.kubectl("logs", pod["metadata"]["name"], "--all-containers")
    kinds = "kls,deployments,pods,replicasets,controllerrevisions,configmaps,events"
    assert OLD not in cluster.kubectl("get", kinds, "--all-namespaces", "--output=json")
    assert OLD not in cluster.kubectl("describe", "pod", pod["metadata"]["name"])


def test_a_new_key_takes_effect_after_a_restart(cluster: PodCluster, keyed: Manifest, models: Namespace) -> None:
    models.edit(SECRET, "clients", {"stringData": {"token": NEW}})
    assert answers(cluster, models, OLD) == ["200"] * 4
    [old] = models.pods("keyed")
    cluster.kubectl("rollout", "restart", "deployment/keyed")
    wait_for(
        lambda: models.pods("keyed"),
        "another pod runs",
        lambda pods: len(pods) == 1 and pods[0]["metadata"]["uid"] != old["metadata"]["uid"],
        _SECONDS_TO_A_NEW_SECRET,
    )
    models.wait_until_ready("keyed", _SECONDS_TO_SERVE)
    assert answers(cluster, models, NEW) == ["200"] * 4
    assert answers(cluster, models, OLD) == ["200", "200", "401", "401"]
