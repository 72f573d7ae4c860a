"""KEDA scales servers, also to zero replicas and back.

KEDA, Prometheus, SGLang's router and Kubernetes' autoscaler are real. Stand-ins take the place of SGLang.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from binaries import KEDA_PROGRAMS
from built import skip_unless_built
from control_plane import LocalCluster
from integration.audit import AuditLog
from integration.client import Client
from integration.keda import running_keda
from integration.kubelet import HELD_SPEC, held_pod, report_ready
from integration.metrics import PROMETHEUS, Prometheus, ServingPods, load, wait_for_pods
from integration.namespace import Namespace, Spec, condition_of
from integration.processes_under_test import OTHER_VERSION, USER
from integration.sandbox import Sandboxes
from integration.versions import create_servers, go_on_as, has_other_pods
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import AUTOSCALER, DEPLOYMENT, POD, SCALED_OBJECT, Kind
from kimi_linear_operator.server.spec import SERVER
from router.processes import RELEASES, Router, free_port, question

pytestmark = pytest.mark.usefixtures("operator")

# KEDA looks every 2 s in the test of sleep, and Kubernetes' autoscaler in all tests.
_SECONDS_TO_SCALE = 90
# Two replicas are added, one after the other.
_SECONDS_TO_SCALE_TO_THREE = 150
# A request keeps the server awake for two minutes, and `idleSeconds` longer.
_SECONDS_TO_SLEEP = 240
_SECONDS_AT_REST = 30
_SECONDS_TO_SWITCH = 60
# What the operator and the autoscalers write.
_WRITTEN = (SERVER, SCALED_OBJECT, DEPLOYMENT)
TARGET = {"queuedRequests": 2, "runningRequests": 2}
KEDAS = (AUTOSCALER, "keda-hpa-kimi")


@pytest.fixture(scope="module")
def prometheus(cluster: LocalCluster, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    skip_unless_built(KEDA_PROGRAMS, [] if PROMETHEUS.exists() else ["prometheus"])
    with running_keda(cluster, client, tmp_path_factory.mktemp("keda")) as started:
        yield started


def scaled_by_keda(prometheus: Prometheus, fewest: int) -> Spec:
    return {
        **HELD_SPEC,
        "tensorParallelism": 1,
        "drain": {"timeoutSeconds": 0},
        "router": {"replicas": 1},
        "autoscaling": {
            "minReplicas": fewest,
            "maxReplicas": 3,
            "target": TARGET,
            "scaleUp": {"stabilizationSeconds": 5},
            "scaleDown": {"stabilizationSeconds": 10},
            "keda": {"prometheusAddress": prometheus.url, "idleSeconds": 10},
        },
    }


def wait_for_sleep(namespace: Namespace, pods: ServingPods) -> None:
    wait_for_pods(pods, 0, _SECONDS_TO_SLEEP)
    assert namespace.replicas("kimi") == 0
    namespace.wait_for_condition("kimi", "Autoscaling", "True", "ScaledToZero")
    namespace.wait_for_condition("kimi", "Ready", "False", "ScaledToZero")


def wait_for_service(namespace: Namespace, *, takes_unready: bool) -> None:
    """Wait until the Service leads to the router, and takes pods of the router that are not ready only if it must."""
    wait_for(
        lambda: namespace.service("kimi")["spec"],
        "the Service leads to the router",
        lambda seen: (
            (seen["selector"], seen.get("publishNotReadyAddresses", False))
            == ({"kimi-linear.io/router": "kimi"}, takes_unready)
        ),
    )


@contextmanager
def router_without_replicas(namespace: Namespace, pods: ServingPods, folder: Path) -> Iterator[Router]:
    """Run the router of the server's one router pod, and let Prometheus scrape it. DNS has no replica for it."""
    [pod] = wait_for(
        lambda: namespace.client.list(POD, namespace.name, {"labelSelector": "kimi-linear.io/router=kimi"}),
        "the router has a pod",
        lambda found: len(found) == 1,
    )
    router = Router(RELEASES[-1], folder, free_port())
    router.publish([])
    router.start()
    try:
        wait_for(lambda: router.ask("/liveness", key=None)[0], "the router answers", lambda status: status == 200)
        pods.scrape_also(pod["metadata"]["name"], f"127.0.0.1:{router.metrics_port}")
        yield router
    finally:
        router.process.kill()
        router.process.wait()


def test_a_request_wakes_the_server_load_adds_replicas_and_without_requests_it_sleeps_again(
    namespace: Namespace, prometheus: Prometheus, audit_log: AuditLog, tmp_path: Path
) -> None:
    namespace.create_server("kimi", scaled_by_keda(prometheus, fewest=0))
    wait_for(lambda: namespace.find(SCALED_OBJECT, "kimi"), "there is a ScaledObject")
    # A user's own setting stays.
    namespace.edit(SCALED_OBJECT, "kimi", {"spec": {"pollingInterval": 2}})
    with (
        ServingPods(namespace, "kimi", prometheus) as pods,
        router_without_replicas(namespace, pods, tmp_path) as router,
    ):
        wait_for_sleep(namespace, pods)
        wait_for_service(namespace, takes_unready=True)
        assert namespace.deployment("kimi-router")["spec"]["replicas"] == 1
        assert router.ask("/v1/chat/completions", question(1))[0] == 503
        wait_for_pods(pods, 1, _SECONDS_TO_SCALE)
        namespace.wait_for_condition("kimi", "Autoscaling", "True", "FollowsLoad", _SECONDS_TO_SCALE)
        wait_for_service(namespace, takes_unready=False)
        with load(pods, users=16):
            wait_for_pods(pods, 3, _SECONDS_TO_SCALE_TO_THREE)
            namespace.wait_for_condition("kimi", "Autoscaling", "True", "MaximumReached", _SECONDS_TO_SCALE)
        wait_for_sleep(namespace, pods)
        audit_log.wait_until_quiet(0, USER, namespace.name)
        namespace.stays_unwritten("kimi", _WRITTEN, _SECONDS_AT_REST)
        assert namespace.existing(SCALED_OBJECT, "kimi")["spec"]["pollingInterval"] == 2


