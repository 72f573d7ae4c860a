"""The entry of KimiLinearServer in the registry of resource types."""

from kimi_linear_operator.kubernetes.kinds import POD
from kimi_linear_operator.reconcile.resource_type import ResourceType
from kimi_linear_operator.server.definition import CHECKER, DEFINITION
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.manifests import CHILDREN
from kimi_linear_operator.server.preview import PREVIEW
from kimi_linear_operator.server.reconcile import ServerReconciler
from kimi_linear_operator.server.series import series
from kimi_linear_operator.server.startup import progress

SERVER_TYPE = ResourceType(
    definition=DEFINITION,
    checker=CHECKER,
    reconciler=ServerReconciler,
    preview=PREVIEW,
    pod_template=build_pod_template,
    children=CHILDREN,
    observed=(POD,),
    series=series,
    progress=progress,
)
