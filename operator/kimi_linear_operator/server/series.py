"""Metrics about servers."""

from collections.abc import Iterable, Iterator, Sequence

from kimi_linear_operator.reconcile.cached_object import CachedObject
from kimi_linear_operator.reconcile.series import CONDITION_LABELS, ResourceMetric, by_condition, labels
from kimi_linear_operator.server.events import WITHOUT_REPLICAS
from kimi_linear_operator.server.spec import SERVER

_BY_CONDITION = ResourceMetric("kimi_linear_servers", "Servers by condition", CONDITION_LABELS)
_READY = ResourceMetric(
    "kimi_linear_server_ready",
    "1 if all replicas of the server serve. Servers that should have no replicas are left out",
    ("server", "server_namespace"),
)
RESOURCE_METRICS = (_BY_CONDITION, _READY)
"""All metrics about servers."""


def series(objects: Sequence[CachedObject], _: str) -> Iterator[str]:
    """Yield the metric lines about servers: the number with each condition, and which servers are ready."""
    servers = [cached for cached in objects if cached.key.kind == SERVER]
    yield from by_condition(_BY_CONDITION, servers)
    yield from _ready(servers)


def _ready(servers: Iterable[CachedObject]) -> Iterator[str]:
    yield _READY.head()
    for server in servers:
        label_text = labels({"server": server.key.name, "server_namespace": server.key.namespace})
        for condition, status, reason in server.conditions:
            if condition == "Ready" and reason not in WITHOUT_REPLICAS:
                yield f"{_READY.name}{{{label_text}}} {float(status == 'True')}\n"
