"""For how long Jobs hold (reserve) a server. While a Job holds it, no other benchmark of the server may start.

A user with write access to a namespace can create any Job there, with any label and owner, and benchmarks with any
address. So a Job of another namespace holds a server only under three conditions:

- Its name is the name that the operator would choose.
- Its benchmark wants to run.
- The time limit of the suite has not passed since the Job's creation.

A finalizer, a sidecar or the suspension of the Job does not extend this time. Against benchmarks of the server's own
namespace, such a Job never holds the server (`BenchmarkIndex.line`).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kimi_linear_operator.benchmark import job_status, turn
from kimi_linear_operator.benchmark.address import TargetKey
from kimi_linear_operator.benchmark.claims import Claim, Task, claim_of, failed_start, task_of
from kimi_linear_operator.benchmark.index import BenchmarkIndex
from kimi_linear_operator.benchmark.turn import Contender, Turns
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import owner_uids
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.reconcile.cached_object import Key


@dataclass(frozen=True)
class Asker:
    """The benchmark that wants to start, or the operator itself. Whether a Job holds a server depends on the asker.

    Attributes:
        now: The time as RFC 3339.
        namespace: The namespace of the benchmark, empty for the operator.
        waited: For how many seconds the benchmark has waited for its turn.
        contender: The benchmark as a contender, None for the operator.
        turns: When the last ended suite of each namespace began on the server.
        since: Since when these turns are known, as RFC 3339.
    """

    now: str
    namespace: str = ""
    waited: float = 0.0
    contender: Contender | None = None
    turns: Turns = field(default_factory=dict)
    since: str = ""

    def goes_before(self, claim: Claim) -> bool:
        """Return whether the asker's turn comes before the turn of the benchmark with this claim, if neither runs."""
        return self.contender is None or turn.goes_before(self.contender, claim.contender, self.turns)


def asker_of(manifest: Manifest, now: str, turns: Turns, since: str) -> Asker:
    """Return the asker for a benchmark that wants to start. See the attributes of `Asker`."""
    namespace = manifest["metadata"]["namespace"]
    ready = find_condition(manifest.get("status", {}), "TargetReady")
    is_waiting = (ready.get("status"), ready.get("reason")) == ("False", "WaitingForTurn")
    waited = seconds_between(ready.get("lastTransitionTime"), now) if is_waiting else None
    if failed := failed_start(manifest):
        # A benchmark that gave its turn back rests for a while. Others may start in this time.
        waited = min(waited or 0.0, (seconds_between(failed, now) or 0.0) - turn.REST_SECONDS)
    claim = claim_of(manifest)
    return Asker(now, namespace, waited or 0.0, claim.contender if claim else None, turns, since)


def job_seconds(task: Task, claim: Claim, asker: Asker) -> float:
    """Return for how many more seconds a Job may hold the server against the asker, 0 if it may not hold it.

    In the asker's own namespace, there is no limit: the Job ends when its benchmark ends it. There, the name of the Job
    does not matter, because earlier builds of the operator used other names.

    Args:
        task: A Job.
        claim: The claim of its benchmark.
        asker: The benchmark that wants to start, or the operator.
    """
    if claim.contender.namespace == asker.namespace:
        return math.inf
    is_named = (task.owner, task.benchmark) == (claim.uid, claim.contender.name) and task.suite in claim.suites
    if not (claim.is_willing and is_named):
        return 0.0
    age = seconds_between(task.created, asker.now) or 0.0
    # Benchmarks of the server's own namespace start whenever they can.
    if claim.contender.is_guest and _is_forged(task, age, claim, asker):
        return 0.0
    return max(0.0, claim.timeout_seconds + job_status.OVERDUE_SECONDS - age)


def _is_forged(task: Task, age: float, claim: Claim, asker: Asker) -> bool:
    """Return whether the operator cannot have created a guest's Job of this age, because another guest had its turn.

    While a guest waits, the operator creates no Job of a guest whose turn comes later. The first seconds are an
    exception, because watch events can be late. Of a Job that is older than the operator's knowledge of the turns, it
    does not know whether it was out of turn.
    """
    is_judged = task.created >= asker.since and age < asker.waited - job_status.OVERDUE_SECONDS
    return is_judged and asker.goes_before(claim)


def hold_seconds(index: BenchmarkIndex, key: Key, asker: Asker) -> float:
    """Return for how many more seconds the Jobs of a benchmark may hold its server against the asker."""
    claim = index.claim(key)
    if claim is None or not index.has_jobs(key):
        return 0.0
    running = index.jobs_with(key, lambda client: client.is_running)
    done = index.jobs_with(key, lambda client: client.has_ended)
    longest = 0.0
    for task in index.tasks(key, claim.uid):
        if task.uid in running or not (task.has_ended or task.uid in done):
            longest = max(longest, job_seconds(task, claim, asker))
            if longest == math.inf:
                break  # a user may have created thousands of Jobs
    return longest


def is_measured(index: BenchmarkIndex, server: Key, now: str) -> bool:
    """Return whether a benchmark of the server's namespace measures a server, so that its pods must stay."""
    claims = index.claims(TargetKey(server.namespace, server.name), server.namespace)
    return any(_is_between_suites(claim, now) or _is_unjudged(index, key, claim, now) for key, claim in claims.items())


def _is_unjudged(index: BenchmarkIndex, key: Key, claim: Claim, now: str) -> bool:
    """Return whether a benchmark has a Job of a suite that has no result yet.

    The Job may have ended: the operator looks at the server's pods some seconds later, when it judges the suite. This
    counts for at most the time limit of the suite.
    """
    asker, unjudged = Asker(now), claim.suites[claim.ended :]
    return any(task.suite in unjudged and job_seconds(task, claim, asker) > 0 for task in index.tasks(key, claim.uid))


def _is_between_suites(claim: Claim, now: str) -> bool:
    """Return whether a benchmark is between two suites, for at most the time limit of a suite."""
    age = seconds_between(claim.last_end, now) if claim.is_willing and claim.last_end else None
    return age is not None and age < claim.timeout_seconds


def holding_jobs(jobs: Iterable[Manifest], claims: Iterable[Claim], asker: Asker) -> list[Manifest]:
    """Return the Jobs that hold a server against the asker, of the benchmarks with these claims."""
    owners = {claim.uid: claim for claim in claims}
    return [job for job in jobs if _holds(job, owners, asker)]


def _holds(job: Manifest, owners: Mapping[str, Claim], asker: Asker) -> bool:
    claims = [owners[uid] for uid in owner_uids(job) if uid in owners]
    if not claims:
        return False
    task = task_of(job)
    return any(job_seconds(task, claim, asker) > 0 for claim in claims)
