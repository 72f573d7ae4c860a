"""What the operator tells Prometheus about itself, the servers and the benchmarks.

Names follow https://prometheus.io/docs/practices/naming/. Every replica of the operator tells the same of resources;
what it tells of work differs, as only the leader works.
"""

from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import kimi_linear_operator
from kimi_linear_operator.resources import BENCHMARK, SERVER, Kind
from kimi_linear_operator.status import WITHOUT_REPLICAS
from kimi_linear_operator.store import Store

disable_created_metrics()  # a time series for every time series, which nobody asks for
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
Info("kimi_linear_operator", "Which operator this is", registry=REGISTRY).info(
    {"version": kimi_linear_operator.__version__}
)

RECONCILES = Counter(
    "kimi_linear_operator_reconciles",
    "Passes over a server or a benchmark: succeeded, retried (the API server could not do its part), or failed (a bug)",
    ["result"],
    registry=REGISTRY,
)
RECONCILE_SECONDS = Histogram(
    "kimi_linear_operator_reconcile_duration_seconds",
    "How long a pass takes",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
    registry=REGISTRY,
)
RECONCILE_CPU_SECONDS = Histogram(
    "kimi_linear_operator_reconcile_cpu_seconds",
    "How much processor time a pass takes in the event loop: meanwhile no other pass goes on",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1),
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge(
    "kimi_linear_operator_queue_depth", "Servers and benchmarks that are due and wait for a worker", registry=REGISTRY
)
QUEUE_SECONDS = Histogram(
    "kimi_linear_operator_queue_wait_seconds",
    "How long what is due waits for a worker",
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300),
    registry=REGISTRY,
)
API_REQUESTS = Counter(
    "kimi_linear_operator_api_requests",
    "Requests to the API server by what they do and its answer; code 0 is no answer",
    ["verb", "code"],
    registry=REGISTRY,
)
STATUS_REFUSED = Counter(
    "kimi_linear_operator_status_refused",
    "Statuses that the API server refused, by the kind of the resource and the code of the answer",
    ["kind", "code"],
    registry=REGISTRY,
)
WATCH_FAILURES = Counter(
    "kimi_linear_operator_watch_failures",
    "Times that watching a kind of objects failed and was begun anew",
    ["resource"],
    registry=REGISTRY,
)
SCOPE_UNREADABLE = Gauge(
    "kimi_linear_operator_scope_unreadable",
    "1 while a kind of objects cannot be read in a namespace (empty for all), so that what needs it is left alone",
    ["resource", "scope_namespace"],
    registry=REGISTRY,
)
LOOP_LAG_SECONDS = Histogram(
    "kimi_linear_operator_event_loop_lag_seconds",
    "How late the main event loop goes on with what is due; the Lease is renewed in it",
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
    registry=REGISTRY,
)
RESYNC_FINDINGS = Counter(
    "kimi_linear_operator_resync_findings",
    "Servers and benchmarks about which the periodic list found something that no watch had told",
    registry=REGISTRY,
)
ROLLOUTS = Gauge(
    "kimi_linear_operator_template_rollouts",
    "Servers whose newest pod template the operator is to roll out by itself: waiting, under_way, or halted (under way "
    "and stalled, which keeps the others waiting)",
    ["state"],
    registry=REGISTRY,
)
LEADING = Gauge("kimi_linear_operator_leading", "1 on the replica that works, 0 on those that wait", registry=REGISTRY)


class ResourceCollector(Collector):
    """Tells how servers and benchmarks are, at the moment when it is asked."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        """Return how many resources are in which condition, which servers are ready, and what was measured."""
        yield self._by_condition(SERVER, "kimi_linear_servers", "Servers by condition")
        yield self._ready_servers()
        yield self._by_condition(BENCHMARK, "kimi_linear_benchmarks", "Benchmarks by condition")
        yield self._results()

    def _by_condition(self, kind: Kind, name: str, text: str) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["condition", "status", "reason"])
        tally: Tally[tuple[str, str, str]] = Tally()
        for _, conditions in self._store.conditions(kind):
            tally.update(conditions)
        for labels, count in sorted(tally.items()):
            family.add_metric([*labels], count)
        return family

    def _ready_servers(self) -> Metric:
        ready = GaugeMetricFamily(
            "kimi_linear_server_ready",
            "1 if all replicas of the server serve; servers that are to have none are left out",
            labels=["server_namespace", "server"],
        )
        for key, conditions in self._store.conditions(SERVER):
            for condition, status, reason in conditions:
                if condition == "Ready" and reason not in WITHOUT_REPLICAS:
                    ready.add_metric([key.namespace, key.name], status == "True")
        return ready

    def _results(self) -> Metric:
        results = GaugeMetricFamily(
            "kimi_linear_benchmark_result",
            "What a suite of a benchmark measured, by the client's own names",
            labels=["benchmark_namespace", "benchmark", "server", "suite", "metric"],
        )
        for key, _ in self._store.conditions(BENCHMARK):
            status = (self._store.get(BENCHMARK, key) or {}).get("status", {})
            server = status.get("environment", {}).get("server", "")
            for result in status.get("results", ()):
                for metric, value in result.get("metrics", {}).items():
                    results.add_metric([key.namespace, key.name, server, result["name"], metric], value)
        return results
