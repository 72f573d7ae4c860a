"""Judges the suites that have ended."""

import logging

from kimi_linear_operator.benchmark import baseline, job_status, load, target, verdict
from kimi_linear_operator.benchmark.baseline import Baseline
from kimi_linear_operator.benchmark.definition import CHECKER
from kimi_linear_operator.benchmark.index import BenchmarkIndex
from kimi_linear_operator.benchmark.labels import SUITE_LABEL, TARGET_ANNOTATION
from kimi_linear_operator.benchmark.measurement import Measurement
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark, Suite
from kimi_linear_operator.benchmark.status import is_complete, read_results, with_last_reason
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, POD, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.server.labels import SERVER_LABEL
from kimi_linear_operator.server.spec import SERVER

logger = logging.getLogger(__name__)


class EndedSuites:
    """Judges the suites that have ended."""

    def __init__(self, context: Context) -> None:
        """Take the context that all reconcilers share."""
        self._cluster = context.cluster
        self._cache = context.cache
        self._index = context.cache.index(BenchmarkIndex)
        self._now = context.now

    async def results(self, measurement: Measurement, previous: Manifest, facts: Manifest) -> list[Manifest]:
        """Return the results of the suites that have ended. Some are in the status already; the others are judged now.

        Args:
            measurement: The benchmark.
            previous: Its status.
            facts: The contents of `status.environment`.

        Raises:
            ApiError: The pods of a suite, or the state of the server, could not be read.
        """
        benchmark = measurement.benchmark
        results = read_results(benchmark, previous)
        for suite in benchmark.spec.suites[len(results) :]:
            job = self._index.job_of(measurement.key, benchmark.metadata.uid, suite.name)
            if job is None or not load.is_known(suite) or self._seconds_left(measurement, job) != 0:
                break
            results.append(await self._result(measurement, suite, job, facts))
            logger.info("Suite %s has ended: %s", suite.name, results[-1]["outcome"])
        return results

    def seconds_left_of(self, measurement: Measurement, suite: Suite) -> float | None:
        """Return in how many seconds a suite ends at the latest.

        None if it has no Job, if its Job is being deleted, or if this version does not know its load. Another version
        judges a suite with an unknown load.
        """
        if not load.is_known(suite):
            return None
        job = self._index.job_of(measurement.key, measurement.benchmark.metadata.uid, suite.name)
        return self._seconds_left(measurement, job) if job else None

    def _seconds_left(self, measurement: Measurement, job: Manifest) -> float | None:
        """Return in how many seconds a suite ends at the latest, 0 if it has ended.

        None if its Job is being deleted before the Job has ended.
        """
        if "deletionTimestamp" in job["metadata"] and not job_status.has_ended(job):
            return None
        pods = self._cache.children(POD, measurement.key, job["metadata"]["uid"])
        return job_status.seconds_left(job, pods, measurement.benchmark.spec.timeout_seconds, self._now())

    async def _result(self, measurement: Measurement, suite: Suite, job: Manifest, facts: Manifest) -> Manifest:
        """Return the judged result of a suite that has ended."""
        benchmark = measurement.benchmark
        # The pods are listed, because the cache may not contain the last pod yet.
        selector = f"{metadata.selector_text(benchmark)},{SUITE_LABEL}={suite.name}"
        pods = job_status.pods_of(job, await self._cluster.essences(POD, benchmark.metadata.namespace, selector))
        limit = benchmark.spec.timeout_seconds
        result = job_status.result_of(job, suite, pods, timeout_seconds=limit, now=self._now())
        result = with_last_reason(result, benchmark.status)
        before = job["metadata"].get("annotations", {}).get(TARGET_ANNOTATION, "")
        snapshot = await self._snapshot(benchmark)
        changes = [*target.changes_since(facts, before), *target.changes(before, snapshot)]
        return verdict.judge(benchmark.spec, suite, result, baseline=self._baseline(benchmark, suite), changes=changes)

    async def _snapshot(self, benchmark: KimiLinearBenchmark) -> str:
        """Return the state of the benchmark's server now.

        It comes from the API server, because the watch of the server's pods can be later than that of the Job.
        """
        reference, namespace = benchmark.spec.server_ref, benchmark.metadata.namespace
        if reference is None:
            return target.snapshot(None, ())
        server = await self._cluster.get(SERVER, namespace, reference.name)
        deployment = await self._cluster.get(DEPLOYMENT, namespace, reference.name)
        pods = await self._cluster.essences(POD, namespace, f"{SERVER_LABEL}={reference.name}")
        is_own = server and deployment and metadata.is_owned_by(deployment, server["metadata"]["uid"])
        return target.snapshot(server, pods, deployment["spec"].get("template") if deployment and is_own else None)

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
