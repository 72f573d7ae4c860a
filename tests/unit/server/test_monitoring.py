"""The objects of a watched server for the Prometheus operator.

tests/integration/server/test_alerts.py tests the alerts.
"""

from typing import Any

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server import manifests
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server


def children(**spec: Any) -> dict[str, Manifest]:
    built = manifests.build(KimiLinearServer.model_validate(make_server(**spec)))
    return {manifest["kind"]: manifest for manifest in built}


def alerts(**spec: Any) -> dict[str, Manifest]:
    [group] = children(**spec)["PrometheusRule"]["spec"]["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_a_server_without_spec_monitoring_has_no_objects_for_prometheus() -> None:
    assert children().keys() & {"PodMonitor", "PrometheusRule"} == set()


def test_the_monitor_finds_the_servers_pods_and_port_and_needs_no_key() -> None:
    made = children(monitoring={}, auth={"apiKeySecretRef": {"name": "clients"}})
    template = made["Deployment"]["spec"]["template"]
    monitor = made["PodMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    [endpoint] = monitor["podMetricsEndpoints"]
    ports = [port["name"] for item in template["spec"]["containers"] for port in item["ports"]]
    assert (endpoint["port"] in ports, endpoint["path"]) == (True, "/metrics")
    assert "clients" not in str(monitor)
    assert monitor["podTargetLabels"] == ["kimi-linear.io/server"]


def test_a_pod_can_neither_redirect_prometheus_nor_overfill_it() -> None:
    """Users with permission to write servers choose the image that answers."""
    monitor = children(monitoring={})["PodMonitor"]["spec"]
    assert monitor["podMetricsEndpoints"][0]["followRedirects"] is False
    assert 0 < monitor["sampleLimit"] <= 20_000
    assert monitor["bodySizeLimit"] == "10MiB", "Prometheus reads a whole answer before it counts samples"


def test_monitoring_objects_have_the_labels_of_the_spec_beside_ours() -> None:
    made = children(monitoring={"labels": {"release": "prometheus"}})
    for kind in ("PodMonitor", "PrometheusRule"):
        labels = made[kind]["metadata"]["labels"]
        assert (labels["release"], labels["kimi-linear.io/server"]) == ("prometheus", "kimi")
    assert "release" not in made["Deployment"]["metadata"]["labels"]


def test_no_alert_about_serving_exists_for_a_server_without_wanted_replicas() -> None:
    assert "KimiLinearNotServing" in alerts(monitoring={})
    assert "KimiLinearNotServing" not in alerts(monitoring={}, suspend=True)
    assert "KimiLinearNotServing" not in alerts(monitoring={}, replicas=0)


def test_thresholds_follow_the_spec() -> None:
    spec: dict[str, Any] = {"monitoring": {"slowFirstTokenSeconds": 1.5}, "startup": {"timeoutSeconds": 600}}
    assert alerts(**spec)["KimiLinearNotServing"]["for"] == "600s"
    assert alerts(**spec)["KimiLinearSlowFirstToken"]["expr"].endswith("> 1.5")


def test_every_alert_names_its_server_and_says_what_to_do() -> None:
    for rule in alerts(monitoring={}).values():
        assert {"server": "kimi", "server_namespace": "default"}.items() <= rule["labels"].items()
        assert rule["annotations"].keys() == {"summary", "description"}
