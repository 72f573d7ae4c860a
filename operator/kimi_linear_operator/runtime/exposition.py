"""All metrics as Prometheus reads them."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice

from prometheus_client import generate_latest

from kimi_linear_operator import metrics
from kimi_linear_operator.reconcile.cached_object import CachedObject
from kimi_linear_operator.reconcile.resource_type import Types

_LINES_AT_ONCE = 1000


def exposition(types: Types, objects: Sequence[CachedObject]) -> bytes:
    """Return the metrics of the operator, and those of the cached resources.

    Takes seconds where many benchmarks are kept, so it belongs into a thread; nothing of it needs the event loop.
    """
    lines = resource_lines(types, objects, datetime.now(UTC).isoformat())
    # In pieces, as joining and encoding tens of megabytes at once would keep the event loop from going on.
    pieces = iter(lambda: "".join(islice(lines, _LINES_AT_ONCE)).encode(), b"")
    return b"".join((generate_latest(metrics.REGISTRY), *pieces))


def resource_lines(types: Types, objects: Sequence[CachedObject], now: str) -> Iterator[str]:
    """Yield the lines about resources.

    Args:
        types: The resource types.
        objects: Everything that is cached.
        now: The time as RFC 3339.
    """
    for found in types.values():
        yield from found.series(objects, now)
