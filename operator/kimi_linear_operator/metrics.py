"""What the operator counts of its own work, for Prometheus. What it tells of resources is in their folders.

Names follow https://prometheus.io/docs/practices/naming/. Every replica of the operator tells the same of resources;
what it tells of work differs, as only the leader works.
"""

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

import kimi_linear_operator

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
    "1 while a kind of objects cannot be read in a namespace (empty for all), so that what needs it is left alone. "
    "0 while only its lists fail and its watch works",
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


def count_request(verb: str, status: int) -> None:
    """Count a request to the API server by its answer, 0 if there was none."""
    API_REQUESTS.labels(verb, status).inc()
