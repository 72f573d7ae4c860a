"""What the operator tells Prometheus about itself, the servers and the benchmarks.

Names follow https://prometheus.io/docs/practices/naming/. Every replica of the operator tells the same of resources;
what it tells of work differs, as only the leader works.
"""

import math
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

import kimi_linear_operator
from kimi_linear_operator.api import Manifest
from kimi_linear_operator.benchmark.address import TargetKey
from kimi_linear_operator.benchmark.metric import METRICS
from kimi_linear_operator.claims import MOST_SUITES
from kimi_linear_operator.resources import BENCHMARK, SERVER
from kimi_linear_operator.status import WITHOUT_REPLICAS
from kimi_linear_operator.status.times import seconds_between
from kimi_linear_operator.store import Sight

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


def exposition(sights: Sequence[Sight]) -> bytes:
    """Return all metrics as Prometheus reads them: those of the operator, and those of the given resources.

    Takes seconds where many benchmarks are kept, so it belongs into a thread; nothing of it needs the event loop.
    """
    lines = resource_lines(sights, datetime.now(UTC).isoformat())
    # In pieces, as joining and encoding tens of megabytes at once would keep the event loop from going on.
    pieces = iter(lambda: "".join(islice(lines, _LINES_AT_ONCE)).encode(), b"")
    return b"".join((generate_latest(REGISTRY), *pieces))


def resource_lines(sights: Sequence[Sight], now: str) -> Iterator[str]:
    """Yield the lines about resources: how many are in which condition, which servers are ready, what was measured.

    They are written here, as prometheus_client takes ten times as long for hundreds of thousands of them.

    Args:
        sights: Everything that is known.
        now: The time as RFC 3339.
    """
    servers = [sight for sight in sights if sight.address.kind == SERVER]
    benchmarks = [sight for sight in sights if sight.address.kind == BENCHMARK]
    yield from _by_condition("kimi_linear_servers", "Servers by condition", servers)
    yield from _ready_servers(servers)
    yield from _by_condition("kimi_linear_benchmarks", "Benchmarks by condition", benchmarks)
    yield from _results(benchmarks, now)


def _by_condition(name: str, text: str, sights: Iterable[Sight]) -> Iterator[str]:
    yield _head(name, text)
    tally: Tally[tuple[str, str, str]] = Tally()
    for sight in sights:
        tally.update(sight.conditions)
    for (condition, status, reason), count in sorted(tally.items()):
        labels = {"condition": condition, "reason": reason, "status": status}
        yield f"{name}{{{_labels(labels)}}} {float(count)}\n"


def _ready_servers(servers: Iterable[Sight]) -> Iterator[str]:
    name = "kimi_linear_server_ready"
    yield _head(name, "1 if all replicas of the server serve; servers that are to have none are left out")
    for sight in servers:
        labels = {"server": sight.address.name, "server_namespace": sight.address.namespace}
        for condition, status, reason in sight.conditions:
            if condition == "Ready" and reason not in WITHOUT_REPLICAS:
                yield f"{name}{{{_labels(labels)}}} {float(status == 'True')}\n"


def _results(benchmarks: Iterable[Sight], now: str) -> Iterator[str]:
    name = "kimi_linear_benchmark_result"
    told = "What the newest complete benchmark of a namespace measured of a server, by suite and the client's own names"
    yield _head(name, told)
    for sight, suites in newest(benchmarks, now).items():
        status = sight.manifest()["status"]
        server = str(status.get("environment", {}).get("server", ""))
        own = _labels({"benchmark": sight.address.name, "benchmark_namespace": sight.address.namespace})
        for result in status.get("results", ())[:MOST_SUITES]:
            if result["name"] in suites:
                of = _labels({"server": server, "suite": result["name"]})
                yield from (f'{name}{{{own},metric="{key}",{of}}} {value}\n' for key, value in _numbers(result))


def newest(benchmarks: Iterable[Sight], now: str) -> dict[Sight, set[str]]:
    """Return the complete benchmarks that were the last of their namespace to measure a suite of a server, with these.

    Anybody who may edit a namespace can write any result and time there. So each namespace has its own newest ones.
    """
    latest: dict[tuple[str, TargetKey, str], Sight] = {}
    for sight in sorted(filter(_is_complete, benchmarks), key=lambda sight: (-_age(sight, now), sight.address)):
        if sight.measured:
            by, target = sight.address.namespace, sight.measured.target
            latest |= {(by, target, suite): sight for suite in sight.measured.suites}
    found: dict[Sight, set[str]] = {}
    for (_, _, suite), sight in latest.items():
        found.setdefault(sight, set()).add(suite)
    return found


def _is_complete(sight: Sight) -> bool:
    return sight.measured is not None


def _age(sight: Sight, now: str) -> float:
    """Return how many seconds ago a benchmark was done; what is yet to come is older than all that is past."""
    age = seconds_between(sight.measured.time, now) if sight.measured else None
    return math.inf if age is None or age < 0 else age


def _numbers(result: Manifest) -> Iterator[tuple[str, float]]:
    """Yield what the client of a suite can have measured: others may write a status, and each name is a series."""
    names = _NAMES.get(result.get("kind", ""), frozenset())
    return ((name, float(value)) for name, value in result.get("metrics", {}).items() if name in names)


def _head(name: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n"


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


_NAMES = {kind: frozenset(metric.name for metric in known) for kind, known in METRICS.items()}
_LINES_AT_ONCE = 1000
# https://prometheus.io/docs/instrumenting/exposition_formats/
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
