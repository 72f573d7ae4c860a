"""One pass over one benchmark."""

from collections.abc import Callable
from dataclasses import dataclass

from kimi_linear_operator.cluster import Cluster
from kimi_linear_operator.store import Key, Store


@dataclass
class BenchmarkReconciler:
    """Runs the suites of benchmarks one after the other and judges them.

    Attributes:
        cluster: Where objects are written.
        store: Where objects are read.
        now: The time as RFC 3339.
    """

    cluster: Cluster
    store: Store
    now: Callable[[], str]

    async def reconcile(self, key: Key) -> float | None:
        """Make one pass over a benchmark; return after how many seconds it is due again, if at all."""
        return None
