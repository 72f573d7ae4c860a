"""The queries of dashboards and alerts are PromQL, and use existing metrics with existing labels."""

import re

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import dashboards
from dashboard_queries import MONITORING, gpu_row, metrics, metrics_of_gpus, queries, with_values
from kimi_linear_operator import counters, reference
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.exposition import resource_lines
from kimi_linear_operator.server.manifests import build
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.weights.spec import WEIGHTS
from make import make_benchmark, make_condition, make_result, make_server, make_weights
from passes import new_cache

# Prometheus adds these labels to everything that it reads from a pod.
OF_THE_TARGET = {"namespace", "pod", "job", "instance"}


def alerts() -> list[tuple[str, str]]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]
    return [(rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]


def panels(file: str) -> list[tuple[str, str]]:
    return [(title, with_values(query)) for title, query in queries(file)]


EXPRESSIONS = [*alerts(), *panels("dashboard.json")]


def known() -> dict[str, set[str]]:
    """Return all names of samples with their possible labels."""
    cache = new_cache()
    condition = make_condition("Ready", "True", "AllReplicasServe", "1 of 1 replicas serve")
    cache.put(SERVER, {**make_server(), "status": {"conditions": [condition]}})
    result = make_result("gsm8k", {"accuracy": 0.7})
    complete = make_condition("Complete", "True", "SuitesEnded", "")
    cache.put(BENCHMARK, {**make_benchmark(), "status": {"conditions": [condition, complete], "results": [result]}})
    cache.put(WEIGHTS, {**make_weights(), "status": {"conditions": [condition]}})
    text = "".join(resource_lines(TYPES, cache.snapshot(), "2026-11-24T12:00:00Z"))
    families = [*counters.REGISTRY.collect(), *text_string_to_metric_families(text)]
    names: dict[str, set[str]] = {}
    for family in families:
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    by_label = (counters.API_REQUESTS, counters.FORBIDDEN_REQUESTS, counters.STATUS_REFUSED, counters.WATCH_FAILURES)
    for counted in (counters.RECONCILES, *by_label):
        [family] = counted.collect()
        names[f"{family.name}_total"] = set(counted._labelnames)
    [family] = counters.SCOPE_UNREADABLE.collect()
    names[family.name] = set(counters.SCOPE_UNREADABLE._labelnames)
    names["kimi_linear_operator_template_rollouts"] = set(counters.ROLLOUTS._labelnames)
    return names


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=[name for name, _ in EXPRESSIONS])
def test_an_expression_uses_only_existing_metrics_and_labels(name: str, expression: str) -> None:
    parsed = str(promql_parser.parse(expression))
    used = set(re.findall(r"\b(?:kimi_linear|process)_\w+", parsed))
    labels = known()
    assert used
    assert used - labels.keys() == set()
    told = re.findall(r"(?:by|on) \(([^)]*)\)", parsed) + re.findall(r"(\w+)(?:=~|!~|!=|=)\"", parsed)
    asked = {label.strip() for group in told for label in group.split(",")}
    assert asked - OF_THE_TARGET - {label for metric in used for label in labels[metric]} == set()


@pytest.mark.parametrize("name", dashboards.texts())
def test_dashboards_are_fresh(name: str) -> None:
    assert (MONITORING / name).read_text() == dashboards.texts()[name], "run `make generate`"


@pytest.mark.parametrize(("title", "query"), panels("servers-dashboard.json"))
def test_the_dashboard_of_servers_queries_the_pods_of_its_servers(title: str, query: str) -> None:
    """Other tests ask a real Prometheus: tests/engine/test_life.py, tests/integration/server/test_gpu_metrics.py."""
    promql_parser.parse(query)
    assert "kimi_linear_io_server=~" in query


def test_the_row_about_gpus_is_collapsed_and_says_what_it_needs() -> None:
    row = gpu_row()
    assert row["collapsed"]
    assert "Device Metrics Exporter" in row["title"]
    said = {panel["fieldConfig"]["defaults"]["noValue"] for panel in row["panels"]}
    assert said == {"No metrics of AMD's Device Metrics Exporter about these pods"}


def test_metrics_in_alerts_of_servers_are_on_their_dashboard() -> None:
    built = build(KimiLinearServer.model_validate(make_server(monitoring={})))
    [rule] = [manifest for manifest in built if manifest["kind"] == "PrometheusRule"]
    shown = " ".join(query for _, query in queries("servers-dashboard.json"))
    assert metrics(str(rule)) - metrics(shown) == set()
    assert len(metrics(str(rule))) == 4
    assert metrics_of_gpus(str(rule)) - metrics_of_gpus(shown) == set()
    assert len(metrics_of_gpus(str(rule))) == 1


def test_every_metric_is_on_a_dashboard_or_in_an_alert() -> None:
    text = " ".join(expression for _, expression in EXPRESSIONS)
    ours = {re.sub(r"_(bucket|count|sum)$", "", metric) for metric in known() if metric.startswith("kimi_linear")}
    assert {metric for metric in ours if metric not in text} == set()


def test_the_page_of_metrics_has_each_metric_with_its_labels() -> None:
    rows = [line.split(" | ") for line in reference.pages()["metrics.md"].splitlines() if line.startswith("| `")]
    listed = {row[0].strip("| `"): set(re.findall(r"`(\w+)`", row[2])) for row in rows}
    ours: dict[str, set[str]] = {}
    for sample, labels in known().items():
        if sample.startswith("kimi_linear"):
            ours.setdefault(re.sub(r"_(bucket|count|sum)$", "", sample), set()).update(labels - {"le"})
    assert listed == ours


def test_every_alert_says_what_to_do() -> None:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["labels"]["severity"] in ("info", "warning")
