"""Reads the logs of starting engines, for the phases that only a log shows."""

from dataclasses import dataclass, field

from kimi_linear_operator import clock
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.log_reads import READ_SECONDS
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.server.sglang.start_log import phases_in
from kimi_linear_operator.server.startup import LoggedPhases, is_starting, running_since

# Seconds of the log that are read twice, because the clocks of the operator and of the node differ.
_OVERLAP_SECONDS = 10.0
# The shortest time until the next check if a read is already due.
_SHORTEST_SECONDS = 1.0


@dataclass
class _Followed:
    """An engine that starts.

    Attributes:
        pod: The address of its pod. Whole pods would need much memory, because servers that serve are kept, too.
        is_starting: Whether the engine was not serving yet in the last known state of its pod.
        logged: The phases in its log so far.
        read_at: When its log was read last, in seconds of `clock`; None if never.
        due_at: When to read the log again, in seconds of `clock`.
        is_over: Whether it serves, so that its log is not read any more.
    """

    pod: Manifest
    is_starting: bool
    logged: LoggedPhases
    read_at: float | None = None
    due_at: float = 0.0
    is_over: bool = False


@dataclass
class StartLogs:
    """Follows the logs of engines from their start until they serve.

    A read runs concurrently with the passes, so a node that does not answer delays no status. When a read finds a new
    phase, the server is enqueued.
    """

    context: Context
    _followed: dict[Key, _Followed] = field(default_factory=dict)

    def follow(self, key: Key, pod: Manifest | None) -> LoggedPhases | None:
        """Return the phases in the log of a pod so far, None if it was not read. Start a read if one is due.

        Args:
            key: The server.
            pod: Its newest pod, None if it has none.
        """
        followed = self._find(key, pod)
        if followed and self._is_due(followed):
            self._begin(key, followed)
        return followed.logged if followed else None

    def seconds_left(self, key: Key) -> float | None:
        """Return the seconds until the next read of a server's log, None if no read is needed."""
        followed = self._followed.get(key)
        if followed is None or followed.is_over:
            return None
        refused = self.context.log_reads.seconds_refused(key.namespace)
        return max(followed.due_at - clock.seconds(), refused, _SHORTEST_SECONDS)

    def forget(self, key: Key) -> None:
        """Forget a server that is gone."""
        self._followed.pop(key, None)

    def _find(self, key: Key, pod: Manifest | None) -> _Followed | None:
        """Return the followed start of a pod, None if there is none. If the engine is starting, begin to follow it."""
        started_at = running_since(pod) if pod else None
        if pod is None or started_at is None:
            self._followed.pop(key, None)
            return None
        followed = self._followed.get(key)
        if followed and followed.logged == LoggedPhases(pod["metadata"]["uid"], started_at, followed.logged.times):
            followed.is_starting = is_starting(pod)
        elif is_starting(pod):
            address = {"metadata": {name: pod["metadata"][name] for name in ("name", "namespace")}}
            self._followed[key] = _Followed(address, True, LoggedPhases(pod["metadata"]["uid"], started_at, {}))
        else:
            self._followed.pop(key, None)
        return self._followed.get(key)

    def _is_due(self, followed: _Followed) -> bool:
        """Return whether to read a log now."""
        is_last = not followed.is_starting
        return not followed.is_over and (is_last or clock.seconds() >= followed.due_at)

    def _begin(self, key: Key, followed: _Followed) -> None:
        """Start a read of a log. If it must wait for other reads, it is due again later."""
        followed.due_at = clock.seconds() + READ_SECONDS
        has_begun = self.context.log_reads.begin(key.namespace, lambda: self._read(key, followed))
        followed.is_over = has_begun and not followed.is_starting

    async def _read(self, key: Key, followed: _Followed) -> None:
        """Read the lines since the last read.

        Raises:
            ApiError: The log cannot be read now.
        """
        began = clock.seconds()
        since = None if followed.read_at is None else began - followed.read_at + _OVERLAP_SECONDS
        log = await self.context.cluster.pod_log_tail(followed.pod, ENGINE_CONTAINER, since)
        followed.read_at = began
        known = followed.logged
        new = {name: time for name, time in phases_in(log).items() if name not in known.times}
        if new:
            followed.logged = LoggedPhases(known.pod_uid, known.started_at, {**known.times, **new})
            self.context.scheduling.enqueue([key])
