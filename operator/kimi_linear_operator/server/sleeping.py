"""Servers that KEDA may scale to zero replicas, and what wakes them."""

from kimi_linear_operator.server.deployment import wanted_replicas
from kimi_linear_operator.server.revision import Revision
from kimi_linear_operator.server.spec import ServerSpec
from kimi_linear_operator.server.spec.autoscaling import Keda


def keda_of(spec: ServerSpec) -> Keda | None:
    """Return the settings for KEDA, None if KEDA does not scale the server."""
    return spec.autoscaling.keda if spec.autoscaling else None


def may_sleep(spec: ServerSpec) -> bool:
    """Return whether KEDA may scale a server to zero replicas."""
    scaling = spec.autoscaling
    return bool(scaling and keda_of(spec) and scaling.min_replicas == 0 and not spec.suspend)


def is_asleep(spec: ServerSpec) -> bool:
    """Return whether a server has no replicas until a request arrives.

    KEDA also wakes a server whose `replicas` a user has set to zero. `suspend` switches a server off.
    """
    return may_sleep(spec) and spec.replicas == 0


def is_woken_by_router(spec: ServerSpec) -> bool:
    """Return whether the router notices the requests that wake the server. The router then runs without replicas."""
    keda = keda_of(spec)
    return bool(spec.router and may_sleep(spec) and keda and not keda.wake_query)


def awaits_replicas(spec: ServerSpec, current: Revision) -> bool:
    """Return whether an automatic rollout waits for the replicas of a server that has none.

    If KEDA has removed replicas that have not served long enough, other replicas have to serve. `suspend` ends the
    wait, and so does `replicas: 0` without KEDA.
    """
    return wanted_replicas(spec) > 0 or (is_asleep(spec) and not current.was_asleep)
