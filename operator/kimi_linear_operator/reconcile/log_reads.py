"""Places for reads of logs. A read needs a place.

A few reads run at the same time, beside the passes. Namespaces share the places fairly.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from kimi_linear_operator import clock
from kimi_linear_operator.cluster.errors import ApiError

logger = logging.getLogger(__name__)

READ_SECONDS = 10.0
"""How often to read one log."""

# For all resources together: how many logs are read at the same time, and the seconds between the starts of two reads.
# A log that cannot be read now is read READ_SECONDS later.
MOST_AT_ONCE = 4
SECONDS_BETWEEN_READS = 0.1
# How many of these reads can be of one namespace. A read can take five seconds, if the node does not answer.
MOST_OF_NAMESPACE = 2
# Without the permission to read logs, try again after this time. An administrator may have given the permission.
REFUSED_SECONDS = 300.0
# How long a place is reserved for a namespace that found none. Such a namespace tries again within READ_SECONDS.
_KEPT_SECONDS = 2 * READ_SECONDS
# If no log of a namespace is wanted for this time, the namespace may be gone. If it still exists, a refusal is logged
# again.
_FORGOTTEN_SECONDS = 3600.0
_FORBIDDEN = 403

Read = Callable[[], Coroutine[Any, Any, None]]
"""Reads a log. It raises ApiError if the log cannot be read; this changes nothing."""


@dataclass
class LogReads:
    """The places, their holders, and the namespaces in which the operator is not allowed to read logs.

    The last place, and every second start of a read, are reserved for the namespace that has waited longest. Otherwise
    a namespace with thousands of due logs would take every place.
    """

    _places: dict[asyncio.Task[None], str] = field(default_factory=dict)
    _next_at: float = 0.0
    # The namespaces that found no place, with the time of their last attempt. The one that waits longest comes first.
    _turned_away: dict[str, float] = field(default_factory=dict)
    # For each namespace: the time until which no log is requested.
    _refused: dict[str, float] = field(default_factory=dict)

    def begin(self, namespace: str, read: Read) -> bool:
        """Start a read of a log of a namespace if there is a place. Return whether the read has started."""
        if self.seconds_refused(namespace) or self._count(namespace) >= MOST_OF_NAMESPACE:
            return False
        if not self._has_place(namespace):
            # The namespace keeps its position in the order.
            self._turned_away[namespace] = clock.seconds()
            return False
        self._turned_away.pop(namespace, None)
        self._next_at = clock.seconds() + SECONDS_BETWEEN_READS
        task = asyncio.create_task(self._read(namespace, read))
        self._places[task] = namespace
        task.add_done_callback(self._places.pop)
        return True

    def seconds_refused(self, namespace: str) -> float:
        """Return for how many more seconds the operator reads no log of a namespace, because it is not allowed to."""
        return max(0.0, self._refused.get(namespace, 0.0) - clock.seconds())

    def _count(self, namespace: str) -> int:
        return sum(place == namespace for place in self._places.values())

    def _has_place(self, namespace: str) -> bool:
        now = clock.seconds()
        self._turned_away = {name: since for name, since in self._turned_away.items() if since > now - _KEPT_SECONDS}
        is_first = next(iter(self._turned_away), namespace) == namespace
        begins_at = self._next_at + (0.0 if is_first else SECONDS_BETWEEN_READS)
        return now >= begins_at and len(self._places) < (MOST_AT_ONCE if is_first else MOST_AT_ONCE - 1)

    async def _read(self, namespace: str, read: Read) -> None:
        try:
            await read()
        except ApiError as error:
            if error.status == _FORBIDDEN:
                self._note_refusal(namespace)

    def _note_refusal(self, namespace: str) -> None:
        if namespace not in self._refused:
            logger.info(
                "The operator is not allowed to read logs (pods/log) in namespace %s, so no status there shows how "
                "far a start or a download is",
                namespace,
            )
        now = clock.seconds()
        recent = {name: until for name, until in self._refused.items() if until > now - _FORGOTTEN_SECONDS}
        self._refused = {**recent, namespace: now + REFUSED_SECONDS}
