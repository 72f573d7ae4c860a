"""A proxy in front of the API server answers lists with 404 or 403. Only the API server's own refusal counts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from control_plane import LocalCluster
from integration.client import DEFINITION, Client
from integration.client_pods import LOW, create_benchmark, end_suite, jobs, running_pod, wait_for_reason
from integration.definitions import scaled_object, with_definitions
from integration.fault_proxy import FaultProxy
from integration.faults import Call, Fault, Matches, error_event, page, refuse
from integration.namespace import Namespace
from integration.sandbox import Sandbox, Sandboxes
from integration.waiting import stays, wait_for
from kimi_linear_operator.cluster.paths import version_path
from kimi_linear_operator.kubernetes.kinds import AUTOSCALER, JOB, LEASE, SCALED_OBJECT, Kind
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.runtime.scopes import OWN_FAULT_SECONDS

SCALED = {
    "tensorParallelism": 1,
    "autoscaling": {"minReplicas": 1, "maxReplicas": 4, "keda": {"prometheusAddress": "http://prometheus:9090"}},
}
PAGES: dict[str, Fault] = {
    "a page with status 404": page(404, "default backend - 404"),
    "the API server's own text": page(404, "404 page not found\n"),
    "a page with status 403": page(403, "<html>Forbidden</html>"),
}
DISCOVERY = ("/apis", version_path(SCALED_OBJECT))
# Longer than several lists that fail in a row, and much shorter than OWN_FAULT_SECONDS.
_FAULT_SECONDS = 12.0
# The operator tries again after half a minute at most. The rest of the time is for a busy machine.
_RETURN_SECONDS = 90.0


def _lists(kind: Kind, namespace: Namespace | None = None) -> Matches:
    """Match the operator's own lists of a kind. kopf's lists, before a watch, contain no objects."""
    place = f"/namespaces/{namespace.name}/" if namespace else ""
    return lambda call: (
        call.is_list and call.concerns(kind) and "fieldSelector" not in call.query and place in call.path
    )


def _is_discovery(call: Call) -> bool:
    return call.path in DISCOVERY


def _is_discovery_of_kind(call: Call) -> bool:
    return call.path == version_path(SCALED_OBJECT)


@pytest.fixture
def sandbox(sandboxes: Sandboxes, client: Client, cluster: LocalCluster) -> Iterator[Sandbox]:
    """An operator of a namespace in a cluster with KEDA's definition. KEDA itself does not run."""
    with with_definitions(client, cluster, scaled_object()), sandboxes.open() as opened:
        opened.operator.start()
        yield opened
        # Otherwise a failed test would leave the definition, which cannot be deleted before its objects.
        if opened.namespace.find(SCALED_OBJECT, "kimi"):
            opened.namespace.edit(SCALED_OBJECT, "kimi", {"metadata": {"finalizers": None}})


def test_no_answer_of_a_proxy_gives_a_server_two_autoscalers(sandbox: Sandbox) -> None:
    """KEDA's finalizer holds the former ScaledObject, so Kubernetes' own autoscaler must wait."""
    namespace, proxy = sandbox.namespace, sandbox.proxy
    namespace.create_server("kimi", SCALED)
    wait_for(lambda: namespace.find(SCALED_OBJECT, "kimi"), "there is a ScaledObject", seconds=_RETURN_SECONDS)
    namespace.edit(SCALED_OBJECT, "kimi", {"metadata": {"finalizers": ["finalizer.keda.sh"]}})
    namespace.change_server("kimi", {"autoscaling": {"keda": None}})
    namespace.wait_for_condition("kimi", "Autoscaling", "False")
    assert not proxy.count(_is_discovery_of_kind), "discovery is asked only after a 404"
    for fault in PAGES.values():
        _answer_lists(proxy, fault)
        _has_only_the_former_autoscaler(namespace)
    _answer_lists(proxy, PAGES["the API server's own text"])
    proxy.begin(PAGES["the API server's own text"], _is_discovery)
    _has_only_the_former_autoscaler(namespace)
    assert 0 < proxy.count(_is_discovery_of_kind) <= proxy.count(_is_missing_kind)
    proxy.heal()
    namespace.edit(SCALED_OBJECT, "kimi", {"metadata": {"finalizers": None}})
    wait_for(lambda: namespace.find(AUTOSCALER, "kimi"), "the other autoscaler", seconds=_RETURN_SECONDS)


def _answer_lists(proxy: FaultProxy, fault: Fault) -> None:
    """Answer all lists of ScaledObjects, and make the operator list them."""
    proxy.heal()
    proxy.begin(fault, _lists(SCALED_OBJECT))
    begin = proxy.count(_lists(SCALED_OBJECT))
    proxy.cut_watches(lambda call: call.concerns(SCALED_OBJECT), error_event(410))
    wait_for(lambda: proxy.count(_lists(SCALED_OBJECT)), "ScaledObjects are listed", lambda count: count > begin)


