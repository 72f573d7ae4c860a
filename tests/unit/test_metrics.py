"""What is told about servers and benchmarks."""

from prometheus_client import CollectorRegistry, generate_latest

from kimi_linear_operator.metrics import ResourceCollector
from kimi_linear_operator.resources import BENCHMARK, DEPLOYMENT, SERVER
from kimi_linear_operator.store import Store
from make import make_benchmark, make_condition, make_deployment, make_result, make_server


def lines(store: Store) -> list[str]:
    """Return what is told about all that is in a store."""
    registry = CollectorRegistry()
    registry.register(ResourceCollector(store))
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def told(*servers: dict[str, str], reason: str = "R") -> list[str]:
    """Return what is told about servers with these conditions."""
    store = Store()
    store.put(DEPLOYMENT, make_deployment())
    for number, conditions in enumerate(servers):
        listed = [make_condition(kind, status, reason, "") for kind, status in conditions.items()]
        store.put(SERVER, {**make_server(f"kimi-{number}"), "status": {"conditions": listed}})
    return lines(store)


def test_servers_are_counted_by_condition_status_and_reason() -> None:
    ready, broken = {"Ready": "True"}, {"Ready": "False", "Stalled": "True"}
    assert told(ready, ready, broken) == [
        'kimi_linear_servers{condition="Ready",reason="R",status="False"} 1.0',
        'kimi_linear_servers{condition="Ready",reason="R",status="True"} 2.0',
        'kimi_linear_servers{condition="Stalled",reason="R",status="True"} 1.0',
        'kimi_linear_server_ready{server="kimi-0",server_namespace="default"} 1.0',
        'kimi_linear_server_ready{server="kimi-1",server_namespace="default"} 1.0',
        'kimi_linear_server_ready{server="kimi-2",server_namespace="default"} 0.0',
    ]


def test_a_server_that_is_to_have_no_replica_is_not_called_unready() -> None:
    suspended = told({"Ready": "False"}, reason="Suspended")
    assert suspended == ['kimi_linear_servers{condition="Ready",reason="Suspended",status="False"} 1.0']


def test_a_server_without_a_status_is_in_no_count() -> None:
    assert told({}) == []


def test_what_a_benchmark_measured_is_told_by_the_clients_own_names() -> None:
    store = Store()
    status = {
        "conditions": [make_condition("Succeeded", "True", "ThresholdsMet", "")],
        "environment": {"server": "kimi"},
        "results": [make_result("gsm8k", {"accuracy": 0.705}), make_result("speed-low", {})],
    }
    store.put(BENCHMARK, {**make_benchmark(), "status": status})
    assert lines(store) == [
        'kimi_linear_benchmarks{condition="Succeeded",reason="ThresholdsMet",status="True"} 1.0',
        'kimi_linear_benchmark_result{benchmark="nightly",benchmark_namespace="default",metric="accuracy",'
        'server="kimi",suite="gsm8k"} 0.705',
    ]
