"""What we report: observed objects turned into the status of a resource, and into events.

Nothing here remembers: the same objects give the same status, except that a condition keeps the time of its
last change and the last failure outlives its pod.
"""

from kimi_linear_operator.status.benchmark import (
    Progress,
    is_complete,
    known_attempt,
    known_environment,
    known_results,
    summarise_benchmark,
    with_last_words,
)
from kimi_linear_operator.status.conditions import Cause, Obstacle, find_condition, ready_condition
from kimi_linear_operator.status.events import (
    WITHOUT_REPLICAS,
    benchmark_event,
    disturbance_event,
    refusal_event,
    transition_event,
)
from kimi_linear_operator.status.server import View, summarise, was_applied
from kimi_linear_operator.status.waits import next_look

__all__ = [
    "WITHOUT_REPLICAS",
    "Cause",
    "Obstacle",
    "Progress",
    "View",
    "benchmark_event",
    "disturbance_event",
    "find_condition",
    "is_complete",
    "known_attempt",
    "known_environment",
    "known_results",
    "next_look",
    "ready_condition",
    "refusal_event",
    "summarise",
    "summarise_benchmark",
    "transition_event",
    "was_applied",
    "with_last_words",
]
