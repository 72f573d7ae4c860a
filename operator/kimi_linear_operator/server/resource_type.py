"""The entry of KimiLinearServer in the registry of resource types."""

from kimi_linear_operator.kubernetes.kinds import BENCHMARK, POD, Kind
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import ResourceType
from kimi_linear_operator.server.definition import CHECKER, DEFINITION
from kimi_linear_operator.server.index import ServerFacts, ServerIndex, facts
from kimi_linear_operator.server.manifests import CHILDREN, OPTIONAL_CHILDREN, build_pod_templates
from kimi_linear_operator.server.preview import PREVIEW
from kimi_linear_operator.server.reconcile import ServerReconciler
from kimi_linear_operator.server.router import router_pods
from kimi_linear_operator.server.series import RESOURCE_METRICS, series
from kimi_linear_operator.server.startup import progress
from kimi_linear_operator.weights.spec import WEIGHTS


def _refers_to(cache: Cache, key: Key) -> tuple[Kind, ...]:
    """Return the kinds of the other resources that a server needs now: its weights, and benchmarks that verify it."""
    cached = cache.find(key)
    found = cached.facts if cached else None
    if not isinstance(found, ServerFacts):
        return ()
    return (*([WEIGHTS] if found.weights else []), *([BENCHMARK] if found.is_verified else []))


SERVER_TYPE = ResourceType(
    definition=DEFINITION,
    checker=CHECKER,
    reconciler=ServerReconciler,
    preview=PREVIEW,
    pod_templates=build_pod_templates,
    children=CHILDREN,
    optional_children=OPTIONAL_CHILDREN,
    observed=(POD,),
    more_pods=router_pods,
    metrics=RESOURCE_METRICS,
    series=series,
    facts=facts,
    index=ServerIndex,
    referenced=(WEIGHTS, BENCHMARK),
    refers_to=_refers_to,
    progress=progress,
)
