"""Creates the reconcilers of all resource types with their shared context, and lets them make passes."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes.kinds import Kind
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.children import Children
from kimi_linear_operator.reconcile.decoded import decoded_once
from kimi_linear_operator.reconcile.reporting import Reporting
from kimi_linear_operator.reconcile.resource_type import Context, Options, Reconciler, Scheduling, Types


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shared_context(
    types: Types,
    cluster: Cluster,
    cache: Cache,
    *,
    options: Options,
    scheduling: Scheduling,
    now: Callable[[], str] = _now,
) -> Context:
    """Return the shared context of the reconcilers.

    Args:
        types: The resource types.
        cluster: Where objects are written.
        cache: Where objects are read.
        options: The administrator's choices.
        scheduling: How a pass requests other passes.
        now: Returns the time as RFC 3339.
    """
    return Context(
        cluster=cluster,
        cache=cache,
        children=Children(cluster, cache, scheduling.enqueue, has_read=scheduling.has_read),
        reporting=Reporting(cluster, cache, scheduling.enqueue, now),
        now=now,
        scheduling=scheduling,
        is_in_use=lambda key: any(item.uses(cache, key, now()) for item in types.values()),
        options=options,
    )


def reconcilers(types: Types, context: Context) -> dict[Kind, Reconciler]:
    """Return the reconcilers of all types, by kind."""
    return {kind: resource_type.reconciler(context) for kind, resource_type in types.items()}


async def make_pass(by_kind: Mapping[Kind, Reconciler], key: Key, failures: int) -> float | None:
    """Make one pass over a resource of any type.

    Args:
        by_kind: The reconcilers.
        key: The key of the resource.
        failures: How many passes over it have failed in a row.

    Returns:
        The seconds until the resource is requeued, None for no requeue.

    Raises:
        ApiError: A request failed. A later pass does the rest.
        NotReadYetError: It is not known yet whether a kind that the resource asks for can be read.
    """
    with decoded_once():
        return await by_kind[key.kind].reconcile(key, failures)
