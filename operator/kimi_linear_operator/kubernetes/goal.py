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
