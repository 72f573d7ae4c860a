"""The entry of KimiLinearWeights in the registry of resource types."""

from kimi_linear_operator.kubernetes.kinds import POD
from kimi_linear_operator.reconcile.resource_type import ResourceType
from kimi_linear_operator.weights.definition import CHECKER, DEFINITION
from kimi_linear_operator.weights.job import own_pod_template
from kimi_linear_operator.weights.manifests import CHILDREN
from kimi_linear_operator.weights.preview import PREVIEW
from kimi_linear_operator.weights.reconcile import WeightsReconciler
from kimi_linear_operator.weights.series import series

WEIGHTS_TYPE = ResourceType(
    definition=DEFINITION,
    checker=CHECKER,
    reconciler=WeightsReconciler,
    preview=PREVIEW,
    pod_template=own_pod_template,
    children=CHILDREN,
    observed=(POD,),
    series=series,
    # A few Jobs and pods. Others may have made thousands that look like them.
    most_children=64,
)
