"""Deletes what a benchmark no longer needs, and the benchmark itself when it expires."""

import logging

from kimi_linear_operator.benchmark import job, retention
from kimi_linear_operator.benchmark.definition import CHECKER
from kimi_linear_operator.benchmark.spec import BENCHMARK, BenchmarkStatus, KimiLinearBenchmark
from kimi_linear_operator.benchmark.status import is_complete
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, Manifest
from kimi_linear_operator.kubernetes.stored import with_readable_status
from kimi_linear_operator.kubernetes.times import soonest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BEHIND_RETRY_SECONDS
from kimi_linear_operator.reconcile.resource_type import Context

logger = logging.getLogger(__name__)


class CleanUp:
    """Deletes what benchmarks no longer need."""

    def __init__(self, context: Context) -> None:
        """Take the context that all reconcilers share."""
        self._cluster = context.cluster
        self._cache = context.cache
        self._now = context.now

    async def run(self, key: Key, manifest: Manifest, benchmark: KimiLinearBenchmark | None) -> float | None:
        """Delete the Jobs and the runner that a benchmark no longer needs, and the benchmark itself when it expires.

        Args:
            key: The key of the benchmark.
            manifest: The benchmark with the last written status.
            benchmark: The parsed benchmark, None if it cannot be read.

        Returns:
            The seconds until the next deletion, a day at most; None if no deletion is planned. A deletion comes again
            until a watch shows the end of the object, because the watch may have missed it.

        Raises:
            ApiError: An object could not be deleted.
        """
        status = manifest["status"]
        wait = await self._delete_jobs(key, manifest)
        until_expiry = retention.seconds_to_live(benchmark, status, self._now())
        if is_complete(status) and benchmark and wait is None:
            wait = await self._delete_runner(benchmark)
        if until_expiry == 0.0:
            until_expiry = await self._expire(key, manifest)
        next_wait = soonest([wait, until_expiry])
        return None if next_wait is None else min(next_wait, retention.LONGEST_WAIT_SECONDS)

    async def _delete_jobs(self, key: Key, manifest: Manifest) -> float | None:
        """Delete the Jobs whose result is in the status and whose log is no longer needed.

        Returns:
            The seconds until the next deletion, None if no remaining Job has a result.
        """
        jobs = self._cache.children(JOB, key, manifest["metadata"]["uid"])
        jobs = [suite_job for suite_job in jobs if not metadata.is_being_deleted(suite_job)]
        left = [retention.job_seconds_left(suite_job, manifest["status"], self._now()) for suite_job in jobs]
        for suite_job in (suite_job for suite_job, seconds in zip(jobs, left, strict=True) if seconds == 0.0):
            await self._cluster.delete(JOB, suite_job)
            logger.info("Deleted Job %s. Its result stays in the status", suite_job["metadata"]["name"])
        return soonest([seconds or BEHIND_RETRY_SECONDS for seconds in left if seconds is not None])

    async def _delete_runner(self, benchmark: KimiLinearBenchmark) -> float | None:
        """Delete the runner; return the seconds until the next attempt, None if there is no runner."""
        runner = self._cache.get(Key(benchmark.metadata.namespace, job.runner_name(benchmark), CONFIG_MAP))
        if not runner or not metadata.is_owned_by(runner, benchmark.metadata.uid) or metadata.is_being_deleted(runner):
            return None
        await self._cluster.delete(CONFIG_MAP, runner)
        return BEHIND_RETRY_SECONDS

    async def _expire(self, key: Key, manifest: Manifest) -> float | None:
        """Delete a benchmark whose time has passed; return the seconds until the next attempt.

        If somebody has changed the benchmark, do nothing, because the watch event of the change enqueues it.
        """
        found = await self._cluster.get(BENCHMARK, key.namespace, key.name)
        if found is None or found["metadata"]["uid"] != manifest["metadata"]["uid"] or metadata.is_being_deleted(found):
            return BEHIND_RETRY_SECONDS
        live = with_readable_status(found, BenchmarkStatus)
        benchmark = CHECKER.read_stored(live)
        is_due = retention.seconds_to_live(benchmark, live["status"], self._now()) == 0.0
        if not is_due or not retention.is_wanted(live):
            return None
        await self._cluster.delete(BENCHMARK, live, if_unchanged=True)
        logger.info("Deleted the benchmark, because spec.ttlSecondsAfterFinished has passed")
        return BEHIND_RETRY_SECONDS
