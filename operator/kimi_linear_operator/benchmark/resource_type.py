"""Benchmarks, as the rest of the operator knows them."""

from kimi_linear_operator.benchmark import holding
from kimi_linear_operator.benchmark.claims import facts
from kimi_linear_operator.benchmark.definition import CHECKER, DEFINITION
from kimi_linear_operator.benchmark.index import BenchmarkIndex
from kimi_linear_operator.benchmark.job import own_pod_template
from kimi_linear_operator.benchmark.manifests import CHILDREN
from kimi_linear_operator.benchmark.preview import PREVIEW
from kimi_linear_operator.benchmark.reconcile import BenchmarkReconciler
from kimi_linear_operator.benchmark.series import series
from kimi_linear_operator.kubernetes.kinds import POD, Kind
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import ResourceType
from kimi_linear_operator.server.spec import SERVER


def _refers_to(cache: Cache, key: Key) -> tuple[Kind, ...]:
    """Return the kind of the server that a benchmark names. Of any other address nothing is read."""
    target = cache.index(BenchmarkIndex).target(key)
    return (SERVER,) if target and target.namespace == key.namespace else ()


def _uses(cache: Cache, key: Key, now: str) -> bool:
    return key.kind == SERVER and holding.is_measured(cache.index(BenchmarkIndex), key, now)


BENCHMARK_TYPE = ResourceType(
    definition=DEFINITION,
    checker=CHECKER,
    reconciler=BenchmarkReconciler,
    preview=PREVIEW,
    pod_template=own_pod_template,
    children=CHILDREN,
    observed=(POD,),
    series=series,
    facts=facts,
    index=BenchmarkIndex,
    # Of Jobs it has as many as suites and some of former ones of its name, of pods as many as attempts.
    most_children=256,
    referenced=(SERVER,),
    refers_to=_refers_to,
    # Whose turn it is depends on the benchmarks of all namespaces.
    needs_everything=True,
    uses=_uses,
)
