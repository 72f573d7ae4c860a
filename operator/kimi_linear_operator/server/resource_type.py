"""The entry of KimiLinearServer in the registry of resource types."""

from kimi_linear_operator.kubernetes.kinds import POD, Kind
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import ResourceType
from kimi_linear_operator.server.definition import CHECKER, DEFINITION
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.index import ServerIndex, UsedWeights, facts
from kimi_linear_operator.server.manifests import CHILDREN, OPTIONAL_CHILDREN
from kimi_linear_operator.server.preview import PREVIEW
from kimi_linear_operator.server.reconcile import ServerReconciler
from kimi_linear_operator.server.router import router_pods
from kimi_linear_operator.server.series import series
from kimi_linear_operator.server.startup import progress
from kimi_linear_operator.weights.spec import WEIGHTS


def _refers_to(cache: Cache, key: Key) -> tuple[Kind, ...]:
    """Return the kind of a server's weights, none if the server names none."""
    cached = cache.find(key)
    return (WEIGHTS,) if cached and isinstance(cached.facts, UsedWeights) else ()


SERVER_TYPE = ResourceType(
    definition=DEFINITION,
    checker=CHECKER,
    reconciler=ServerReconciler,
    preview=PREVIEW,
    pod_template=build_pod_template,
    children=CHILDREN,
    optional_children=OPTIONAL_CHILDREN,
    observed=(POD,),
    more_pods=router_pods,
    series=series,
    facts=facts,
    index=ServerIndex,
    referenced=(WEIGHTS,),
    refers_to=_refers_to,
    progress=progress,
)
