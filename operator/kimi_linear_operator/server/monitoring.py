"""A server's objects for the Prometheus operator: a PodMonitor, and a PrometheusRule with alerts.

The metrics have the same names in SGLang 0.5.7 and 0.5.23 (srt/metrics/collector.py,
srt/observability/metrics_collector.py). /metrics needs no API key.
"""

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import POD_MONITOR, PROMETHEUS_RULE, Kind, Manifest
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.server import gpu_metrics, router
from kimi_linear_operator.server.deployment import wanted_replicas
from kimi_linear_operator.server.labels import SERVER_LABEL
from kimi_linear_operator.server.sglang import command_line, router_flags
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.spec.monitoring import Monitoring

# The used share of a pool at which the pool counts as full. At 1, SGLang takes memory back from running requests
# (scheduler.py, retract_decode).
_FULL = 0.95
# A failed start takes minutes, so this many restarts in an hour are not a coincidence.
_RESTARTS_IN_AN_HOUR = 2

# SGLang 0.5.23 defines about 120 counters and gauges, and 40 histograms with up to 30 buckets. One histogram has a
# series for each stage of a request (srt/observability/metrics_collector.py). Together, these are about 2,200 samples.
# If each of eight ranks exported all of them, there would be 17,000.
_MOST_SAMPLES = 20_000
# Prometheus reads an answer into memory before it counts the samples. A sample of SGLang takes about 250 bytes. The
# field for this limit came with release 0.73 of the Prometheus operator.
_LARGEST_ANSWER = "10MiB"


def sglang(metric: str, labels: str) -> str:
    """Return a PromQL selector of one of SGLang's metrics.

    Prometheus before 3.0 asks for OpenMetrics without UTF-8 in names. Recent versions of prometheus_client then replace
    the colon of `sglang:NAME` by an underscore (0.26: openmetrics/exposition.py).

    Args:
        metric: Its name, without `sglang:`.
        labels: The requirements on its labels.
    """
    return f'{{__name__=~"sglang[:_]{metric}", {labels}}}'


def build_pod_monitor(server: KimiLinearServer, monitoring: Monitoring) -> Manifest:
    """Return the PodMonitor. It has the name of the server.

    Args:
        server: The server.
        monitoring: Its spec.monitoring.
    """
    spec = {
        "selector": {"matchLabels": metadata.selector(server)},
        "podTargetLabels": [SERVER_LABEL],
        **_scrapes(command_line.PORT_NAME),
    }
    return _build(server, monitoring, POD_MONITOR, spec)


def build_router_monitor(server: KimiLinearServer, monitoring: Monitoring) -> Manifest:
    """Return the PodMonitor of the router's pods. It has the name of the router.

    Args:
        server: A server with a router.
        monitoring: Its spec.monitoring.
    """
    spec = {"selector": {"matchLabels": router.selector(server)}, **_scrapes(router_flags.METRICS_PORT_NAME)}
    return _build(server, monitoring, POD_MONITOR, spec, router.name_of(server))


def _scrapes(port: str) -> Manifest:
    """Return how Prometheus scrapes a port of pods.

    A pod can run any image. If Prometheus followed redirects, the pod could make it read any other address.
    """
    return {
        "podMetricsEndpoints": [{"port": port, "path": "/metrics", "followRedirects": False}],
        "sampleLimit": _MOST_SAMPLES,
        "bodySizeLimit": _LARGEST_ANSWER,
    }


def build_alerts(server: KimiLinearServer, monitoring: Monitoring) -> Manifest:
    """Return the PrometheusRule. It has the name of the server.

    Args:
        server: The server.
        monitoring: Its spec.monitoring.
    """
    meta = server.metadata
    rules = [_labelled(server, rule) for rule in _rules(server, monitoring)]
    group = {"name": f"kimi-linear-{meta.namespace}-{meta.name}", "rules": rules}
    return _build(server, monitoring, PROMETHEUS_RULE, {"groups": [group]})


def _build(server: KimiLinearServer, monitoring: Monitoring, kind: Kind, spec: Manifest, name: str = "") -> Manifest:
    """Return an object with the labels by which a Prometheus selects it. By default, it has the name of the server."""
    manifest = metadata.build_manifest(server, kind, name or server.metadata.name, spec=spec)
    manifest["metadata"]["labels"] = {**monitoring.labels, **manifest["metadata"]["labels"]}
    return manifest


def _rules(server: KimiLinearServer, monitoring: Monitoring) -> list[Manifest]:
    namespace = server.metadata.namespace
    pods = f'namespace="{namespace}", {gpu_metrics.SERVER}="{server.metadata.name}"'
    # A server without replicas serves nobody, and needs no alert.
    unserved = [_not_serving(server, pods)] if wanted_replicas(server.spec) else []
    always = [_stopped(pods), _restarts(server), *_load(pods, monitoring), *_pools(pods), _gpu_errors(namespace, pods)]
    return [*unserved, *always]


