"""The goal of a resource, and its progress."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """The progress of a resource towards its goal: `done` of `total` steps, and the step in words."""

    done: int
    total: int
    step: str


@dataclass(frozen=True)
class Goal:
    """The goal of a resource: the condition that is True when the resource has reached it.

    Attributes:
        condition: The type of the condition.
        reached: The words after the name of a resource that has reached its goal.
        not_reached: The words after the name of a resource that has not reached its goal.
    """

    condition: str
    reached: str
    not_reached: str


READY = Goal("Ready", "is ready", "is not ready")
