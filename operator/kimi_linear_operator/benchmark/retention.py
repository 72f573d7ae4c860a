"""How long the parts of a finished benchmark are kept."""

from collections.abc import Sequence

from kimi_linear_operator.benchmark.baseline import is_valid
from kimi_linear_operator.benchmark.job_status import SIDECAR_SECONDS, has_ended
from kimi_linear_operator.benchmark.labels import SUITE_LABEL
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.kubernetes import ownership
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.times import seconds_between

FAILED_JOB_SECONDS = 3600.0
"""How long the Job of a suite without a valid result stays, so that its log can be read."""

LONGEST_WAIT_SECONDS = 86_400.0
"""The longest time to wait for the next pass."""


def job_seconds_left(job: Manifest, status: Manifest, now: str) -> float | None:
    """Return for how many more seconds a Job is needed, None while its suite has no result.

    A Job that goes on although its suite has a result runs only a sidecar, or will never end.
    """
    suite = job["metadata"].get("labels", {}).get(SUITE_LABEL)
    result = next((item for item in status.get("results", ()) if item.get("name") == suite), None)
    if result is None:
        return 0.0 if find_condition(status, "Complete").get("status") == "True" else None
    if is_valid(result):
        return 0.0
    age = seconds_between(result.get("completionTime"), now)
    limit = FAILED_JOB_SECONDS if has_ended(job) else SIDECAR_SECONDS
    return 0.0 if age is None else max(0.0, limit - age)


def seconds_to_live(benchmark: KimiLinearBenchmark | None, status: Manifest, now: str) -> float | None:
    """Return in how many seconds a benchmark is to be deleted, None if it is not.

    As with a Job's `ttlSecondsAfterFinished`, the time starts when the condition Complete becomes true.
    """
    limit = benchmark.spec.ttl_seconds_after_finished if benchmark else None
    complete = find_condition(status, "Complete")
    if limit is None or complete.get("status") != "True":
        return None
    age = seconds_between(complete.get("lastTransitionTime"), now)
    return None if age is None else max(0.0, limit - age)


def is_wanted(live: Manifest) -> bool:
    """Return whether somebody has set `ttlSecondsAfterFinished` of a benchmark, as its managed fields show.

    The API server adds the defaults of another version's definition to stored objects. Results are not deleted because
    of a value that nobody asked for.
    """
    owned = ownership.owned_fields(live["metadata"].get("managedFields", ()))
    return "f:ttlSecondsAfterFinished" in owned.get("f:spec", {})


def soonest(waits: Sequence[float | None]) -> float | None:
    """Return the shortest wait, None if all are None."""
    return min((wait for wait in waits if wait is not None), default=None)