def _not_serving(server: KimiLinearServer, pods: str) -> Manifest:
    return {
        "alert": "KimiLinearNotServing",
        "expr": f"absent(up{{{pods}}} == 1)",
        # The time that a start can take.
        "for": f"{server.spec.startup.timeout_seconds}s",
        "labels": {"severity": "critical"},
        "annotations": {
            "summary": "No replica has answered for longer than a start may take.",
            "description": "`kimi-linear status` says what the server waits for, and what to do.",
        },
    }


def _stopped(pods: str) -> Manifest:
    return {
        "alert": "KimiLinearReplicaStopped",
        "expr": f"up{{{pods}}} == 0 and max_over_time(up{{{pods}}}[1h]) == 1",
        "for": "5m",
        "labels": {"severity": "warning"},
        "annotations": {
            "summary": "Pod {{ $labels.pod }} no longer answers.",
            "description": "The container restarts, or SGLang hangs. `kubectl logs --previous` shows why a container "
            "ended.",
        },
    }


def _restarts(server: KimiLinearServer) -> Manifest:
    # The pattern contains the suffixes that a Deployment and a ReplicaSet append to the name. Without them, it would
    # also match a server that is called NAME-x.
    pods = f"{server.metadata.name}-[0-9a-z]+-[0-9a-z]{{5}}"
    counter = (
        f'kube_pod_container_status_restarts_total{{namespace="{server.metadata.namespace}", pod=~"{pods}", '
        f'container="{ENGINE_CONTAINER}"}}'
    )
    return {
        "alert": "KimiLinearRestarts",
        "expr": f"increase({counter}[1h]) > {_RESTARTS_IN_AN_HOUR}",
        "labels": {"severity": "warning"},
        "annotations": {
            "summary": "SGLang in pod {{ $labels.pod }} has restarted {{ $value | humanize }} times within an hour.",
            "description": "`kimi-linear status` quotes the error. The server's `status.lastFailure` keeps it.",
        },
    }


def _load(pods: str, monitoring: Monitoring) -> list[Manifest]:
    """Return the alerts for a load that is too high for the replicas."""
    queue = sglang("num_queue_reqs", pods)
    first_token = sglang("time_to_first_token_seconds_bucket", pods)
    seconds = f"{monitoring.slow_first_token_seconds:g}"
    remedy = "Raise spec.replicas, or let clients send fewer requests at the same time."
    return [
        {
            "alert": "KimiLinearQueueGrows",
            "expr": f"max by (pod) (min_over_time({queue}[10m]) > 0 and deriv({queue}[10m]) > 0)",
            "for": "10m",
            "labels": {"severity": "warning"},
            "annotations": {
                "summary": "Requests wait in pod {{ $labels.pod }}, and their number has grown for 20 minutes.",
                "description": remedy,
            },
        },
        {
            "alert": "KimiLinearSlowFirstToken",
            "expr": f"histogram_quantile(0.9, sum by (le) (rate({first_token}[10m]))) > {seconds}",
            "for": "10m",
            "labels": {"severity": "warning"},
            "annotations": {
                "summary": f"One request in ten waits longer than {seconds} s for its first token.",
                "description": f"{remedy} spec.monitoring.slowFirstTokenSeconds sets the limit.",
            },
        },
    ]


def _pools(pods: str) -> list[Manifest]:
    """Return the alerts for two full pools of GPU memory.

    One pool is for keys and values, and the other for the states of the linear attention.
    """
    remedy = (
        "Requests wait for memory, or lose their memory and start again. Raise spec.replicas, or shorten the contexts."
    )
    return [
        {
            "alert": alert,
            "expr": f"max by (pod) ({sglang(metric, pods)}) > {_FULL}",
            "for": "10m",
            "labels": {"severity": "warning"},
            "annotations": {
                "summary": f"In pod {{{{ $labels.pod }}}}, {pool} is full: {{{{ $value | humanizePercentage }}}}.",
                "description": remedy,
            },
        }
        for alert, metric, pool in (
            ("KimiLinearCacheFull", "token_usage", "the cache of keys and values"),
            ("KimiLinearStatePoolFull", "mamba_usage", "the memory for the states of the linear attention"),
        )
    ]


def _gpu_errors(namespace: str, pods: str) -> Manifest:
    """Return the alert for uncorrectable errors. AMD's exporter also calls a GPU unhealthy after the first one."""
    return {
        "alert": "KimiLinearGPUErrors",
        "expr": f"{gpu_metrics.of_pods('gpu_ecc_uncorrect_total', namespace, pods)} > 0",
        "labels": {"severity": "warning"},
        "annotations": {
            "summary": "GPU {{ $labels.gpu_id }} of node {{ $labels.hostname }}, which pod {{ $labels.pod }} uses, has "
            "{{ $value | humanize }} uncorrectable errors.",
            "description": "The GPU has lost data, so SGLang can crash or give wrong answers. Cordon the node and "
            "delete the pod. Then reset the GPU or restart the node. If the errors come back, replace the GPU.",
        },
    }


def _labelled(server: KimiLinearServer, rule: Manifest) -> Manifest:
    """Return an alert with labels that name the server. The operator's own metrics have the same labels."""
    own = {"server": server.metadata.name, "server_namespace": server.metadata.namespace}
    return {**rule, "labels": {**rule["labels"], **own}}