def test_a_server_whose_metrics_are_lost_is_not_taken_for_an_idle_server(
    namespace: Namespace, prometheus: Prometheus
) -> None:
    namespace.create_server("kimi", scaled_by_keda(prometheus, fewest=1))
    report_ready(namespace, held_pod(namespace))
    namespace.wait_for_condition("kimi", "Autoscaling", "False", "MetricsMissing", _SECONDS_TO_SCALE)
    assert namespace.replicas("kimi") == 1


def test_keda_keeps_a_replica_of_the_server_at_which_a_rollout_has_stopped(
    sandboxes: Sandboxes, prometheus: Prometheus
) -> None:
    spec = scaled_by_keda(prometheus, fewest=0)
    del spec["router"]
    spec["autoscaling"]["keda"]["wakeQuery"] = "vector(1)"
    with sandboxes.open() as sandbox:
        namespace = sandbox.namespace
        sandbox.operator.start()
        namespace.create_server("a", spec)
        report_ready(namespace, held_pod(namespace, "a"))
        namespace.wait_until_ready("a")
        create_servers(namespace, ["b"])
        wait_for(lambda: namespace.find(SCALED_OBJECT, "a"), "there is a ScaledObject")
        namespace.edit(SCALED_OBJECT, "a", {"spec": {"pollingInterval": 2}})
        sandbox.operator.arguments = (*sandbox.operator.arguments, "--rollout-pause=1")
        go_on_as(sandbox, OTHER_VERSION)
        wait_for(lambda: has_other_pods(namespace, "a"), "server a gets the new pods")
        namespace.change_server("a", {"autoscaling": {"keda": {"wakeQuery": "vector(0)"}}})
        # KEDA would remove the replica after ten seconds.
        stays(lambda: namespace.replicas("a"), "KEDA keeps the replica", (1).__eq__, _SECONDS_AT_REST)
        namespace.client.patch(SERVER, namespace.name, "a", {"spec": {"replicas": 0}}, "scale")
        wait_for(lambda: namespace.replicas("a"), "KEDA adds a replica", (1).__eq__, _SECONDS_TO_SCALE)
        assert not has_other_pods(namespace, "b")
        report_ready(namespace, held_pod(namespace, "a"))
        wait_for(lambda: has_other_pods(namespace, "b"), "then server b gets the new pods, too")
        assert namespace.existing(SCALED_OBJECT, "a")["spec"]["minReplicaCount"] == 0


def test_a_server_never_has_two_autoscalers(namespace: Namespace, prometheus: Prometheus) -> None:
    namespace.create_server("kimi", scaled_by_keda(prometheus, fewest=1))
    ours, theirs = (AUTOSCALER, "kimi"), (SCALED_OBJECT, "kimi")
    wait_for(lambda: namespace.find(*KEDAS), "KEDA has made an autoscaler", seconds=_SECONDS_TO_SWITCH)
    namespace.change_server("kimi", {"autoscaling": {"keda": None}})
    _wait_for_change(namespace, new=ours, old=(theirs, KEDAS))
    namespace.change_server("kimi", {"autoscaling": {"keda": {"prometheusAddress": prometheus.url}}})
    _wait_for_change(namespace, new=theirs, old=(ours,))
    wait_for(lambda: namespace.find(*KEDAS), "KEDA has made an autoscaler again", seconds=_SECONDS_TO_SWITCH)
    assert condition_of(namespace.server("kimi"), "Synced")["status"] == "True"


def _wait_for_change(namespace: Namespace, new: tuple[Kind, str], old: tuple[tuple[Kind, str], ...]) -> None:
    """Wait until the new autoscaler exists. While one of the old ones exists, the new one must not."""

    def change() -> bool:
        # The new one is read first. If an old one is read after that, both existed at the same time.
        exists = namespace.find(*new) is not None
        assert not (exists and any(namespace.find(*each) for each in old))
        return exists

    wait_for(change, "the new autoscaler exists", seconds=_SECONDS_TO_SWITCH)


def test_while_keda_is_paused_the_status_says_so(namespace: Namespace, prometheus: Prometheus) -> None:
    namespace.create_server("kimi", scaled_by_keda(prometheus, fewest=0))
    wait_for(lambda: namespace.find(SCALED_OBJECT, "kimi"), "there is a ScaledObject")
    paused = {"metadata": {"annotations": {"autoscaling.keda.sh/paused": "true"}}}
    namespace.edit(SCALED_OBJECT, "kimi", paused)
    namespace.wait_for_condition("kimi", "Autoscaling", "False", "AutoscalerPaused")
    assert namespace.replicas("kimi") == 1
