"""How Prometheus watches a server."""

from typing import Annotated

from pydantic import Field

from kimi_linear_operator.kubernetes.models import Labels, Model


class Monitoring(Model):
    """How Prometheus watches the server."""

    labels: Labels = Field(
        default={},
        description="Labels of the PodMonitor and the PrometheusRule, by which a Prometheus selects them. A Prometheus "
        "that the chart kube-prometheus-stack has installed selects the label release: NAME, where NAME is its Helm "
        "release.",
    )
    slow_first_token_seconds: Annotated[float, Field(gt=0, le=400)] = Field(
        default=5,
        description="If one request in ten waits longer for its first token, an alert fires. With 100 requests at a "
        "time, the recipe measured 2.7 s for the slowest in a hundred.",
    )
