"""The ScaledObject of a server: KEDA scales the server by the load, and to zero replicas if the spec allows it.

KEDA creates a HorizontalPodAutoscaler for one replica and more. Only the steps from zero to one replica and back are
KEDA's own.
"""

from dataclasses import dataclass

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import SCALED_OBJECT, Manifest
from kimi_linear_operator.server import router
from kimi_linear_operator.server.autoscaler import NO_LIMITS, Limits, behaviour, most_replicas, scale_target
from kimi_linear_operator.server.monitoring import sglang
from kimi_linear_operator.server.sleeping import may_sleep
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.spec.autoscaling import Autoscaling, Keda

# Prometheus scrapes every 30 s or more often in most clusters, and KEDA looks every 30 s by default.
_WINDOW = "2m"


@dataclass(frozen=True)
class _Query:
    """What KEDA asks Prometheus.

    Attributes:
        name: The name of the trigger.
        text: The query.
        target: The result for each replica.
        is_strict: Whether an empty result is an error. Otherwise it counts as 0.
    """

    name: str
    text: str
    target: int
    is_strict: bool


def build_scaled_object(server: KimiLinearServer, limits: Limits = NO_LIMITS) -> Manifest:
    """Return the ScaledObject. It has the name of the server.

    Args:
        server: The server. It has `spec.autoscaling.keda`.
        limits: What KEDA may do now.
    """
    scaling = server.spec.autoscaling
    assert scaling  # noqa: S101 - see `manifests.py`
    keda = scaling.keda
    assert keda  # noqa: S101 - see `manifests.py`
    queries = [*_load(server, scaling, may_grow=limits.may_grow), *_wake(server, keda)]
    spec = {
        "scaleTargetRef": scale_target(server),
        "minReplicaCount": scaling.min_replicas if limits.may_sleep else max(scaling.min_replicas, 1),
        "maxReplicaCount": most_replicas(server.spec, scaling, may_grow=limits.may_grow),
        **_pauses(server, keda),
        "triggers": [_trigger(keda, query) for query in queries],
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behaviour(server.spec, scaling)}},
    }
    return metadata.build_manifest(server, SCALED_OBJECT, server.metadata.name, spec=spec)


def _pauses(server: KimiLinearServer, keda: Keda) -> Manifest:
    """Return when the last replica is removed. A new server also has this time before its first request."""
    if not may_sleep(server.spec):
        return {}
    return {"cooldownPeriod": keda.idle_seconds, "initialCooldownPeriod": keda.idle_seconds}


def _load(server: KimiLinearServer, scaling: Autoscaling, *, may_grow: bool) -> list[_Query]:
    """Return the queries for the load of the replicas.

    While a replica starts, SGLang may have no metrics yet. At other times, a server without metrics is not idle:
    Prometheus does not scrape it.
    """
    pods, target = _pods_of(server, server.metadata.name), scaling.target
    queue, running = (f"sum({sglang(name, pods)})" for name in ("num_queue_reqs", "num_running_reqs"))
    return [
        _Query("queued-requests", queue, target.queued_requests, is_strict=may_grow),
        _Query("running-requests", running, target.running_requests, is_strict=may_grow),
    ]


def _wake(server: KimiLinearServer, keda: Keda) -> list[_Query]:
    """Return the query that wakes the server, if it may sleep.

    The result is 0 or 1, so that the number of requests never asks for a second replica.
    """
    if not may_sleep(server.spec):
        return []
    # A query of a user can end with a comment, which ends only with its line.
    requests = f"{keda.wake_query}\n" if keda.wake_query else _routed_requests(server)
    text = f"max(({requests}) > bool 0)"
    return [_Query("requests", text, 1, is_strict=not keda.wake_query)]


def _routed_requests(server: KimiLinearServer) -> str:
    """Return a query for the requests that the router has received lately. Without a scraped router, it has no result.

    The counter also counts requests that find no replica (sglang_router 0.3.0 to 0.3.2). It does not exist before the
    first request, and `increase` does not see the first value of a counter.
    """
    pods = _pods_of(server, router.name_of(server))
    counter = f"smg_router_requests_total{{{pods}}}"
    lately = f"{counter} unless {counter} offset {_WINDOW} or increase({counter}[{_WINDOW}])"
    return f"sum({lately}) or sum(up{{{pods}}} * 0)"


def _pods_of(server: KimiLinearServer, deployment: str) -> str:
    """Return the labels of the series about a Deployment's pods.

    The names of servers and namespaces contain no character that PromQL would have to escape. In the pod of a
    Deployment with a long name, the hash and the dash after it are cut off (`maxGeneratedNameLength` of Kubernetes).
    """
    return f'namespace="{server.metadata.namespace}", pod=~"{deployment}-[a-z0-9]*-?[a-z0-9]{{5}}"'


def _trigger(keda: Keda, query: _Query) -> Manifest:
    details = {
        "serverAddress": keda.prometheus_address,
        "query": query.text,
        "threshold": str(query.target),
        "ignoreNullValues": "false" if query.is_strict else "true",
    }
    trigger = {"type": "prometheus", "name": query.name, "metadata": details}
    if not (access := keda.authentication):
        return trigger
    reference = {"name": access.trigger_authentication}
    return {**trigger, "metadata": {**details, "authModes": ",".join(access.modes)}, "authenticationRef": reference}
