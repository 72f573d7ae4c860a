"""Prometheus metrics of the operator's own work. The metrics of a resource are in its folder.

Names follow https://prometheus.io/docs/practices/naming/. All replicas export the same values for resources. The
metrics in this module differ between replicas, because only the leader reconciles.
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

disable_created_metrics()  # they would double the number of time series, and none of our queries uses them
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
Info("kimi_linear_operator", "Version of the operator", registry=REGISTRY).info(
    {"version": kimi_linear_operator.__version__}
)

RECONCILES = Counter(
    "kimi_linear_operator_reconciles",
    "Passes over resources by result: succeeded, retried (a request to the API server failed), or failed (a bug)",
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
    "Processor time of a pass in the event loop. All other passes wait during this time: more than 0.1 s is a bug",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1),
    registry=REGISTRY,
)
SECONDS_TO_SERVE = Histogram(
    "kimi_linear_server_time_to_serve_seconds",
    "How long a start took until the replica served, if status.startup shows the start. A start begins when the pod "
    "gets a node or, after a crash, when the container starts again. Only the leader counts starts, and another "
    "replica can become the leader. So add up the values of all replicas",
    buckets=(10, 30, 60, 120, 300, 600, 900, 1200, 1800, 2700, 3600, 7200),
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge(
    "kimi_linear_operator_queue_depth", "Resources that are due and wait for a worker", registry=REGISTRY
)
QUEUE_SECONDS = Histogram(
    "kimi_linear_operator_queue_wait_seconds",
    "How long a resource that is due waits for a worker",
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300),
    registry=REGISTRY,
)
API_REQUESTS = Counter(
    "kimi_linear_operator_api_requests",
    "Requests to the API server, by verb and by status code of the answer; code 0 means no answer",
    ["verb", "code"],
    registry=REGISTRY,
)
FORBIDDEN_REQUESTS = Counter(
    "kimi_linear_operator_forbidden_requests",
    "Requests that the API server refused because the operator lacks the permission, by verb. A full quota does not "
    "count: the status of the resource quotes it",
    ["verb"],
    registry=REGISTRY,
)
STATUS_REFUSED = Counter(
    "kimi_linear_operator_status_refused",
    "Statuses that the API server refused, by kind of the resource and by status code of the answer. The Event "
    "StatusRefused contains the error",
    ["kind", "code"],
    registry=REGISTRY,
)
WATCH_FAILURES = Counter(
    "kimi_linear_operator_watch_failures",
    "Watches that failed and were restarted, by resource",
    ["resource"],
    registry=REGISTRY,
)
SCOPE_UNREADABLE = Gauge(
    "kimi_linear_operator_scope_unreadable",
    "1 while the operator cannot read a kind of objects in a namespace (an empty label means all namespaces). "
    "Resources that need this kind are not reconciled. The value stays 0 while only lists fail and the watch works. "
    "A kind that only some servers ask for (for example, an Ingress) counts only while a server asks for it. Such a "
    "server is still reconciled, and lacks only its object of this kind",
    ["resource", "scope_namespace"],
    registry=REGISTRY,
)
LOOP_LAG_SECONDS = Histogram(
    "kimi_linear_operator_event_loop_lag_seconds",
    "How late the main event loop runs its tasks, for example the renewal of the Lease. If the loop is late, the "
    "operator lacks processor time",
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
    registry=REGISTRY,
)
RESYNC_FINDINGS = Counter(
    "kimi_linear_operator_resync_findings",
    "Resources for which a resync found a change that no watch event had reported",
    registry=REGISTRY,
)
ROLLOUTS = Gauge(
    "kimi_linear_operator_template_rollouts",
    "Servers that get the newest pod template in an automatic rollout (--rollout-pause), by state: waiting or "
    "under_way. The state halted counts the servers under way that need help, plus one if the operator cannot read "
    "something. While halted is not 0, no waiting server gets the template",
    ["state"],
    registry=REGISTRY,
)
LEADING = Gauge(
    "kimi_linear_operator_leading", "1 on the replica that reconciles, 0 on the replicas that wait", registry=REGISTRY
)


def count_request(verb: str, status: int, *, lacks_permission: bool = False) -> None:
    """Count a request to the API server by the status code of its answer, 0 if there was no answer."""
    API_REQUESTS.labels(verb, status).inc()
    if lacks_permission:
        FORBIDDEN_REQUESTS.labels(verb).inc()
