"""The alerts of a server. Prometheus' own promtool evaluates them on simple series."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import prometheus
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server import manifests
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server

_POD = 'namespace="default", pod="kimi-7d9c6f5b8-x2x4q"'
_SCRAPED = f'{_POD}, kimi_linear_io_server="kimi"'
_OTHER = 'namespace="default", pod="kimi-a-7d9c6f5b8-x2x4q", kimi_linear_io_server="kimi-a"'
_RENAMED = 'namespace="amd", pod="exporter-x7k2p", exported_namespace="default", exported_pod="kimi-7d9c6f5b8-x2x4q"'
_FIRST_TOKEN = "sglang:time_to_first_token_seconds_bucket"
_STARTS = "kube_pod_container_status_restarts_total"


@dataclass(frozen=True)
class Case:
    """Series with one value per minute, and whether an alert fires at a minute.

    Attributes:
        alert: The alert.
        series: The values of each series, as promtool writes them.
        minute: The minute at which the alert is evaluated.
        fires: Whether the alert fires at that minute.
    """

    alert: str
    series: dict[str, str]
    minute: int
    fires: bool


def _queue(values: str, minute: int, *, fires: bool) -> Case:
    return Case("KimiLinearQueueGrows", {f'sglang:num_queue_reqs{{{_SCRAPED}, tp_rank="0"}}': values}, minute, fires)


def _first_tokens(within_4_seconds: str, *, fires: bool) -> Case:
    buckets = {"4": within_4_seconds, "10": "0+10x60", "+Inf": "0+10x60"}
    series = {f'{_FIRST_TOKEN}{{{_SCRAPED}, le="{limit}"}}': values for limit, values in buckets.items()}
    return Case("KimiLinearSlowFirstToken", series, 40, fires)


def _pool(alert: str, metric: str, values: str, *, fires: bool) -> Case:
    return Case(alert, {f'sglang:{metric}{{{_SCRAPED}, tp_rank="0"}}': values}, 20, fires)


def _restarts(labels: str, values: str, *, fires: bool) -> Case:
    return Case("KimiLinearRestarts", {f'{_STARTS}{{{labels}, container="sglang"}}': values}, 60, fires)


def _gpu_errors(metric: str, values: str, *, fires: bool, pod: str = _SCRAPED) -> Case:
    series = {f"up{{{pod}}}": "1x60", f'{metric}, gpu_id="3", hostname="gpu-1"}}': values}
    return Case("KimiLinearGPUErrors", series, 40, fires)


CASES = {
    "nobody answers": Case("KimiLinearNotServing", {f"up{{{_SCRAPED}}}": "0x90"}, 62, True),
    "nothing is there": Case("KimiLinearNotServing", {f"up{{{_OTHER}}}": "1x90"}, 62, True),
    "it still starts": Case("KimiLinearNotServing", {f"up{{{_SCRAPED}}}": "0x90"}, 55, False),
    "one of two answers": Case(
        "KimiLinearNotServing",
        {f"up{{{_SCRAPED}}}": "0x90", 'up{namespace="default", kimi_linear_io_server="kimi", pod="b"}': "1x90"},
        80,
        False,
    ),
    "it stopped": Case("KimiLinearReplicaStopped", {f"up{{{_SCRAPED}}}": "1x10 0x20"}, 20, True),
    "it never answered": Case("KimiLinearReplicaStopped", {f"up{{{_SCRAPED}}}": "0x60"}, 20, False),
    "a scrape was lost": Case("KimiLinearReplicaStopped", {f"up{{{_SCRAPED}}}": "1x10 0x2 1x20"}, 20, False),
    "its pod is gone": Case("KimiLinearReplicaStopped", {f"up{{{_SCRAPED}}}": "1x10 stale"}, 20, False),
    "it starts again and again": _restarts(_POD, "0x10 1x10 2x10 3x40", fires=True),
    "it started again once": _restarts(_POD, "0x10 1x60", fires=False),
    "another server starts again": _restarts(_OTHER, "0x10 1x10 2x10 3x40", fires=False),
    "a name as an older Prometheus has it": Case(
        "KimiLinearCacheFull", {f"sglang_token_usage{{{_SCRAPED}}}": "0.97x30"}, 20, fires=True
    ),
    "more and more wait": _queue("0+1x60", 40, fires=True),
    "as many wait as before": _queue("5x60", 40, fires=False),
    "all get their turn": _queue("0 9 0 9 0 9 0 9 0 9 0 9 0 9 0 9 0 9 0 9 0 9 0 9 0 9 0 9 0 9", 29, fires=False),
    "the first token comes late": _first_tokens("0x60", fires=True),
    "the first token comes soon": _first_tokens("0+10x60", fires=False),
    "one in twenty comes late": _first_tokens("0+9.5x60", fires=False),
    "the cache is full": _pool("KimiLinearCacheFull", "token_usage", "0.97x30", fires=True),
    "the cache is well used": _pool("KimiLinearCacheFull", "token_usage", "0.9x30", fires=False),
    "the cache was full for a moment": _pool("KimiLinearCacheFull", "token_usage", "0.5x15 0.97x15", fires=False),
    "the pool of states is full": _pool("KimiLinearStatePoolFull", "mamba_usage", "0.97x30", fires=True),
    "the pool of states is well used": _pool("KimiLinearStatePoolFull", "mamba_usage", "0.9x30", fires=False),
    "a GPU has errors": _gpu_errors(f"gpu_ecc_uncorrect_total{{{_POD}", "0x20 1x40", fires=True),
    "a GPU has errors, and its metrics have a prefix": _gpu_errors(
        f"amd_gpu_ecc_uncorrect_total{{{_POD}", "0x20 1x40", fires=True
    ),
    "a GPU has errors, and Prometheus renamed the labels of the pod": _gpu_errors(
        f"gpu_ecc_uncorrect_total{{{_RENAMED}", "0x20 1x40", fires=True
    ),
    "a GPU has no errors": _gpu_errors(f"gpu_ecc_uncorrect_total{{{_POD}", "0x60", fires=False),
    "a GPU had errors before another pod used it": _gpu_errors(
        f"gpu_ecc_uncorrect_total{{{_POD}", "1x20 stale", fires=False
    ),
    "a GPU of another server has errors": _gpu_errors(
        'gpu_ecc_uncorrect_total{namespace="default", pod="kimi-a-7d9c6f5b8-x2x4q"', "1x60", fires=False, pod=_OTHER
    ),
    "a GPU that no pod uses has errors": _gpu_errors(
        'gpu_ecc_uncorrect_total{namespace="", pod=""', "1x60", fires=False
    ),
    "a pod of another server says that a GPU has errors": _gpu_errors(
        f'gpu_ecc_uncorrect_total{{{_RENAMED}, kimi_linear_io_server="kimi-a"', "1x60", fires=False
    ),
}


@pytest.fixture(scope="module", autouse=True)
def programs_of_prometheus() -> None:
    prometheus.ensure_there()


def groups() -> list[Manifest]:
    built = manifests.build(KimiLinearServer.model_validate(make_server(monitoring={})))
    [rule] = [manifest for manifest in built if manifest["kind"] == "PrometheusRule"]
    found: list[Manifest] = rule["spec"]["groups"]
    return found


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_should_and_only_then(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    firing = f'count(ALERTS{{alertname="{case.alert}", alertstate="firing"}}) or vector(0)'
    sample = {"labels": "{}", "value": int(case.fires)}
    series = [{"series": series, "values": values} for series, values in case.series.items()]
    asked = {"expr": firing, "eval_time": f"{case.minute}m", "exp_samples": [sample]}
    prometheus.evaluate(groups(), [{"interval": "1m", "input_series": series, "promql_expr_test": [asked]}], tmp_path)


def test_every_alert_of_a_server_has_cases_that_fire_and_that_do_not() -> None:
    alerts = {rule["alert"] for group in groups() for rule in group["rules"]}
    for fires in (True, False):
        assert {case.alert for case in CASES.values() if case.fires == fires} == alerts


def test_prometheus_accepts_all_rules(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[3] / "deploy/monitoring/alerts.yaml"
    for number, found in enumerate((groups(), yaml.safe_load(shipped.read_text())["spec"]["groups"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        prometheus.check_rules(found, folder)
