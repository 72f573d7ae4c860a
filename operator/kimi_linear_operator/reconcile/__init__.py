"""One pass over one resource: read, check, build, apply, report."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from kimi_linear_operator.cluster import Cluster
from kimi_linear_operator.reconcile.benchmark import BenchmarkReconciler
from kimi_linear_operator.reconcile.children import Children
from kimi_linear_operator.reconcile.reporting import Reporting
from kimi_linear_operator.reconcile.server import ServerReconciler
from kimi_linear_operator.reconcile.waking import Waking
from kimi_linear_operator.resources import SERVER
from kimi_linear_operator.store import Key, Store


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _nobody(_: Iterable[Key]) -> None:
    return


def _never(_: Key) -> bool:
    return False


@dataclass
class Reconciler:
    """Brings servers and benchmarks to the state that their specs ask for.

    Attributes:
        cluster: Where objects are written.
        store: Where objects are read.
        now: The time as RFC 3339.
        concern: Called with other resources that a pass concerns: they are due, too.
        allows_node_access: Whether pods may reach beyond themselves.
        postpone: Lets others go first, if any wait; returns whether the resource will have another pass then.
    """

    cluster: Cluster
    store: Store
    now: Callable[[], str] = _now
    concern: Callable[[Iterable[Key]], None] = _nobody
    allows_node_access: bool = False
    postpone: Callable[[Key], bool] = _never
    _servers: ServerReconciler = field(init=False)
    _benchmarks: BenchmarkReconciler = field(init=False)

    def __post_init__(self) -> None:
        """Take the same cluster, store and clock for every kind."""
        children = Children(self.cluster, self.store)
        reporting = Reporting(self.cluster, self.store, self.concern, self.now)
        waking, allowed = Waking(self.cluster, self.store, self.now), self.allows_node_access
        self._servers = ServerReconciler(
            self.cluster, self.store, children, reporting, waking, self.now, self.postpone, allowed
        )
        self._benchmarks = BenchmarkReconciler(self.cluster, self.store, children, reporting, self.now, allowed)

    @property
    def chosen(self) -> set[Key]:
        """Return the servers that are to take the newest pod template in their next pass; may be added to."""
        return self._servers.chosen

    async def reconcile(self, key: Key, failures: int = 0) -> float | None:
        """Make one pass over a resource; return after how many seconds it is due again, if at all.

        Args:
            key: Which resource.
            failures: How many passes over it before failed in a row.

        Raises:
            ApiError: The API server could not do its part; a later pass will find out what is left to do.
        """
        if key.kind == SERVER:
            return await self._servers.reconcile(key, failures)
        return await self._benchmarks.reconcile(key, failures)
