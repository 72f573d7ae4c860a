"""The queries of a ScaledObject. promtool evaluates them on given series."""

from pathlib import Path
from typing import Any

import pytest

import prometheus
from kimi_linear_operator.server.scaled_object import build_scaled_object
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server

KEDA = {"prometheusAddress": "http://prometheus:9090"}
ROUTER = 'namespace="default", pod="kimi-router-7d9c6f5b8-x2x4q"'
COUNTER = f'smg_router_requests_total{{{ROUTER}, endpoint="chat"}}'
SCRAPED = {"series": f"up{{{ROUTER}}}", "values": "1x20"}
# All series have a value every 30 s.
_MINUTES = 8


@pytest.fixture(autouse=True)
def programs() -> None:
    prometheus.ensure_there()


def query(trigger: str, name: str = "kimi", **more: str) -> str:
    scaling = {"minReplicas": 0, "maxReplicas": 4, "keda": {**KEDA, **more}}
    server = KimiLinearServer.model_validate(make_server(name, router={}, autoscaling=scaling))
    triggers = {item["name"]: item["metadata"]["query"] for item in build_scaled_object(server)["spec"]["triggers"]}
    return str(triggers[trigger])


def check(expression: str, series: list[dict[str, str]], value: float | None, folder: Path) -> None:
    """Check the result of a query after eight minutes; None if there must be none."""
    samples: list[dict[str, Any]] = [] if value is None else [{"labels": "{}", "value": value}]
    asked = {"expr": expression, "eval_time": f"{_MINUTES}m", "exp_samples": samples}
    prometheus.evaluate([], [{"interval": "30s", "input_series": series, "promql_expr_test": [asked]}], folder)


@pytest.mark.parametrize(
    ("values", "awake"),
    [
        # The counter does not exist before the first request, which was seconds ago.
        ("_x15 1", 1),
        ("_x13 1 1 1", 1),
        ("0x14 0 3", 1),
        # The last request was three minutes ago.
        ("0x9 5x6", 0),
        ("_x9 5x6", 0),
        # Another request after a restart of the router.
        ("9x14 1 1", 1),
    ],
)
def test_a_request_of_the_last_two_minutes_keeps_the_server_awake(values: str, awake: int, tmp_path: Path) -> None:
    check(query("requests"), [SCRAPED, {"series": COUNTER, "values": values}], awake, tmp_path)


def test_a_query_of_a_user_may_have_comments(tmp_path: Path) -> None:
    own = 'sum(rate(gateway_requests[2m])) # of the route "kimi"'
    series = [{"series": "gateway_requests", "values": "0+3x20"}]
    check(query("requests", wakeQuery=own), series, 1, tmp_path)
    check(query("requests", wakeQuery=f"# requests\n{own}\n# end"), series, 1, tmp_path)


def test_without_requests_the_result_is_zero_but_without_a_scraped_router_there_is_none(tmp_path: Path) -> None:
    check(query("requests"), [SCRAPED], 0, tmp_path)
    check(query("requests"), [], None, tmp_path)


def test_requests_of_many_kinds_ask_for_no_second_replica(tmp_path: Path) -> None:
    kinds = [{"series": COUNTER.replace("chat", kind), "values": "0+9x20"} for kind in ("chat", "generate")]
    check(query("requests"), [SCRAPED, *kinds], 1, tmp_path)


def test_the_load_is_the_sum_of_the_servers_own_replicas(tmp_path: Path) -> None:
    def queue(pod: str, values: str, namespace: str = "default", name: str = "sglang:num_queue_reqs") -> dict[str, str]:
        return {"series": f'{name}{{namespace="{namespace}", pod="{pod}"}}', "values": values}

    series = [
        queue("kimi-7d9c6f5b8-x2x4q", "3x20"),
        # Prometheus before 3.0 may see this form of the name.
        queue("kimi-7d9c6f5b8-bbbbb", "4x20", name="sglang_num_queue_reqs"),
        queue("kimi-7d9c6f5b8-x2x4q", "100x20", namespace="other"),
        queue("kimi-x-7d9c6f5b8-x2x4q", "100x20"),
    ]
    check(query("queued-requests"), series, 7, tmp_path)


def test_the_pods_of_a_server_with_a_long_name_count(tmp_path: Path) -> None:
    name = "k" * 50
    pod = f"{f'{name}-7d9c6f5b8-'[:58]}x2x4q"
    series = [{"series": f'sglang:num_queue_reqs{{namespace="default", pod="{pod}"}}', "values": "2x20"}]
    check(query("queued-requests", name), series, 2, tmp_path)
