"""What we report: observed objects turned into the status of a resource, and into events.

Nothing here remembers: the same objects give the same status, except that a condition keeps the time of its
last change and the last failure outlives its pod.
"""

from kimi_linear_operator.status.conditions import Obstacle, ready_condition
from kimi_linear_operator.status.events import WITHOUT_REPLICAS, transition_event
from kimi_linear_operator.status.server import View, summarise

__all__ = ["WITHOUT_REPLICAS", "Obstacle", "View", "ready_condition", "summarise", "transition_event"]
