"""Metrics about servers."""

from collections.abc import Iterable, Iterator, Sequence

from kimi_linear_operator.reconcile.cached_object import CachedObject
from kimi_linear_operator.reconcile.series import by_condition, head, labels
from kimi_linear_operator.server.events import WITHOUT_REPLICAS
from kimi_linear_operator.server.spec import SERVER


def series(objects: Sequence[CachedObject], _: str) -> Iterator[str]:
    """Yield the lines about servers: how many are in which condition, and which are ready."""
    servers = [found for found in objects if found.key.kind == SERVER]
    yield from by_condition("kimi_linear_servers", "Servers by condition", servers)
    yield from _ready(servers)


def _ready(servers: Iterable[CachedObject]) -> Iterator[str]:
    name = "kimi_linear_server_ready"
    yield head(name, "1 if all replicas of the server serve; servers that are to have none are left out")
    for found in servers:
        of = labels({"server": found.key.name, "server_namespace": found.key.namespace})
        for condition, status, reason in found.conditions:
            if condition == "Ready" and reason not in WITHOUT_REPLICAS:
                yield f"{name}{{{of}}} {float(status == 'True')}\n"
