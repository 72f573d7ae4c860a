"""One pass over one resource: read, check, build, apply, report."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from kimi_linear_operator.cluster import Cluster
from kimi_linear_operator.reconcile.benchmark import BenchmarkReconciler
from kimi_linear_operator.reconcile.server import ServerReconciler
from kimi_linear_operator.resources import SERVER
from kimi_linear_operator.store import Key, Store


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Reconciler:
    """Brings servers and benchmarks to the state that their specs ask for.

    Attributes:
        cluster: Where objects are written.
        store: Where objects are read.
        now: The time as RFC 3339.
    """

    cluster: Cluster
    store: Store
    now: Callable[[], str] = _now
    _servers: ServerReconciler = field(init=False)
    _benchmarks: BenchmarkReconciler = field(init=False)

    def __post_init__(self) -> None:
        """Take the same cluster, store and clock for every kind."""
        self._servers = ServerReconciler(self.cluster, self.store, self.now)
        self._benchmarks = BenchmarkReconciler(self.cluster, self.store, self.now)

    async def reconcile(self, key: Key) -> float | None:
        """Make one pass over a resource; return after how many seconds it is due again, if at all.

        Raises:
            ApiError: The API server could not do its part; a later pass will find out what is left to do.
        """
        return await (self._servers if key.kind == SERVER else self._benchmarks).reconcile(key)
