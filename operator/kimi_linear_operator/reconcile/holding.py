"""Which Jobs hold a server. Those of another namespace hold it only as far as nobody can forge or draw it out.

Anybody who may edit a namespace can write any Job there, with any label and owner, and any address in a benchmark. So
such a Job counts if it has the very name that the operator gives, while its benchmark wants to run, and for as long as
a suite may take from when the API server made it. No finalizer, sidecar or suspended Job holds a server longer.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from kimi_linear_operator.api import KimiLinearBenchmark, Manifest
from kimi_linear_operator.api.stored import known
from kimi_linear_operator.benchmark import turn
from kimi_linear_operator.benchmark.address import TargetKey, target_of
from kimi_linear_operator.resources import BENCHMARK, JOB, POD, job
from kimi_linear_operator.resources.metadata import is_owned_by
from kimi_linear_operator.status import find_condition, is_complete, jobs
from kimi_linear_operator.status.times import seconds_between
from kimi_linear_operator.store import Key, Store


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


def is_guest(target: TargetKey | None, namespace: str) -> bool:
    """Return whether a benchmark of a namespace measures a server of another one."""
    return target is not None and target.namespace not in ("", namespace)


def is_willing(manifest: Manifest) -> bool:
    """Return whether a benchmark wants to run: it is neither done nor stopped nor refused."""
    known = manifest.get("status", {})
    is_stalled = find_condition(known, "Stalled").get("status") == "True"
    is_suspended = bool(manifest.get("spec", {}).get("suspend"))
    return not (is_complete(known) or is_stalled or is_suspended or "deletionTimestamp" in manifest["metadata"])


def failed_start(manifest: Manifest) -> str:
    """Return when a benchmark gave its turn back, empty if it has not."""
    return str(manifest.get("status", {}).get("failedStart", {}).get("time", ""))


def job_seconds(found: Manifest, benchmark: Manifest, by: Asker) -> float:
    """Return for how many more seconds a Job may hold a benchmark's server against whoever asks, 0 if it must not.

    In the asker's own namespace its benchmark ends it; those that earlier builds made have other names there.
    """
    if not is_owned_by(found, benchmark["metadata"]["uid"]):
        return 0.0
    if benchmark["metadata"]["namespace"] == by.namespace:
        return math.inf
    known = _read(benchmark) if is_willing(benchmark) else None
    if known is None or found["metadata"]["name"] not in {job.name(known, suite) for suite in known.spec.suites}:
        return 0.0
    age = seconds_between(found["metadata"]["creationTimestamp"], by.now) or 0.0
    # The operator starts nothing of another namespace past one that waits; a watch that is late may not have told.
    is_past_the_asker = age < by.waited - jobs.OVERDUE_SECONDS
    return 0.0 if is_past_the_asker else max(0.0, known.spec.timeout_seconds + jobs.OVERDUE_SECONDS - age)


def held_seconds(store: Store, key: Key, by: Asker) -> float:
    """Return for how many more seconds the Jobs of a benchmark may hold its server against whoever asks."""
    manifest = store.get(BENCHMARK, key)
    if manifest is None:
        return 0.0
    own = store.children(JOB, key, manifest["metadata"]["uid"])
    left = [(found, seconds) for found in own if (seconds := job_seconds(found, manifest, by)) > 0]
    return max((seconds for found, seconds in left if _is_busy(store, key, found)), default=0.0)


def is_measured(store: Store, server: Key, now: str) -> bool:
    """Return whether a suite of any benchmark runs on a server, or one of its namespace is about to run the next."""
    rivals = store.measuring(TargetKey(server.namespace, server.name))
    return any(
        held_seconds(store, rival, Asker(now)) > 0
        or (rival.namespace == server.namespace and _is_between_suites(store.get(BENCHMARK, rival), now))
        for rival in rivals
    )


def _is_between_suites(benchmark: Manifest | None, now: str) -> bool:
    """Return whether suites have ended and others are to come: for as long after the last one as one may take."""
    results = (benchmark or {}).get("status", {}).get("results")
    known = _read(benchmark) if benchmark and results and is_willing(benchmark) else None
    age = seconds_between(results[-1].get("completionTime"), now) if known else None
    return known is not None and age is not None and age < known.spec.timeout_seconds


def held_by(found: Iterable[Manifest], benchmarks: Iterable[Manifest], by: Asker) -> list[Manifest]:
    """Return the Jobs that hold a server for any of these benchmarks against whoever asks."""
    owners = {manifest["metadata"]["uid"]: manifest for manifest in benchmarks}
    return [item for item in found if any(job_seconds(item, owners[uid], by) > 0 for uid in _owners(item) & {*owners})]


def _owners(found: Manifest) -> set[str]:
    return {str(reference["uid"]) for reference in found["metadata"].get("ownerReferences", ())}


def _is_busy(store: Store, key: Key, found: Manifest) -> bool:
    return jobs.is_busy([found], store.children(POD, key, found["metadata"]["uid"]))


def _read(manifest: Manifest) -> KimiLinearBenchmark | None:
    try:
        return KimiLinearBenchmark.model_validate(known(manifest, KimiLinearBenchmark))
    except ValidationError:
        return None
