"""All metrics in the text format of Prometheus."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice

from prometheus_client import generate_latest

from kimi_linear_operator import counters
from kimi_linear_operator.reconcile.cached_object import CachedObject
from kimi_linear_operator.reconcile.resource_type import Types

_LINES_AT_ONCE = 1000


def exposition(types: Types, objects: Sequence[CachedObject]) -> Iterator[bytes]:
    """Yield the metrics of the operator and of the cached resources, in pieces.

    With many benchmarks, all pieces together are tens of megabytes and take seconds. Each piece takes some
    milliseconds. Any thread can make them.
    """
    yield generate_latest(counters.REGISTRY)
    lines = resource_lines(types, objects, datetime.now(UTC).isoformat())
    yield from iter(lambda: "".join(islice(lines, _LINES_AT_ONCE)).encode(), b"")


def resource_lines(types: Types, objects: Sequence[CachedObject], now: str) -> Iterator[str]:
    """Yield the lines of the metrics about resources.

    Args:
        types: The resource types.
        objects: Everything that is cached.
        now: The time as RFC 3339.
    """
    for resource_type in types.values():
        yield from resource_type.series(objects, now)
