"""The facts of benchmarks, their Jobs and their pods. They decide whose turn it is.

Facts are read once, when an object enters the cache. Users can create thousands of these objects, of any size. So no
object is decoded later to find out whose turn it is.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from kimi_linear_operator.benchmark import job, job_status
from kimi_linear_operator.benchmark.address import TargetKey, target_of
from kimi_linear_operator.benchmark.labels import BENCHMARK_LABEL, SUITE_LABEL
from kimi_linear_operator.benchmark.spec import BENCHMARK, RECIPE_SUITES, BenchmarkSpec
from kimi_linear_operator.benchmark.status import is_complete
from kimi_linear_operator.benchmark.turn import Contender, Rank, rank
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import JOB, POD, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import is_being_deleted, owner_uids

# The limit of `spec.suites`.
MOST_SUITES = 16
# How many suites can be running according to a cache that is late by seconds: the first suite without a result, and the
# next one. Suites run one after the other.
_MAY_RUN = 2
# The limit of `spec.timeoutSeconds`.
_LONGEST_SECONDS = 604_800.0
# In characters. Everyone who can write a status can write any text into it. A time has at most 35 characters, the name
# of a suite 22.
_LONGEST_TEXT = 64
_DEFAULT_SECONDS = float(BenchmarkSpec.model_fields["timeout_seconds"].default)


@dataclass(frozen=True, slots=True)
class Claim:
    """The facts of a benchmark that is not done.

    Attributes:
        target: What it measures.
        uid: Its UID.
        contender: The benchmark as a contender without a running suite.
        rank: The rank of `contender`.
        is_willing: Whether it wants to run: it is not suspended, its spec is valid, and it is not being deleted.
        suites: The names of its suites; empty if `spec.timeoutSeconds` or `spec.suites` cannot be read.
        timeout_seconds: How long a suite may take.
        last_end: When its last suite ended, as RFC 3339; empty if no suite has ended.
        ended: How many of its suites have a result.
    """

    target: TargetKey
    uid: str
    contender: Contender
    rank: Rank
    is_willing: bool
    suites: tuple[str, ...]
    timeout_seconds: float
    last_end: str
    ended: int

    @property
    def may_run(self) -> tuple[str, ...]:
        """Return the names of the suites that may be running. At most one of them runs."""
        return self.suites[self.ended : self.ended + _MAY_RUN]


@dataclass(frozen=True, slots=True)
class Task:
    """The facts of a Job.

    Attributes:
        uid: Its UID.
        created: When it was created, as RFC 3339.
        has_ended: Whether it has ended.
        benchmark: The name of the benchmark in its label.
        suite: The name of the suite in its label.
        owner: The UID of the owner, if the operator would give this name to a Job of this owner; otherwise empty.
    """

    uid: str
    created: str
    has_ended: bool
    benchmark: str
    suite: str
    owner: str


class Client(NamedTuple):
    """The facts of a benchmark's pod: whether its client may still send requests, and whether it has ended."""

    is_running: bool
    has_ended: bool


def claim_of(manifest: Manifest) -> Claim | None:
    """Return the claim of a benchmark, None if it is done or its target cannot be read."""
    status: Manifest = manifest.get("status", {})
    target = None if is_complete(status) else target_of(manifest)
    if target is None:
        return None
    metadata, spec = manifest["metadata"], manifest["spec"]
    limit, contender = _seconds(spec), _contender(manifest, target)
    return Claim(
        target=target,
        uid=str(metadata["uid"]),
        contender=contender,
        rank=rank(contender),
        is_willing=is_willing(manifest),
        suites=() if limit is None else _suites(spec),
        timeout_seconds=limit or 0.0,
        last_end=_short(_last_result(status).get("completionTime", "")),
        ended=len(_results(status)),
    )


def _last_result(status: Manifest) -> Manifest:
    """Return the result of a benchmark's last suite, empty if no suite has ended or the result cannot be read."""
    last = next(reversed(_results(status)), None)
    return last if isinstance(last, dict) else {}


def _results(status: Manifest) -> list[Any]:
    results: Any = status.get("results")
    return results if isinstance(results, list) else []


def is_guest(target: TargetKey | None, namespace: str) -> bool:
    """Return whether a benchmark in this namespace measures a server of another namespace."""
    return target is not None and target.namespace not in ("", namespace)


