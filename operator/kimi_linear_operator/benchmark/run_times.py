"""For how long suites have run by the clock of this process.

The operator compares the times in Jobs and pods with the wall clock of its host. This clock can jump, and the end of a
suite is final.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from kimi_linear_operator.benchmark.job_status import started
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.times import seconds_before, seconds_between
from kimi_linear_operator.reconcile.fair_memory import FairMemory

# How many Jobs to remember, more than any cluster should run at a time. The time of a forgotten Job starts again.
_MOST_REMEMBERED = 4096


@dataclass
class RunTimes:
    """When Jobs began, by the clock of this process.

    Attributes:
        clock: Returns seconds of a clock that never jumps.
    """

    clock: Callable[[], float]
    # By the UID of a Job and the time of its start.
    _begins: FairMemory[tuple[str, str], float] = field(default_factory=lambda: FairMemory(_MOST_REMEMBERED))

    def now(self, job: Manifest, timeout_seconds: int, wall: str) -> str:
        """Return the time by which the limits of a suite count, as RFC 3339.

        This is the wall clock, unless the Job is younger by the clock of this process. At the first look, the wall
        clock can already be wrong. So at the first look, the age of a Job counts as at most its time limit.

        Args:
            job: The Job of the suite.
            timeout_seconds: The time limit of the suite.
            wall: The time by the wall clock, as RFC 3339.
        """
        begin = started(job)
        age = seconds_between(begin, wall) or 0.0
        namespace, run = job["metadata"]["namespace"], (job["metadata"]["uid"], begin)
        began = self._begins.get(namespace, run)
        if began is None:
            began = self.clock() - min(age, timeout_seconds)
            self._begins.put(namespace, run, began)
        ahead = age - (self.clock() - began)
        return seconds_before(wall, ahead) if ahead > 0 else wall
