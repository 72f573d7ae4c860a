"""The entry of KimiLinearWeights in the registry of resource types."""

from kimi_linear_operator.kubernetes.goal import Progress
from kimi_linear_operator.kubernetes.kinds import POD, Manifest
from kimi_linear_operator.reconcile.resource_type import ResourceType
from kimi_linear_operator.weights.definition import CHECKER, DEFINITION
from kimi_linear_operator.weights.job import own_pod_templates
from kimi_linear_operator.weights.manifests import CHILDREN
from kimi_linear_operator.weights.preview import PREVIEW
from kimi_linear_operator.weights.readiness import facts
from kimi_linear_operator.weights.reconcile import WeightsReconciler
from kimi_linear_operator.weights.series import RESOURCE_METRICS, series


def _progress(status: Manifest) -> Progress | None:
    """Return how many percent of the bytes are on the volume, None if that is not known."""
    percent = status.get("percent")
    return Progress(percent, 100, "downloading" if percent < 100 else "complete") if isinstance(percent, int) else None


WEIGHTS_TYPE = ResourceType(
    definition=DEFINITION,
    checker=CHECKER,
    reconciler=WeightsReconciler,
    preview=PREVIEW,
    pod_templates=own_pod_templates,
    children=CHILDREN,
    observed=(POD,),
    metrics=RESOURCE_METRICS,
    series=series,
    facts=facts,
    # Weights have a few Jobs and pods. Users may have created thousands of similar objects.
    most_children=64,
    progress=_progress,
)
