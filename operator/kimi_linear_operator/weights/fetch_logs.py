"""Reads the logs of the programs that fetch. The last line of a log says how far the program is."""

from dataclasses import dataclass, field

from kimi_linear_operator import clock
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.log_reads import READ_SECONDS
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.weights import progress
from kimi_linear_operator.weights.job import CONTAINER
from kimi_linear_operator.weights.progress import Progress

# How many lines to read of a log. Other processes of the container may write to the log, too.
_LOG_LINES = 8


@dataclass
class _Followed:
    """A program that runs.

    Attributes:
        pod: Its pod.
        said: What the program said last, None if unknown.
        due_at: When to read its log again, in seconds of `clock`.
    """

    pod: Manifest
    said: Progress | None = None
    due_at: float = 0.0


@dataclass
class FetchLogs:
    """Follows the logs of programs that run.

    A read runs concurrently with the passes, so a node that does not answer delays no status. When the last line has
    changed, the weights are enqueued.
    """

    context: Context
    _followed: dict[Key, _Followed] = field(default_factory=dict)

    def follow(self, key: Key, pod: Manifest) -> Progress | None:
        """Return what the program in a pod said last, None if unknown. Start a read of its log if one is due.

        Args:
            key: The weights.
            pod: The pod in which the program runs.
        """
        address = {"metadata": {name: pod["metadata"][name] for name in ("name", "namespace", "uid")}}
        followed = self._followed.get(key)
        if followed is None or followed.pod != address:
            followed = self._followed[key] = _Followed(address)
        now = clock.seconds()
        if now >= followed.due_at:
            followed.due_at = now + READ_SECONDS
            self.context.log_reads.begin(key.namespace, lambda: self._read(key, followed))
        return followed.said

    def forget(self, key: Key) -> None:
        """Forget weights that are gone or have no running program."""
        self._followed.pop(key, None)

    async def _read(self, key: Key, followed: _Followed) -> None:
        """Read the program's last line.

        Raises:
            ApiError: The log cannot be read now.
        """
        said = progress.last_line(await self.context.cluster.pod_log_tail(followed.pod, CONTAINER, lines=_LOG_LINES))
        if said and said != followed.said:
            followed.said = said
            self.context.scheduling.enqueue([key])
