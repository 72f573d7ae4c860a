"""What a resource is for, and how far it is on the way there."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a resource is on the way to its goal: `done` of `total` steps, and the step in words."""

    done: int
    total: int
    step: str


@dataclass(frozen=True)
class Goal:
    """What a resource is for: the condition that is True when it is reached.

    Attributes:
        condition: The type of the condition.
        reached: What is said of a resource that has reached it, after its name.
        not_reached: What is said of one that has not.
    """

    condition: str
    reached: str
    not_reached: str


READY = Goal("Ready", "is ready", "is not ready")
