"""The resource type KimiLinearBenchmark."""

from kimi_linear_operator.benchmark import holding
from kimi_linear_operator.benchmark.claims import facts
from kimi_linear_operator.benchmark.definition import CHECKER, DEFINITION
from kimi_linear_operator.benchmark.index import BenchmarkIndex
from kimi_linear_operator.benchmark.job import own_pod_templates
from kimi_linear_operator.benchmark.manifests import CHILDREN
from kimi_linear_operator.benchmark.preview import PREVIEW
from kimi_linear_operator.benchmark.reconcile import BenchmarkReconciler
from kimi_linear_operator.benchmark.series import RESOURCE_METRICS, series
from kimi_linear_operator.kubernetes.goal import Goal, Progress
from kimi_linear_operator.kubernetes.kinds import POD, Kind, Manifest
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import ResourceType
from kimi_linear_operator.server.resource_type import SERVER_TYPE
from kimi_linear_operator.server.spec import SERVER

# These kinds show whether a server serves, and with which pods. If its children cannot be read, its status may be old.
_SERVER_KINDS = SERVER_TYPE.own_kinds


def _refers_to(cache: Cache, key: Key) -> tuple[Kind, ...]:
    """Return the kinds that show the state of the server that a benchmark measures.

    There are none if the server is not in the benchmark's namespace.
    """
    target = cache.index(BenchmarkIndex).target(key)
    return _SERVER_KINDS if target and target.namespace == key.namespace else ()


def _uses(cache: Cache, key: Key, now: str) -> bool:
    """Return whether a server is being measured, so that it must stay as it is."""
    return key.kind == SERVER and holding.is_measured(cache.index(BenchmarkIndex), key, now)


def _progress(status: Manifest) -> Progress | None:
    """Return how many suites of a benchmark with this status have ended, None if no operator has seen it."""
    ended, _, suites = str(status.get("progress", "")).partition("/")
    if not (ended.isdecimal() and suites.isdecimal()):
        return None
    return Progress(int(ended), int(suites), status.get("currentSuite", "all suites" if ended == suites else "waiting"))


BENCHMARK_TYPE = ResourceType(
    definition=DEFINITION,
    checker=CHECKER,
    reconciler=BenchmarkReconciler,
    preview=PREVIEW,
    pod_templates=own_pod_templates,
    children=CHILDREN,
    observed=(POD,),
    metrics=RESOURCE_METRICS,
    series=series,
    facts=facts,
    index=BenchmarkIndex,
    # A benchmark has up to 16 Jobs, a few more Jobs of former benchmarks with its name, and up to 11 pods for each Job.
    most_children=256,
    referenced=_SERVER_KINDS,
    refers_to=_refers_to,
    # Turns depend on the benchmarks of all namespaces.
    needs_everything=True,
    uses=_uses,
    goal=Goal("Succeeded", "has passed", "has not passed"),
    progress=_progress,
)
