"""Conditions of a status."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from kimi_linear_operator import foreigntext
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Condition
from kimi_linear_operator.reasons import ReasonName

LONGEST_MESSAGE = 1024

ConditionType = Literal[
    "Accepted",
    "Autoscaling",
    "Available",
    "Complete",
    "Exposed",
    "Ready",
    "Reconciling",
    "Stalled",
    "Succeeded",
    "Synced",
    "TargetReady",
    "TemplateCurrent",
    "Verified",
]
CONDITION_TYPES: frozenset[str] = frozenset(get_args(ConditionType))
"""The types of all conditions of our resources."""


@dataclass(frozen=True)
class Reason:
    """The reason and message of a condition.

    Attributes:
        name: One CamelCase word from the table in `reasons`.
        message: The cause, quoted from the cluster where possible, and the remedy where we know it.
        blames_spec: Whether only a change of the spec can help. If false, the problem can end without such a change.
    """

    name: ReasonName
    message: str
    blames_spec: bool = False

    @cached_property
    def shown(self) -> str:
        """Return the message as a status shows it: without secrets, and with at most LONGEST_MESSAGE characters.

        The result is cached: several conditions have the same reason, and the search for secrets in a long message
        takes long.
        """
        message = foreigntext.cleaned(self.message)
        return message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 4] + " ..."


def condition(kind: ConditionType, holds: bool | None, reason: Reason) -> Condition:
    """Return a condition without its time and generation.

    Args:
        kind: Its type.
        holds: Its status; None is Unknown.
        reason: Its reason and message.
    """
    status: Literal["True", "False", "Unknown"] = "Unknown" if holds is None else "True" if holds else "False"
    return Condition.model_construct(
        type=kind, status=status, reason=reason.name, message=reason.shown, last_transition_time=""
    )


def reconciling(why: Reason | None) -> Condition:
    """Return the condition Reconciling. `why` says what is in progress; None if nothing is."""
    return condition("Reconciling", why is not None, why or Reason("Settled", "Nothing is in progress"))


def stalled(why: Reason | None) -> Condition:
    """Return the condition Stalled. `why` is the problem that does not end by itself; None if there is none."""
    return condition("Stalled", why is not None, why or Reason("NotStalled", "Nothing is in the way"))


def stamped(conditions: Iterable[Condition], previous: Manifest, generation: int, now: str) -> list[Manifest]:
    """Return conditions with generation and time. A condition's time changes only when its own `status` changes.

    Args:
        conditions: The new conditions.
        previous: The last status of the resource.
        generation: The generation of the spec that the conditions describe.
        now: The time as RFC 3339.
    """
    before = {old["type"]: old for old in previous.get("conditions", ())}
    return [_stamped(new, before.get(new.type, {}), generation, now) for new in conditions]


def _stamped(new: Condition, old: Manifest, generation: int, now: str) -> Manifest:
    # The time of the CRD's default conditions (reason Pending) is in 1970.
    is_same = old.get("status") == new.status and old.get("reason") != "Pending"
    time = old["lastTransitionTime"] if is_same else now
    update = {"observed_generation": generation, "last_transition_time": time}
    return new.model_copy(update=update).model_dump(by_alias=True)


def find_condition(status: Manifest, kind: str) -> Manifest:
    """Return the condition of a type, empty if the status has none."""
    return next((dict(item) for item in status.get("conditions", ()) if item.get("type") == kind), {})


def ready_condition(status: Manifest) -> Manifest:
    """Return the Ready condition of a status, empty if it has none."""
    return find_condition(status, "Ready")
