"""A resource type: all that the rest of the operator has to know of one kind of custom resource."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel

from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes.check import Checker
from kimi_linear_operator.kubernetes.crd import Definition
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.plan import Step, plan
from kimi_linear_operator.reconcile.cache import Cache, Index
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.reconcile.children import Children
from kimi_linear_operator.reconcile.reporting import Reporting


@dataclass(frozen=True)
class Options:
    """What an administrator chooses for all resources.

    Attributes:
        allows_node_access: Whether pods may reach beyond themselves.
        rollout_pause: How many seconds to wait between two servers when new pod templates are rolled out to all; None
            if they are only offered.
    """

    allows_node_access: bool = False
    rollout_pause: float | None = None


def _nobody(_: Iterable[Key]) -> None:
    return


def _never(_: Key) -> bool:
    return False


@dataclass(frozen=True)
class Scheduling:
    """How a pass asks for other passes.

    Attributes:
        enqueue: Asks for passes over other resources.
        postpone: Lets others go first, if any wait; returns whether the resource will have another pass then.
    """

    enqueue: Callable[[Iterable[Key]], None] = _nobody
    postpone: Callable[[Key], bool] = _never


@dataclass(frozen=True)
class Context:
    """What the reconcilers of all types work with.

    Attributes:
        cluster: Where objects are written.
        cache: Where objects are read.
        children: Writes what belongs to a resource.
        reporting: Writes the status of a resource.
        now: Returns the time as RFC 3339.
        scheduling: How a pass asks for others.
        is_in_use: Whether a resource of another type needs this one to stay as it is.
        written: The kinds of objects that the operator writes for resources of any type.
        options: What the administrator has chosen.
    """

    cluster: Cluster
    cache: Cache
    children: Children
    reporting: Reporting
    now: Callable[[], str]
    scheduling: Scheduling
    is_in_use: Callable[[Key], bool]
    written: tuple[Kind, ...]
    options: Options


class Reconciler(Protocol):
    """Brings the resources of one type to the state that their specs ask for."""

    async def reconcile(self, key: Key, failures: int) -> float | None:
        """Make one pass over a resource; return after how many seconds it is due again, if at all.

        Args:
            key: Which resource.
            failures: How many passes over it before failed in a row.

        Raises:
            ApiError: The API server could not do its part; a later pass will find out what is left to do.
        """

    async def run(self, is_settled: Callable[[], bool]) -> None:
        """Do what no single resource asks for, for as long as this replica leads.

        Args:
            is_settled: Whether everything was read that can be.
        """


def _no_facts(_: Kind, __: Manifest) -> None:
    return None


def _no_references(_: Resource) -> Mapping[str, Key]:
    return {}


def _refers_to_nothing(_: Cache, __: Key) -> tuple[Kind, ...]:
    return ()


def _uses_nothing(_: Cache, __: Key, ___: str) -> bool:
    return False


Found = Mapping[Key, Resource]
"""Resources that others refer to, by their keys."""


@dataclass(frozen=True)
class Preview:
    """What the command line shows of a resource before it is applied.

    Attributes:
        build: Returns the objects that it would have if it were new.
        as_stored: Returns a resource of a file as it would be stored, given what is stored now, if anything.
        desired: Returns the objects that it should have, given those that have its label now.
        references: Returns the resources that these objects depend on, by the field that names each.
        plan: Returns what has to be done.
    """

    build: Callable[[Any, Found], list[Manifest]]
    as_stored: Callable[[Any, Manifest | None], Any]
    desired: Callable[[Any, Sequence[Manifest], Found], list[Manifest]]
    references: Callable[[Any], Mapping[str, Key]] = _no_references
    plan: Callable[[Any, Sequence[Manifest], Sequence[Manifest]], list[Step]] = plan


@dataclass(frozen=True)
class ResourceType:
    """One kind of custom resource.

    Attributes:
        definition: What the API server has to know of it.
        checker: Checks such a resource.
        reconciler: Makes what reconciles such resources.
        preview: What the command line shows of one.
        pod_template: Returns the pod template as far as a spec decides it.
        children: The kinds of objects that the operator writes for it.
        observed: The kinds of objects that it only reads.
        series: Yields the lines of the metrics about such resources, given everything that is cached, and the time.
        facts: Returns what is asked of such a resource or of a child of one so often that it is read once, if anything.
        index: Makes what finds such resources by their facts, if anything does.
        most_children: How many children of a kind one pass reads, None if only their size is bounded.
        referenced: The kinds of other resources that such a resource may refer to.
        refers_to: Returns those that a resource refers to now.
        needs_everything: Whether a pass has to know all that can be read, in every namespace.
        uses: Whether such a resource needs another one to stay as it is now.
    """

    definition: Definition
    checker: Checker[Any]
    reconciler: Callable[[Context], Reconciler]
    preview: Preview
    pod_template: Callable[[Any], Manifest]
    children: tuple[Kind, ...]
    observed: tuple[Kind, ...]
    series: Callable[[Sequence[CachedObject], str], Iterator[str]]
    facts: Callable[[Kind, Manifest], object | None] = _no_facts
    index: Callable[[Cache], Index] | None = None
    most_children: int | None = None
    referenced: tuple[Kind, ...] = ()
    refers_to: Callable[[Cache, Key], tuple[Kind, ...]] = _refers_to_nothing
    needs_everything: bool = False
    uses: Callable[[Cache, Key, str], bool] = _uses_nothing

    @property
    def model(self) -> type[Resource]:
        """Return the resource."""
        return self.definition.model

    @property
    def status(self) -> type[BaseModel]:
        """Return the status of the resource."""
        return self.definition.status

    @property
    def kind(self) -> Kind:
        """Return the kind of the resource."""
        return self.definition.model.KIND

    @property
    def own_kinds(self) -> tuple[Kind, ...]:
        """Return the kinds of objects without which no pass over such a resource may be made."""
        return (self.kind, *self.children, *self.observed)


Types = Mapping[Kind, ResourceType]
"""Resource types by their kinds."""


def written_kinds(types: Types) -> tuple[Kind, ...]:
    """Return the kinds of objects that the operator writes for resources of any type."""
    return tuple(dict.fromkeys(kind for found in types.values() for kind in found.children))


def kinds_of_children(types: Types) -> tuple[Kind, ...]:
    """Return the kinds of objects of all types, resources aside: first those that are written."""
    observed = (kind for found in types.values() for kind in found.observed)
    return tuple(dict.fromkeys((*written_kinds(types), *observed)))
