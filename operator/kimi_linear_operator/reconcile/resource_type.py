"""A resource type: everything that the rest of the operator needs to know about one kind of custom resource."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.check import Checker
from kimi_linear_operator.kubernetes.crd import Definition
from kimi_linear_operator.kubernetes.goal import READY, Goal, Progress
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.kubernetes.models import Resource, Status
from kimi_linear_operator.kubernetes.plan import Step, plan
from kimi_linear_operator.reconcile.cache import Cache, Index
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.reconcile.children import Children, HasRead, has_read_all
from kimi_linear_operator.reconcile.log_reads import LogReads
from kimi_linear_operator.reconcile.reporting import Reporting
from kimi_linear_operator.reconcile.series import ResourceMetric


@dataclass(frozen=True)
class Options:
    """The administrator's choices for all resources.

    Attributes:
        allows_node_access: Whether pods may have access to their node.
        rollout_pause: Seconds between the rollouts to two servers in an automatic rollout. None without an automatic
            rollout: the operator then only offers new templates.
    """

    allows_node_access: bool = False
    rollout_pause: float | None = None


def _enqueue_nothing(_: Iterable[Key]) -> None:
    return


def _never_postpone(_: Key) -> bool:
    return False


def _reads_all(_: Key, __: Collection[Kind]) -> Mapping[Kind, ApiError]:
    return {}


@dataclass(frozen=True)
class Scheduling:
    """How a pass requests other passes, and which passes are possible.

    Attributes:
        enqueue: Enqueues other resources.
        postpone: Requeues a resource behind the waiting resources. If none waits, returns False and does nothing.
        has_read: Returns whether all objects of some kinds in a namespace are read now. If they are not, there is no
            pass over a resource that needs them.
        ask: Notes which optional kinds a resource asks for now. Returns the kinds that cannot be read, each with the
            error. Raises NotReadYetError if this is unknown yet.
    """

    enqueue: Callable[[Iterable[Key]], None] = _enqueue_nothing
    postpone: Callable[[Key], bool] = _never_postpone
    has_read: HasRead = has_read_all
    ask: Callable[[Key, Collection[Kind]], Mapping[Kind, ApiError]] = _reads_all


@dataclass(frozen=True)
class Context:
    """The shared context of the reconcilers of all types.

    Attributes:
        cluster: Where objects are written.
        cache: Where objects are read.
        children: Writes the children of a resource.
        reporting: Writes the status of a resource.
        now: Returns the time as RFC 3339.
        scheduling: How a pass requests other passes.
        is_in_use: Returns whether a resource of any type needs this resource to stay unchanged.
        options: The administrator's choices.
        about_to_change: Resources in an automatic rollout. No other resource may begin to use them.
        log_reads: The places for reads of logs.
    """

    cluster: Cluster
    cache: Cache
    children: Children
    reporting: Reporting
    now: Callable[[], str]
    scheduling: Scheduling
    is_in_use: Callable[[Key], bool]
    options: Options
    about_to_change: set[Key] = field(default_factory=set)
    log_reads: LogReads = field(default_factory=LogReads)


class Reconciler(Protocol):
    """Reconciles the resources of one type."""

    async def reconcile(self, key: Key, failures: int) -> float | None:
        """Make one pass over a resource.

        Args:
            key: The key of the resource.
            failures: How many passes over it have failed in a row.

        Returns:
            The seconds until the resource is requeued, None for no requeue.

        Raises:
            ApiError: A request failed. A later pass does the rest.
        """

    async def run(self, has_read_everything: Callable[[], bool], unreadable: Callable[[], Sequence[str]]) -> None:
        """Do the work that is not about a single resource, while this replica leads.

        Args:
            has_read_everything: Returns whether everything that can be read was read.
            unreadable: Returns the scopes that cannot be read, as text.
        """


def _no_progress(_: Manifest) -> None:
    return None


def _no_facts(_: Kind, __: Manifest) -> None:
    return None


def _no_pods(_: Manifest) -> tuple[str, ...]:
    return ()


def _no_references(_: Resource) -> Mapping[str, Key]:
    return {}


def _refers_to_nothing(_: Cache, __: Key) -> tuple[Kind, ...]:
    return ()


def _uses_nothing(_: Cache, __: Key, ___: str) -> bool:
    return False


Referenced = Mapping[Key, Resource]
"""Resources to which others refer, by key."""


@dataclass(frozen=True)
class Preview:
    """The preview of a resource on the command line, before it is applied.

    Attributes:
        build: Returns the children of a new resource.
        as_stored: Returns a resource from a file as the API server would store it. If there is a live resource, the
            result replaces it.
        desired: Returns the wanted children, given the live objects with the resource's label.
        references: Returns the keys of the resources on which the children depend. Each key has the field that names
            the resource.
        plan: Returns the steps to the wanted children.
    """

    build: Callable[[Any, Referenced], list[Manifest]]
    as_stored: Callable[[Any, Manifest | None], Any]
    desired: Callable[[Any, Sequence[Manifest], Referenced], list[Manifest]]
    references: Callable[[Any], Mapping[str, Key]] = _no_references
    plan: Callable[[Any, Sequence[Manifest], Sequence[Manifest]], list[Step]] = plan


@dataclass(frozen=True)
class ResourceType:
    """One kind of custom resource.

    Attributes:
        definition: The definition from which its CustomResourceDefinition is generated.
        checker: Checks a resource.
        reconciler: Makes the reconciler.
        preview: The preview of a resource on the command line.
        pod_templates: Returns the pod templates of a resource, as far as its spec determines them.
        children: The kinds of children that the operator writes. If it cannot read one of these kinds, it reconciles no
            resource of this type.
        optional_children: The kinds of children that some clusters lack, or that an older Role does not allow. While
            the operator cannot read such a kind, only resources that ask for such a child are affected.
        observed: The kinds of objects that the operator only reads.
        more_pods: Returns label selectors of a resource's other pods. The operator does not read them, but the command
            line shows them.
        metrics: The metrics about resources.
        series: Yields the lines of these metrics. It gets everything that is cached, and the time.
        facts: Returns the facts of a resource or its child. Facts are values that the operator needs often, so it does
            not decode the object each time.
        index: Creates the index that finds resources by their facts, None for no index.
        most_children: How many children of one kind a pass reads, None if only their total size is limited.
        referenced: The kinds of other resources that a resource may refer to.
        refers_to: Returns the kinds that a resource refers to now.
        needs_everything: Whether a pass needs everything that can be read, in all namespaces.
        uses: Returns whether any resource of this type needs another resource to stay as it is. It gets the time.
        goal: The goal of the resource.
        progress: Returns the progress of a resource with this status, None if unknown.
    """

    definition: Definition
    checker: Checker[Any]
    reconciler: Callable[[Context], Reconciler]
    preview: Preview
    pod_templates: Callable[[Any], Sequence[Manifest]]
    children: tuple[Kind, ...]
    observed: tuple[Kind, ...]
    metrics: tuple[ResourceMetric, ...]
    series: Callable[[Sequence[CachedObject], str], Iterator[str]]
    optional_children: tuple[Kind, ...] = ()
    facts: Callable[[Kind, Manifest], object | None] = _no_facts
    more_pods: Callable[[Manifest], tuple[str, ...]] = _no_pods
    index: Callable[[Cache], Index] | None = None
    most_children: int | None = None
    referenced: tuple[Kind, ...] = ()
    refers_to: Callable[[Cache, Key], tuple[Kind, ...]] = _refers_to_nothing
    needs_everything: bool = False
    uses: Callable[[Cache, Key, str], bool] = _uses_nothing
    goal: Goal = READY
    progress: Callable[[Manifest], Progress | None] = _no_progress

    @property
    def model(self) -> type[Resource]:
        """Return the model of the resource."""
        return self.definition.model

    @property
    def status(self) -> type[Status]:
        """Return the model of the status."""
        return self.definition.status

    @property
    def kind(self) -> Kind:
        """Return the kind of the resource."""
        return self.definition.model.KIND

    @property
    def own_kinds(self) -> tuple[Kind, ...]:
        """Return the kinds of objects that every pass over a resource needs."""
        return (self.kind, *self.children, *self.observed)

    @property
    def all_kinds(self) -> tuple[Kind, ...]:
        """Return the kinds of all children and other objects that a pass over a resource may read."""
        return (*self.own_kinds, *self.optional_children, *self.referenced)

    @property
    def written(self) -> tuple[Kind, ...]:
        """Return the kinds of all children that the operator writes."""
        return (*self.children, *self.optional_children)


Types = Mapping[Kind, ResourceType]
"""Resource types by kind."""


def written_kinds(types: Types) -> tuple[Kind, ...]:
    """Return the kinds of children that the operator writes, of all types."""
    return tuple(dict.fromkeys(kind for resource_type in types.values() for kind in resource_type.written))


def optional_kinds(types: Types) -> frozenset[Kind]:
    """Return the kinds that are optional in all types."""
    needed = {kind for resource_type in types.values() for kind in resource_type.own_kinds}
    return frozenset(written_kinds(types)) - needed


def kinds_of_children(types: Types) -> tuple[Kind, ...]:
    """Return the kinds of all objects that are not resources. Kinds that the operator writes come first."""
    observed = (kind for resource_type in types.values() for kind in resource_type.observed)
    return tuple(dict.fromkeys((*written_kinds(types), *observed)))
