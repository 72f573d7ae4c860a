"""Which Jobs hold a server. Those of another namespace hold it only as far as nobody can forge or draw it out.

Anybody who may edit a namespace can write any Job there, with any label and owner, and any address in a benchmark. So
such a Job counts if it has the very name that the operator gives, while its benchmark wants to run, and for as long as
a suite may take from when the API server made it. No finalizer, sidecar or suspended Job holds a server longer.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kimi_linear_operator.benchmark import job_status, turn
from kimi_linear_operator.benchmark.address import TargetKey, target_of
from kimi_linear_operator.benchmark.claims import Claim, Task, failed_start, is_guest, task_of
from kimi_linear_operator.benchmark.index import BenchmarkIndex
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import owner_uids
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.reconcile.cached_object import Key


@dataclass(frozen=True)
class Asker:
    """From whose side it is asked who holds a server.

    Attributes:
        now: The time as RFC 3339.
        namespace: The namespace of the benchmark that asks, empty if the operator does.
        waited: For how many seconds it was first in turn before any benchmark of another namespace.
    """

    now: str
    namespace: str = ""
    waited: float = 0.0


def asker(manifest: Manifest, now: str) -> Asker:
    """Return a benchmark as one that asks."""
    namespace = manifest["metadata"]["namespace"]
    if is_guest(target_of(manifest), namespace):
        return Asker(now, namespace)
    ready = find_condition(manifest.get("status", {}), "TargetReady")
    waits = (ready.get("status"), ready.get("reason")) == ("False", "WaitingForTurn")
    waited = seconds_between(ready.get("lastTransitionTime"), now) if waits else None
    if failed := failed_start(manifest):
        # Others went first while it rested.
        waited = min(waited or 0.0, (seconds_between(failed, now) or 0.0) - turn.REST_SECONDS)
    return Asker(now, namespace, waited or 0.0)


def job_seconds(task: Task, claim: Claim, by: Asker) -> float:
    """Return for how many more seconds a Job that a benchmark owns may hold its server against whoever asks.

    It is 0 if it must not. In the asker's own namespace its benchmark ends it; those that earlier builds made have
    other names there.
    """
    if claim.contender.namespace == by.namespace:
        return math.inf
    is_named = (task.owner, task.benchmark) == (claim.uid, claim.contender.name) and task.suite in claim.suites
    if not (claim.is_willing and is_named):
        return 0.0
    age = seconds_between(task.created, by.now) or 0.0
    # The operator starts nothing of another namespace past one that waits; a watch that is late may not have told.
    is_past_the_asker = age < by.waited - job_status.OVERDUE_SECONDS
    return 0.0 if is_past_the_asker else max(0.0, claim.timeout_seconds + job_status.OVERDUE_SECONDS - age)


def held_seconds(index: BenchmarkIndex, key: Key, by: Asker) -> float:
    """Return for how many more seconds the Jobs of a benchmark may hold its server against whoever asks."""
    claim = index.claim(key)
    if claim is None or not index.has_jobs(key):
        return 0.0
    clients = list(index.clients(key))
    running = {uid for client, owners in clients if client.is_running for uid in owners}
    done = {uid for client, owners in clients if client.has_ended for uid in owners}
    longest = 0.0
    for task in index.tasks(key, claim.uid):
        if task.uid in running or not (task.has_ended or task.uid in done):
            longest = max(longest, job_seconds(task, claim, by))
            if longest == math.inf:
                break  # somebody can have made thousands
    return longest


def is_measured(index: BenchmarkIndex, server: Key, now: str) -> bool:
    """Return whether a suite of any benchmark runs on a server, or one of its namespace is about to run the next."""
    rivals = index.claims(TargetKey(server.namespace, server.name))
    return any(
        (rival.namespace == server.namespace and _is_between_suites(claim, now))
        or held_seconds(index, rival, Asker(now)) > 0
        for rival, claim in rivals.items()
    )


def _is_between_suites(claim: Claim, now: str) -> bool:
    """Return whether suites have ended and others are to come: for as long after the last one as one may take."""
    age = seconds_between(claim.last_end, now) if claim.is_willing and claim.last_end else None
    return age is not None and age < claim.timeout_seconds


def held_by(found: Iterable[Manifest], claims: Iterable[Claim], by: Asker) -> list[Manifest]:
    """Return the Jobs that hold a server for any of these benchmarks against whoever asks."""
    owners = {claim.uid: claim for claim in claims}
    return [item for item in found if _holds(item, owners, by)]


def _holds(found: Manifest, owners: Mapping[str, Claim], by: Asker) -> bool:
    known = [owners[uid] for uid in owner_uids(found) if uid in owners]
    if not known:
        return False
    task = task_of(found)
    return any(job_seconds(task, claim, by) > 0 for claim in known)
