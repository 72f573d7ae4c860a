"""Judges the suites that have ended."""

import logging
from collections.abc import Sequence

from kimi_linear_operator import clock
from kimi_linear_operator.benchmark import baseline, job_status, load, target, verdict
from kimi_linear_operator.benchmark.baseline import Baseline
from kimi_linear_operator.benchmark.definition import CHECKER
from kimi_linear_operator.benchmark.index import BenchmarkIndex
from kimi_linear_operator.benchmark.labels import TARGET_ANNOTATION
from kimi_linear_operator.benchmark.live_pods import read_pods
from kimi_linear_operator.benchmark.measurement import Measurement
from kimi_linear_operator.benchmark.run_times import RunTimes
from kimi_linear_operator.benchmark.server_state import read_state
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark, Suite
from kimi_linear_operator.benchmark.status import is_complete, read_results, with_last_reason
from kimi_linear_operator.kubernetes.kinds import JOB, POD, Manifest
from kimi_linear_operator.kubernetes.metadata import is_being_deleted
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BEHIND_RETRY_SECONDS
from kimi_linear_operator.reconcile.resource_type import Context

logger = logging.getLogger(__name__)


class EndedSuites:
    """Judges the suites that have ended."""

    def __init__(self, context: Context) -> None:
        """Take the context that all reconcilers share."""
        self._cluster = context.cluster
        self._cache = context.cache
        self._index = context.cache.index(BenchmarkIndex)
        self._now = context.now
        self._run_times = RunTimes(clock.seconds)

    async def results(self, measurement: Measurement, previous: Manifest, facts: Manifest) -> list[Manifest]:
        """Return the results of the suites that have ended. Some are in the status already; the others are judged now.

        Args:
            measurement: The benchmark.
            previous: Its status.
            facts: The contents of `status.environment`.

        Raises:
            ApiError: The Job or the pods of a suite, or the state of the server, could not be read.
        """
        benchmark = measurement.benchmark
        results = read_results(benchmark, previous)
        for suite in benchmark.spec.suites[len(results) :]:
            job = self._index.job_of(measurement.key, benchmark.metadata.uid, suite.name)
            if job is None or not load.is_known(suite) or self._seconds_left(measurement, job) != 0:
                break
            if not (result := await self._result(measurement, suite, job, facts)):
                break
            results.append(result)
            logger.info("Suite %s has ended: %s", suite.name, results[-1]["outcome"])
        return results

    def seconds_left_of(self, measurement: Measurement, suite: Suite) -> float | None:
        """Return the seconds until a suite has ended at the latest. The operator then checks whether it has ended.

        None if it has no Job, if its Job is being deleted, or if this version does not know its load. Another version
        judges a suite with an unknown load.
        """
        if not load.is_known(suite):
            return None
        job = self._index.job_of(measurement.key, measurement.benchmark.metadata.uid, suite.name)
        left = self._seconds_left(measurement, job) if job else None
        # If it has ended only according to the cache, the cache is behind.
        return None if left is None else left or BEHIND_RETRY_SECONDS

    def _seconds_left(
        self, measurement: Measurement, job: Manifest, pods: Sequence[Manifest] | None = None
    ) -> float | None:
        """Return in how many seconds a suite ends at the latest, 0 if it has ended.

        None if its Job is being deleted before the Job has ended. Without `pods`, this uses those in the cache.
        """
        if is_being_deleted(job) and not job_status.has_ended(job):
            return None
        if pods is None:
            pods = self._cache.children(POD, measurement.key, job["metadata"]["uid"])
        limit = measurement.benchmark.spec.timeout_seconds
        return job_status.seconds_left(job, pods, limit, self._run_times.now(job, limit, self._now()))

    async def _result(
        self, measurement: Measurement, suite: Suite, cached: Manifest, facts: Manifest
    ) -> Manifest | None:
        """Return the judged result of a suite that has ended according to the cache.

        None if it has not ended according to the API server.
        """
        benchmark = measurement.benchmark
        job = await self._live(cached)
        if job is None:
            return None
        pods = await read_pods(self._cluster, benchmark, suite, job)
        if self._seconds_left(measurement, job, pods) != 0:
            return None
        limit = benchmark.spec.timeout_seconds
        result = job_status.result_of(job, suite, pods, timeout_seconds=limit, now=self._now())
        result = with_last_reason(result, benchmark.status)
        before = job["metadata"].get("annotations", {}).get(TARGET_ANNOTATION, "")
        after = await read_state(self._cluster, benchmark)
        changes = [*target.changes_since(facts, before), *target.changes(before, after.snapshot)]
        return verdict.judge(benchmark.spec, suite, result, baseline=self._baseline(benchmark, suite), changes=changes)

    async def _live(self, cached: Manifest) -> Manifest | None:
        """Return a Job as the API server has it now. If the Job is gone, return its last state if it had ended."""
        live = await self._cluster.get(JOB, cached["metadata"]["namespace"], cached["metadata"]["name"])
        if live and live["metadata"]["uid"] == cached["metadata"]["uid"]:
            return live
        return cached if job_status.has_ended(cached) else None

    def _baseline(self, benchmark: KimiLinearBenchmark, suite: Suite) -> Baseline:
        """Return the numbers with which a suite is compared."""
        source = benchmark.spec.baseline
        if source.source == "recipe":
            return baseline.of_recipe(suite)
        if source.benchmark is None:
            return Baseline()
        manifest = self._cache.get(Key(benchmark.metadata.namespace, source.benchmark, BENCHMARK))
        other = CHECKER.read_stored(manifest, {"suites"}) if manifest else None
        results = read_results(other, other.status) if other and is_complete(other.status) else []
        return baseline.of_benchmark(source.benchmark, other.spec.suites if other else [], results, suite)