def is_willing(manifest: Manifest) -> bool:
    """Return whether a benchmark wants to run: it is not complete, stalled, suspended or being deleted."""
    status, spec = manifest.get("status", {}), manifest.get("spec")
    is_stalled = find_condition(status, "Stalled").get("status") == "True"
    is_suspended = isinstance(spec, dict) and bool(spec.get("suspend"))
    return not (is_complete(status) or is_stalled or is_suspended or is_being_deleted(manifest))


def failed_start(manifest: Manifest) -> str:
    """Return when a benchmark gave its turn back, as RFC 3339; empty if it did not."""
    return _short(manifest.get("status", {}).get("failedStart", {}).get("time", ""))


def _short(value: object) -> str:
    return str(value)[:_LONGEST_TEXT]


def task_of(manifest: Manifest) -> Task:
    """Return the facts of a Job with essential metadata (`essence.essential_metadata`)."""
    metadata = manifest["metadata"]
    labels = metadata.get("labels") or {}
    benchmark, suite = str(labels.get(BENCHMARK_LABEL, "")), str(labels.get(SUITE_LABEL, ""))
    owners = (uid for uid in owner_uids(manifest) if job.name_of(uid, benchmark, suite) == metadata["name"])
    return Task(
        uid=str(metadata.get("uid", "")),
        created=str(metadata.get("creationTimestamp", "")),
        has_ended=job_status.has_ended(manifest),
        benchmark=benchmark,
        suite=suite,
        owner=next(owners, ""),
    )


def client_of(pod: Manifest) -> Client:
    """Return the facts of a benchmark's pod."""
    return Client(job_status.is_running(pod), job_status.client_end(pod) is not None)


def _contender(manifest: Manifest, target: TargetKey) -> Contender:
    metadata = manifest["metadata"]
    return Contender(
        namespace=metadata["namespace"],
        name=metadata["name"],
        created=str(metadata.get("creationTimestamp", "")),
        started=_short(manifest.get("status", {}).get("startTime", "")),
        is_active=False,
        failed=failed_start(manifest),
        is_guest=is_guest(target, metadata["namespace"]),
    )


def _seconds(spec: Manifest) -> float | None:
    """Return the time limit of a suite, None if it cannot be read."""
    limit: Any = spec.get("timeoutSeconds", _DEFAULT_SECONDS)
    return min(float(limit), _LONGEST_SECONDS) if isinstance(limit, int | float) and limit > 0 else None


def _suites(spec: Manifest) -> tuple[str, ...]:
    suites: Any = spec.get("suites", [{"name": name} for name in RECIPE_SUITES])
    limited = suites[:MOST_SUITES] if isinstance(suites, list) else []
    return tuple(name for suite in limited if isinstance(suite, dict) and isinstance(name := suite.get("name"), str))


class Measured(NamedTuple):
    """The facts of a complete benchmark.

    Attributes:
        target: What it measured.
        time: When its last suite ended, as RFC 3339.
        suites: The names of the suites that have results.
    """

    target: TargetKey
    time: str
    suites: tuple[str, ...]


def facts(kind: Kind, manifest: Manifest) -> object | None:
    """Return the facts of a benchmark, or of one of its Jobs or pods; None for any other kind."""
    if kind == BENCHMARK:
        return claim_of(manifest) or measured_by(manifest)
    if kind == JOB:
        return task_of(manifest)
    return client_of(manifest) if kind == POD else None


def measured_by(manifest: Manifest) -> Measured | None:
    """Return the facts of a complete benchmark, None if it is not complete or its target cannot be read."""
    status: Manifest = manifest.get("status", {})
    target = target_of(manifest) if is_complete(status) else None
    if target is None:
        return None
    return Measured(target, _short(status.get("completionTime", "")), _shared_names(_suites_with_results(status)))


def _suites_with_results(status: Manifest) -> tuple[str, ...]:
    """Return the names of the suites with a result, at most as many as a spec can contain."""
    return tuple(_short(result.get("name")) for result in status.get("results", ())[:MOST_SUITES])


@lru_cache(maxsize=1024)
def _shared_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the same tuple for equal names, to save memory: most benchmarks run the recipe's suites."""
    return names