def _has_only_the_former_autoscaler(namespace: Namespace) -> None:
    stays(
        lambda: (bool(namespace.find(AUTOSCALER, "kimi")), bool(namespace.find(SCALED_OBJECT, "kimi"))),
        "the former autoscaler is the only one",
        lambda found: found == (False, True),
        _FAULT_SECONDS,
    )


def _is_missing_kind(call: Call) -> bool:
    return call.status == 404 and _lists(SCALED_OBJECT)(call)


def test_a_scaled_object_of_a_newer_version_is_not_gone(sandbox: Sandbox, client: Client) -> None:
    """An update of KEDA drops the version that the operator uses."""
    namespace = sandbox.namespace
    namespace.create_server("kimi", SCALED)
    wait_for(lambda: namespace.find(SCALED_OBJECT, "kimi"), "there is a ScaledObject", seconds=_RETURN_SECONDS)
    with _only_in_version(client, "v1"):
        namespace.change_server("kimi", {"autoscaling": {"keda": None}})
        told = namespace.wait_for_condition("kimi", "Synced", "False", "KindMissing", _RETURN_SECONDS)["message"]
        assert told == (
            "HorizontalPodAutoscaler kimi waits until ScaledObject kimi is gone: "
            "the cluster has scaledobjects.keda.sh, but not of version v1alpha1"
        )
        stays(
            lambda: namespace.find(AUTOSCALER, "kimi"), "no other autoscaler", lambda found: not found, _FAULT_SECONDS
        )
        newer = replace(SCALED_OBJECT, version="v1")
        assert client.get(newer, namespace.name, "kimi"), "the ScaledObject exists"
        assert "but of keda.sh/v1" in sandbox.operator.ask("/readyz")[1]
    wait_for(lambda: namespace.find(AUTOSCALER, "kimi"), "the other autoscaler", seconds=_RETURN_SECONDS)
    assert not namespace.find(SCALED_OBJECT, "kimi")


@contextmanager
def _only_in_version(client: Client, version: str) -> Iterator[None]:
    """Serve ScaledObjects only in another version during the block."""
    name = SCALED_OBJECT.resource
    definition = client.get(DEFINITION, None, name)
    assert definition
    [former] = definition["spec"]["versions"]
    newer = {**former, "name": version}
    dropped = {**former, "served": False, "storage": False}
    client.patch(DEFINITION, None, name, {"spec": {"versions": [dropped, newer]}})
    try:
        yield
    finally:
        client.patch(DEFINITION, None, name, {"spec": {"versions": [former, {**newer, "storage": False}]}})


def test_a_guests_suite_waits_although_a_proxy_answers_the_list_of_running_suites(sandboxes: Sandboxes) -> None:
    """After its start, the operator knows the running suite only from this list."""
    with sandboxes.open_wide(namespaces=2) as [box]:
        home, guests = box.namespace, box.others[0]
        box.operator.start()
        home.create_server("kimi", {"tensorParallelism": 1})
        home.wait_until_ready("kimi")
        create_benchmark(home, "near", suites=LOW)
        running_pod(home, "near", "speed-low")
        url = f"http://kimi.{home.name}.svc.cluster.local:30000"
        create_benchmark(guests, "far", suites=LOW, serverRef=None, endpoint={"url": url})
        wait_for_reason(guests, "far", "WaitingForTurn")
        for fault in PAGES.values():
            box.operator.kill()
            box.namespace.delete(LEASE, MANAGER)
            box.proxy.begin(fault, _lists(JOB, home))
            box.operator.launch()
            _has_no_suite(guests, "far")
            box.proxy.heal()
            box.operator.wait_until_leading()
            _has_no_suite(guests, "far")
        end_suite(home, "near", "speed-low")
        running_pod(guests, "far", "speed-low", _RETURN_SECONDS)


def _has_no_suite(namespace: Namespace, name: str) -> None:
    stays(lambda: jobs(namespace, name), "no suite starts", lambda found: not found, _FAULT_SECONDS)


def test_without_discovery_a_missing_kind_is_reported_later_and_the_server_serves(sandboxes: Sandboxes) -> None:
    """An administrator has taken the role system:discovery away. Then a 404 is as little proof as a proxy's 404."""
    with sandboxes.open() as box:
        box.proxy.begin(refuse(403), _is_discovery)
        box.operator.start()
        box.namespace.create_server("plain", {"tensorParallelism": 1})
        box.namespace.create_server("kimi", SCALED)
        box.namespace.wait_until_ready("plain")
        seconds = OWN_FAULT_SECONDS + _RETURN_SECONDS
        told = box.namespace.wait_for_condition("kimi", "Synced", "False", "KindUnreadable", seconds)["message"]
        assert told == "ScaledObject kimi: the operator cannot list scaledobjects.keda.sh"
        box.namespace.wait_until_ready("kimi")
        assert "discovery cannot be read: 403" in box.operator.ask("/readyz")[1]
        box.proxy.heal()
        box.namespace.wait_for_condition("kimi", "Synced", "False", "KindMissing", _RETURN_SECONDS)
