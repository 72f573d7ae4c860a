"""Makes passes over resources of any type, like the running operator."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from kimi_linear_operator.benchmark.index import BenchmarkIndex
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.kinds import Kind
from kimi_linear_operator.kubernetes.spec_check import SpecCheck
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key, Reader
from kimi_linear_operator.reconcile.resource_type import (
    Context,
    Options,
    Scheduling,
    kinds_of_children,
    optional_kinds,
    written_kinds,
)
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.dispatch import make_pass, reconcilers, shared_context
from kimi_linear_operator.runtime.scopes import Scopes
from kimi_linear_operator.server.definition import CHECKER
from kimi_linear_operator.server.manifests import build_pod_templates

READER = Reader(TYPES)

RESOURCES = tuple(TYPES)
"""The kinds of our resources."""

CHILDREN = kinds_of_children(TYPES)
"""The kinds of all other objects that the operator reads."""

OPTIONAL = optional_kinds(TYPES)
"""The kinds that affect only resources that ask for them."""

WRITTEN = written_kinds(TYPES)
"""The kinds of the objects that it writes."""


SERVER_CHECK = SpecCheck(CHECKER, build_pod_templates, allows_node_access=False)
"""The check of servers, if the administrator allows no access beyond the pod."""


def new_cache() -> Cache:
    """Return an empty cache of all resource types."""
    return Cache(TYPES)


def index_of(cache: Cache) -> BenchmarkIndex:
    """Return the benchmarks of a cache by what they measure."""
    return cache.index(BenchmarkIndex)


def new_scopes(namespaces: list[str]) -> Scopes:
    """Return the scopes of all kinds that the operator reads in some namespaces. Nothing has been read yet."""
    return Scopes(namespaces, (*CHILDREN, *RESOURCES), OPTIONAL)


def check_stored(manifest: Mapping[str, Any]) -> Checked[Any]:
    """Check a resource of any type as the API server stores it."""
    checkers = {found.kind.kind: found.checker for found in TYPES.values()}
    return checkers.get(str(manifest.get("kind")), checkers["KimiLinearServer"]).check_stored(manifest)


def tell_nobody(_: Iterable[Key]) -> None:
    """Enqueue nothing."""


def has_read_all(_: str, __: Iterable[Kind]) -> bool:
    """Say that everything is read."""
    return True


def make_context(cluster: object, cache: Cache, *, options: Options | None = None, **more: Any) -> Context:
    """Return the context of reconcilers. `now`, `enqueue` and `postpone` can be given."""
    timed = {"now": more.pop("now")} if "now" in more else {}
    return shared_context(
        TYPES, cast(Cluster, cluster), cache, options=options or Options(), scheduling=Scheduling(**more), **timed
    )


class Passes:
    """Makes single passes over the resources of a cache."""

    def __init__(
        self,
        cluster: object,
        cache: Cache,
        *,
        allows_node_access: bool = False,
        rollout_pause: float | None = None,
        **more: Any,
    ) -> None:
        options = Options(allows_node_access=allows_node_access, rollout_pause=rollout_pause)
        self._reconcilers = reconcilers(TYPES, make_context(cluster, cache, options=options, **more))

    async def reconcile(self, key: Key, failures: int = 0) -> float | None:
        return await make_pass(self._reconcilers, key, failures)
