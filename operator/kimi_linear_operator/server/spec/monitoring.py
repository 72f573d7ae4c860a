"""How Prometheus watches a server."""

from typing import Annotated

from pydantic import Field

from kimi_linear_operator.kubernetes.models import Labels, Model


class Monitoring(Model):
    """How Prometheus watches the server."""

    labels: Labels = Field(
        default={},
        description="Labels of the PodMonitor and the PrometheusRule. Prometheus selects these objects by labels. "
        "With the chart kube-prometheus-stack, the label is release: NAME, where NAME is the Helm release.",
    )
    slow_first_token_seconds: Annotated[float, Field(gt=0, le=400)] = Field(
        default=5,
        description="An alert fires if one request in ten waits longer than this many seconds for its first token. "
        "With 100 requests at the same time, the recipe measured 2.7 s for the slowest request in a hundred.",
    )
