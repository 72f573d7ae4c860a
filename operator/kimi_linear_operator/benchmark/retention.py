"""How long the parts of a finished benchmark are kept."""

from kimi_linear_operator.benchmark.baseline import is_valid
from kimi_linear_operator.benchmark.job_status import SIDECAR_SECONDS, has_ended
from kimi_linear_operator.benchmark.labels import SUITE_LABEL
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.kubernetes import ownership
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.times import seconds_between

FAILED_JOB_SECONDS = 3600.0
"""The Job of a suite without a valid result stays for this time, so that its log can be read."""

LONGEST_WAIT_SECONDS = 86_400.0
"""The longest time to wait for the next pass."""


def job_seconds_left(job: Manifest, status: Manifest, now: str) -> float | None:
    """Return for how many more seconds a Job is needed, None if its suite has no result yet.

    If a Job still runs although its suite has a result, only a sidecar runs, or the Job never ends.
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
    """Return in how many seconds to delete a benchmark, None if it stays.

    As with a Job's `ttlSecondsAfterFinished`, the time starts when the condition Complete becomes true.
    """
    limit = benchmark.spec.ttl_seconds_after_finished if benchmark else None
    complete = find_condition(status, "Complete")
    if limit is None or complete.get("status") != "True":
        return None
    age = seconds_between(complete.get("lastTransitionTime"), now)
    return None if age is None else max(0.0, limit - age)


def is_wanted(live: Manifest) -> bool:
    """Return whether somebody has set `ttlSecondsAfterFinished` of a benchmark, according to the managed fields.

    The API server adds the defaults of the CRD of another version to stored objects. Results must not be deleted
    because of such a default.
    """
    owned = ownership.owned_fields(live["metadata"].get("managedFields") or ())
    return "f:ttlSecondsAfterFinished" in owned.get("f:spec", {})
