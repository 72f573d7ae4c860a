"""What the cluster contains for one resource: the resource, its workloads and its pods."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from kimi_linear_operator.cli.failure import CommandError, missing
from kimi_linear_operator.cli.tree import STATES, Branch, build_tree
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.refusals import REFUSALS
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import POD, Kind, Manifest
from kimi_linear_operator.kubernetes.stored import readable_status
from kimi_linear_operator.reasons import NOTHING, REASONS
from kimi_linear_operator.reconcile.resource_type import ResourceType
from kimi_linear_operator.resource_types import TYPES

# Conditions besides the goal, each with the statuses about which a user should know. Several can have the same reason:
# then the first one is shown.
_SHORTCOMINGS = {
    "Synced": ("False",),
    "Exposed": ("False",),
    "Autoscaling": ("False",),
    "Verified": ("False", "Unknown"),
    "Reconciling": ("True",),
}


@dataclass(frozen=True)
class State:
    """A resource as the API server stores it, and the objects that belong to it.

    Attributes:
        resource_type: Its type.
        resource: The resource.
        workloads: Its children that have a state of their own, with their kinds.
        pods: Its pods.
    """

    resource_type: ResourceType
    resource: Manifest
    workloads: Sequence[tuple[Kind, Manifest]]
    pods: Sequence[Manifest]

    @cached_property
    def status(self) -> Manifest:
        """Return the fields of the status that this version knows and can read."""
        model = self.resource_type.status
        known = {field.alias for field in model.model_fields.values()}
        readable = readable_status(model, self.resource.get("status"))
        return {name: value for name, value in readable.items() if name in known}

    @property
    def goal(self) -> Manifest:
        """Return the condition that says whether the resource has reached its goal, empty if it is missing."""
        return find_condition(self.status, self.resource_type.goal.condition)

    @property
    def has_reached_goal(self) -> bool:
        """Return whether the resource has reached its goal: it is ready, or has passed."""
        return self.goal.get("status") == "True"

    @property
    def is_seen(self) -> bool:
        """Return whether the operator has seen the latest change of the spec."""
        return bool(self.status.get("observedGeneration", 0) == self.resource["metadata"]["generation"])

    @property
    def is_settled(self) -> bool:
        """Return whether the resource does not change any more by itself."""
        is_stalled = find_condition(self.status, "Stalled").get("status") == "True"
        is_idle = find_condition(self.status, "Reconciling").get("status") == "False"
        return self.is_seen and (self.has_reached_goal or is_stalled or is_idle)

    @property
    def headline(self) -> str:
        """Return one line that says whether the resource has reached its goal, and the reason."""
        goal = self.resource_type.goal
        words = goal.reached if self.has_reached_goal else goal.not_reached
        return f"{self.resource['metadata']['name']} {words}: {self.goal.get('reason', 'Pending')}"

    @property
    def message(self) -> str:
        """Return why the resource is as it is."""
        return str(self.goal.get("message", "the operator has not handled it yet. Does the operator run?"))

    @property
    def next_step(self) -> str:
        """Return what to do, empty if there is nothing to do or the remedy is unknown."""
        return _remedy(self.goal.get("reason", "Pending"))

    @property
    def shortcomings(self) -> Sequence[str]:
        """Return what differs from the spec but does not affect the goal, and what to do."""
        by_reason = {self.goal.get("reason"): self.goal}
        for kind, statuses in _SHORTCOMINGS.items():
            found = find_condition(self.status, kind)
            if found.get("status") in statuses:
                by_reason.setdefault(found["reason"], found)
        _, *others = by_reason.values()
        return [line for item in others for line in _shortcoming(item)]

    def tree(self, now: str) -> Branch:
        """Return the tree of the resource.

        Args:
            now: The time as RFC 3339.
        """
        resource = {**self.resource, "status": self.status}
        return build_tree(resource, self.resource_type.goal, self.workloads, self.pods, now)


@dataclass(frozen=True)
class Address:
    """Which resource the user means: a namespace, a name, and the possible types in order."""

    namespace: str
    name: str
    types: tuple[ResourceType, ...]

    @property
    def kinds(self) -> str:
        """Return the possible kinds, as text for people."""
        return " or ".join(resource_type.kind.kind for resource_type in self.types)


def _shortcoming(condition: Manifest) -> list[str]:
    remedy = _remedy(condition["reason"])
    return [f"{condition['reason']}: {condition['message']}", *([f"Next: {remedy}"] if remedy else [])]


def _remedy(reason: str) -> str:
    """Return what to do about a reason, empty if there is nothing to do or the remedy is unknown."""
    explanation = {str(name): item for name, item in REASONS.items()}.get(reason)
    return explanation.remedy if explanation and explanation.remedy != NOTHING else ""


def address(namespace: str, text: str) -> Address:
    """Return which resource a text means. The text is NAME, or TYPE/NAME as for kubectl.

    Raises:
        CommandError: There is no such type, or no resource can have the name.
    """
    word, slash, name = text.rpartition("/")
    if not name:
        raise CommandError(f"[TYPE/]NAME {text!r}: the name is empty: write NAME, or for example kls/NAME")
    types = tuple(each for each in TYPES.values() if not slash or word.lower() in words_of(each))
    if not types:
        known = ", ".join(each.definition.short_name for each in TYPES.values())
        raise CommandError(f"{text}: there is no type {word}; there are {known}")
    return Address(namespace, name, types)


def words_of(resource_type: ResourceType) -> tuple[str, ...]:
    """Return the words for a type that kubectl accepts, the short one first, and our own short word."""
    kind, definition = resource_type.kind, resource_type.definition
    return (definition.short_name, kind.kind.lower(), kind.plural, resource_type.model.COMPONENT)


async def read(cluster: Cluster, wanted: Address) -> State:
    """Return the state of a resource. If resources of several types have the name, the first type counts.

    Raises:
        ApiError: The resource cannot be read.
        CommandError: There is no such resource.
    """
    for resource_type in wanted.types:
        resource = await cluster.get(resource_type.kind, wanted.namespace, wanted.name)
        if resource is not None:
            return await _with_children(cluster, wanted, resource_type, resource)
    words = ",".join(each.definition.short_name for each in wanted.types)
    raise missing(wanted.kinds, words, wanted.name, wanted.namespace)


async def _with_children(cluster: Cluster, wanted: Address, resource_type: ResourceType, resource: Manifest) -> State:
    selector = f"{resource_type.model.label()}={wanted.name}"
    workloads = [
        (kind, workload)
        for kind in resource_type.written
        if kind in STATES
        for workload in await _list(cluster, kind, wanted.namespace, selector)
    ]
    selectors = [selector, *resource_type.more_pods(resource)]
    pods = [pod for each in selectors for pod in await cluster.list(POD, wanted.namespace, each)]
    return State(resource_type, resource, workloads, sorted(pods, key=_age))


async def _list(cluster: Cluster, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
    """Return the objects of a kind. Empty if the API server refuses to list them, so that the rest is still shown."""
    try:
        return sorted(await cluster.list(kind, namespace, selector), key=_age)
    except ApiError as error:
        if error.status in REFUSALS:
            return []
        raise


def _age(manifest: Manifest) -> tuple[str, str]:
    return manifest["metadata"].get("creationTimestamp", ""), manifest["metadata"]["name"]
