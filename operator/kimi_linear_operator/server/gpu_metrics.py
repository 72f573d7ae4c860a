"""PromQL about the GPUs of a server's pods, with the metrics of AMD's Device Metrics Exporter.

Version 1.5.2 of the exporter writes the labels `pod`, `namespace`, `container`, `gpu_id` and `hostname` (the node) at
every metric of a GPU (pkg/amdgpu/gpuagent/gpuagent_gpu_metrics.go). If no pod uses the GPU, the first three are empty.
"""

from kimi_linear_operator.server.labels import SERVER_LABEL

SERVER = SERVER_LABEL.replace("-", "_").replace(".", "_").replace("/", "_")
"""The label of a server's pods as Prometheus names it.

https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels
"""


def of_pods(metric: str, namespaces: str, pods: str, labels: str = "") -> str:
    """Return a PromQL expression for a metric of the GPUs that pods use, with one series for each GPU.

    With `honorLabels: true`, the exporter's labels of the pod keep their names. This is the default of the exporter's
    chart and of AMD's GPU operator. Without it, Prometheus renames them to `exported_pod` and `exported_namespace`.
    The expression accepts both forms. It also accepts names with a prefix, because the exporter can add one.

    A pod of a server can return any metrics. So the expression ignores what a PodMonitor of a server has read.

    Args:
        metric: Its name, without a prefix.
        namespaces: A regular expression for the namespaces of the pods.
        pods: The requirements on the labels of the metric `up`. They select the pods.
        labels: More requirements on the labels of the metric.
    """
    read = f'__name__=~".*{metric}", gpu_id!="", {SERVER}=""' + (f", {labels}" if labels else "")
    kept = f'{{{read}, namespace=~"{namespaces}"}}'
    renamed = f'{{{read}, exported_namespace=~"{namespaces}"}}'
    for label in ("namespace", "pod"):
        renamed = f'label_replace({renamed}, "{label}", "$1", "exported_{label}", "(.+)")'
    return f"(max by (namespace, pod, gpu_id, hostname) ({kept} or {renamed}) and on (namespace, pod) up{{{pods}}})"
