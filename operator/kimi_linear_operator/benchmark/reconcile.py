"""One pass over one benchmark: judge the suites that have ended, and start the next one when it may run."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from kimi_linear_operator.benchmark import (
    baseline,
    client,
    job,
    job_reasons,
    job_status,
    results_config_map,
    retention,
    target,
    turn,
    verdict,
)
from kimi_linear_operator.benchmark.admission import LEFTOVER_RETRY_SECONDS, Admission
from kimi_linear_operator.benchmark.baseline import Baseline
from kimi_linear_operator.benchmark.definition import CHECKER
from kimi_linear_operator.benchmark.events import benchmark_event
from kimi_linear_operator.benchmark.index import BenchmarkIndex
from kimi_linear_operator.benchmark.labels import SUITE_LABEL, TARGET_ANNOTATION
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark, Suite
from kimi_linear_operator.benchmark.status import (
    BenchmarkObservation,
    benchmark_status,
    is_complete,
    read_environment,
    read_failed_start,
    read_results,
    with_last_reason,
)
from kimi_linear_operator.benchmark.target_state import TargetState, is_unusable, target_state
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes import access, metadata
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, POD, Manifest
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.kubernetes.waits import next_look
from kimi_linear_operator.reconcile.asked import Asked
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.children import BLOCKED_RETRY_SECONDS
from kimi_linear_operator.reconcile.errors import GoneError, LeftoverError, NameTakenError, lasting_reason
from kimi_linear_operator.reconcile.reporting import TOLD_FAILURES
from kimi_linear_operator.reconcile.resource_type import Context

logger = logging.getLogger(__name__)

# How often to requeue a benchmark whose pods do not start: the operator does not watch Events.
LOOK_AGAIN_SECONDS = 30.0

_DONE = Reason("SuitesEnded", "every suite has ended")
# The verdict depends on these fields, so a suite is judged only when all of them can be read. Its Job stays until then.
_JUDGED_BY = ("serverRef", "endpoint", "suites", "baseline", "thresholds", "maxErrorRate", "timeoutSeconds")


@dataclass(frozen=True)
class _Step:
    """What a pass did with the next suite.

    Attributes:
        reason: The reason of TargetReady.
        job: The suite's Job, None if it has none.
        not_applied: Why the Job could not be created or deleted, None if it could.
        not_running: Why the suite does not run although its Job exists, None if it runs.
        failed_start: The last attempt that could not start and gave its turn back, None if the client has run since.
        again: Requeue after this many seconds, None if a watch event will enqueue the benchmark.
    """

    reason: Reason
    job: Manifest | None = None
    not_applied: Reason | None = None
    not_running: Reason | None = None
    failed_start: Manifest | None = None
    again: float | None = None


class BenchmarkReconciler:
    """Runs the suites of benchmarks one after the other and judges them.

    It keeps nothing that must survive a restart: the status says which suites have ended, and the Jobs say which one
    runs.
    """

    def __init__(self, context: Context) -> None:
        """Take what all reconcilers work with."""
        self.cluster = context.cluster
        self.cache = context.cache
        self.children = context.children
        self.reporting = context.reporting
        self.now = context.now
        self._allows_node_access = context.options.allows_node_access
        self._asked = Asked(context.cluster, self._check)
        self._index = context.cache.index(BenchmarkIndex)
        self._admission = Admission(context.cluster, context.cache)
        # Labels of the targets on which a benchmark is about to start. Other benchmarks of the same target are requeued
        # and do not wait here: lists from the API server can take long, and a waiting pass would occupy a worker.
        self._starting: set[str] = set()

    async def run(self, _: Callable[[], bool]) -> None:
        """Do nothing: all work belongs to single benchmarks."""

    async def reconcile(self, key: Key, failures: int = 0) -> float | None:
        """Make one pass over a benchmark.

        Args:
            key: The key of the benchmark.
            failures: How many passes in a row have failed before this one.

        Returns:
            The seconds after which to requeue the benchmark, None if it need not be.

        Raises:
            ApiError: A request failed; a later pass works out what is left to do.
        """
        manifest = self.cache.get(key.of(BENCHMARK))
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            self._asked.forget(key)
            return None  # The garbage collector deletes its Jobs.
        checked = self._check(manifest)
        try:
            if is_complete(manifest.get("status", {})):
                return await self._keep(key, manifest)
            return await self._advance(key, manifest, await self._asked.recheck(key, manifest, checked))
        except GoneError:
            return None
        except ApiError as error:
            if failures >= TOLD_FAILURES:
                await self._report_failure(manifest, checked, error)
            raise

    def _check(self, manifest: Manifest) -> Checked[KimiLinearBenchmark]:
        """Check a benchmark by its rules, and refuse access of its pods to nodes unless the administrator allows it."""
        checked = CHECKER.check_stored(manifest)
        return checked if self._allows_node_access else access.refuse_access(checked, job.own_pod_template)

    async def _keep(self, key: Key, manifest: Manifest) -> float | None:
        """Write the ConfigMap with the results of a complete benchmark, even if its spec is invalid by now.

        Then delete its Jobs, its runner and the benchmark itself, each when it is due.
        """
        benchmark = CHECKER.read_stored(manifest, {"suites"})
        if benchmark:
            await self._keep_results(benchmark, manifest["status"])
        return await self._clean_up(key, manifest, benchmark)

    async def _report_failure(self, manifest: Manifest, checked: Checked[KimiLinearBenchmark], error: ApiError) -> None:
        """Write to the status an error that retries did not resolve; the results there stay."""
        if is_complete(manifest.get("status", {})):
            return
        not_applied = Reason("ApplyFailed", error.message)
        refused = _refused(manifest, checked.resource, error.message)
        await self._write(manifest, replace(refused, not_applied=not_applied, target=not_applied))

    async def _advance(self, key: Key, manifest: Manifest, checked: Checked[KimiLinearBenchmark]) -> float | None:
        """Do what can be done now for a benchmark that is not complete, and write its status."""
        if checked.resource is None or not checked.is_valid:
            observation, again = await self._refuse(key, manifest, checked)
        else:
            observation, again = await self._run(key, manifest, checked.resource)
        summary = benchmark_status(observation, self.now())
        are_results_kept = True
        if observation.is_complete and observation.benchmark:
            # The results are written before the verdict, so that whoever sees the verdict finds them. If this fails,
            # the verdict is written nevertheless.
            are_results_kept = await self._try_to_keep_results(observation.benchmark, summary)
        retry = await self._write(manifest, observation, summary)
        if retry is not None or not are_results_kept:
            # Nothing is deleted before the status and the results are written.
            return retention.soonest([again, retry if are_results_kept else 0.0])
        return retention.soonest(
            [again, await self._clean_up(key, {**manifest, "status": summary}, observation.benchmark)]
        )

    async def _write(
        self, manifest: Manifest, observation: BenchmarkObservation, summary: Manifest | None = None
    ) -> float | None:
        """Write the status and its Event; return the seconds after which to retry, None if all went well."""
        summary = summary or benchmark_status(observation, self.now())
        event = benchmark_event(manifest, summary, self.now())
        return await self.reporting.write(BENCHMARK, manifest, summary, event)

    async def _refuse(
        self, key: Key, manifest: Manifest, checked: Checked[KimiLinearBenchmark]
    ) -> tuple[BenchmarkObservation, float | None]:
        """Judge the suites that have ended, if the spec can be read; start and stop nothing.

        Returns:
            The observation, and the seconds after which to requeue the benchmark, None if it need not be.
        """
        benchmark = CHECKER.read_stored(manifest, _JUDGED_BY)
        refused = _refused(manifest, benchmark, checked.message)
        if benchmark is None or not (benchmark.spec.server_ref or benchmark.spec.endpoint):
            return refused, None
        state, suites = target_state(self.cache, benchmark), benchmark.spec.suites
        facts = refused.facts or (state.target.facts if state.target else {})
        results = await self._results(key, benchmark, state, manifest.get("status", {}), facts)
        if results:
            refused = replace(refused, facts=facts, results=results)
        if len(results) == len(suites):
            return replace(refused, target=_DONE), None
        suite_job = self._job(key, benchmark, suites[len(results)])
        return refused, self._seconds_left(key, benchmark, suite_job) if suite_job else None

    async def _run(
        self, key: Key, manifest: Manifest, benchmark: KimiLinearBenchmark
    ) -> tuple[BenchmarkObservation, float | None]:
        """Judge the suites that have ended and go on with the next one.

        Returns:
            The observation, and the seconds after which to requeue the benchmark, None if it need not be.
        """
        state = target_state(self.cache, benchmark)
        previous: Manifest = await self._restored(benchmark) or manifest.get("status", {})
        facts: Manifest = read_environment(previous) or (state.target.facts if state.target else {})
        results = await self._results(key, benchmark, state, previous, facts)
        suites = benchmark.spec.suites
        if len(results) == len(suites):
            return BenchmarkObservation(manifest, benchmark, None, _DONE, facts, results), None
        step = await self._proceed(key, benchmark, suites[len(results)], state)
        # The environment is recorded when the first suite starts: until then the server may change.
        facts = facts if step.job or results else {}
        observation = BenchmarkObservation(manifest, benchmark, step.not_applied, step.reason, facts, results, step.job)
        return replace(observation, not_running=step.not_running, failed_start=step.failed_start), step.again

    async def _restored(self, benchmark: KimiLinearBenchmark) -> Manifest | None:
        """Return the status of a benchmark that was created again, from the ConfigMap with its results.

        A backup holds no status, and `kubectl delete --cascade=orphan` leaves the ConfigMap behind.

        Returns:
            The status, None if the benchmark has one or the ConfigMap does not hold all results of this spec.
        """
        if benchmark.status.get("startTime"):
            return None
        cached = self.cache.get(Key(benchmark.metadata.namespace, results_config_map.name(benchmark), CONFIG_MAP))
        if cached is None or not results_config_map.is_left_by(cached, benchmark):
            return None
        live = await self.cluster.get(CONFIG_MAP, benchmark.metadata.namespace, results_config_map.name(benchmark))
        if live is None or not results_config_map.is_left_by(live, benchmark):
            return None
        restored = results_config_map.read(live)
        has_all_results = len(read_results(benchmark, restored)) == len(benchmark.spec.suites)
        return restored if has_all_results else None

    async def _proceed(self, key: Key, benchmark: KimiLinearBenchmark, suite: Suite, state: TargetState) -> _Step:
        """Stop a suite, start it, or follow it while it runs."""
        suite_job = self._job(key, benchmark, suite)
        failed_start = (
            read_failed_start(benchmark.status) if suite_job else self._failed_start(key, benchmark, suite, state)
        )
        step = _Step(state.reason, suite_job, failed_start=failed_start)
        try:
            if benchmark.spec.suspend:
                await self._stop(suite_job)
                return _Step(state.reason)
            if suite_job:
                return await self._follow(key, benchmark, suite, step, suite_job)
            if state.is_ready:
                return replace(await self._start(key, benchmark, suite, state), failed_start=failed_start)
        except (NameTakenError, LeftoverError, ApiError) as error:
            not_applied = lasting_reason(error)
            if not not_applied.blames_spec and not suite_job and self._admission.has_rivals(key):
                failed_start = self._attempt(suite, not_applied)
            return replace(step, not_applied=not_applied, failed_start=failed_start, again=BLOCKED_RETRY_SECONDS)
        return step

    def _failed_start(
        self, key: Key, benchmark: KimiLinearBenchmark, suite: Suite, state: TargetState
    ) -> Manifest | None:
        """Return the last attempt to start the next suite that failed, None if none has.

        A target that cannot be used is such an attempt if others wait, and only until it can be used.
        """
        failed = read_failed_start(benchmark.status)
        if failed and is_unusable(failed["reason"]) and failed["reason"] != state.reason.name:
            return None
        if not failed and is_unusable(state.reason.name) and self._admission.has_rivals(key):
            return self._attempt(suite, state.reason)
        return failed

    async def _follow(
        self, key: Key, benchmark: KimiLinearBenchmark, suite: Suite, step: _Step, suite_job: Manifest
    ) -> _Step:
        """Find out why a suite with a Job does not run.

        If it has not begun for too long and others wait, stop it to give its turn back.
        """
        if "deletionTimestamp" in suite_job["metadata"]:
            removed = Reason("WaitingForTurn", "the Job of the last attempt is still being removed")
            return replace(step, reason=removed, job=None)
        pods = self.cache.children(POD, key, suite_job["metadata"]["uid"])
        left = job_status.seconds_left(suite_job, pods, benchmark.spec.timeout_seconds, self.now())
        has_begun = job_status.has_begun(pods)
        if has_begun:
            step = replace(step, failed_start=None)
        reason = await self._why_not_running(suite_job, pods)
        age = seconds_between(suite_job["metadata"]["creationTimestamp"], self.now()) or 0.0
        limit = turn.may_hold_seconds(reason.name) if reason else 0.0
        if reason and not has_begun and age >= limit and self._admission.has_rivals(key):
            await self._stop(suite_job)
            logger.info("Suite %s could not start and gives its turn back: %s", suite.name, reason.message)
            return replace(step, job=None, failed_start=self._attempt(suite, reason))
        # Until the client runs, Events may be all that tells what is wrong, and they are not watched.
        is_fine = has_begun and not reason
        waits = [left, next_look(pods, self.now()), None if is_fine else LOOK_AGAIN_SECONDS]
        return replace(step, not_running=reason, again=retention.soonest(waits))

    async def _why_not_running(self, suite_job: Manifest, pods: list[Manifest]) -> Reason | None:
        """Return why a Job's pods do not run, None if they run or the cause is not known."""
        involved = job_reasons.asks_events_of(suite_job, pods, self.now())
        events: list[Manifest] = []
        try:
            events = await self.cluster.events_of(involved) if involved else []
        except ApiError as error:
            # Without Events, the reason is less precise.
            logger.warning("Could not read Events: %s", error)
        return job_reasons.job_reason(suite_job, pods, events, self.now())

    def _attempt(self, suite: Suite, reason: Reason) -> Manifest:
        """Return `status.failedStart` for a suite that gives its turn back now."""
        return {"suite": suite.name, "time": self.now(), "reason": reason.name, "message": reason.message}

    async def _results(
        self, key: Key, benchmark: KimiLinearBenchmark, state: TargetState, previous: Manifest, facts: Manifest
    ) -> list[Manifest]:
        """Return the results of the suites that have ended: those in the status, and those that are judged now."""
        results = read_results(benchmark, previous)
        for suite in benchmark.spec.suites[len(results) :]:
            suite_job = self._job(key, benchmark, suite)
            if suite_job is None or not client.is_known(suite) or self._seconds_left(key, benchmark, suite_job) != 0:
                break
            results.append(await self._result(benchmark, suite, state, suite_job, facts))
            logger.info("Suite %s has ended: %s", suite.name, results[-1]["outcome"])
        return results

    def _seconds_left(self, key: Key, benchmark: KimiLinearBenchmark, suite_job: Manifest) -> float | None:
        """Return in how many seconds a suite ends at the latest, 0 if it has ended.

        None if its Job is being deleted before the Job has ended.
        """
        if "deletionTimestamp" in suite_job["metadata"] and not job_status.has_ended(suite_job):
            return None
        pods = self.cache.children(POD, key, suite_job["metadata"]["uid"])
        return job_status.seconds_left(suite_job, pods, benchmark.spec.timeout_seconds, self.now())

    async def _result(
        self, benchmark: KimiLinearBenchmark, suite: Suite, state: TargetState, suite_job: Manifest, facts: Manifest
    ) -> Manifest:
        """Return the judged result of a suite that has ended."""
        # The pods are listed because the cache may not have the last one yet.
        selector = f"{metadata.selector_text(benchmark)},{SUITE_LABEL}={suite.name}"
        pods = job_status.pods_of(suite_job, await self.cluster.essences(POD, benchmark.metadata.namespace, selector))
        result = job_status.result_of(suite_job, suite, pods, benchmark.spec.timeout_seconds, self.now())
        result = with_last_reason(result, benchmark.status)
        before = suite_job["metadata"].get("annotations", {}).get(TARGET_ANNOTATION, "")
        changes = [*target.changes_since(facts, before), *target.changes(before, state.snapshot)]
        return verdict.judge(benchmark.spec, suite, result, self._baseline(benchmark, suite), changes)

    def _baseline(self, benchmark: KimiLinearBenchmark, suite: Suite) -> Baseline:
        """Return the numbers to compare a suite with."""
        source = benchmark.spec.baseline
        if source.source == "recipe":
            return baseline.of_recipe(suite)
        if source.benchmark is None:
            return Baseline()
        manifest = self.cache.get(Key(benchmark.metadata.namespace, source.benchmark, BENCHMARK))
        other = CHECKER.read_stored(manifest, {"suites"}) if manifest else None
        results = read_results(other, other.status) if other and is_complete(other.status) else []
        return baseline.of_benchmark(source.benchmark, other.spec.suites if other else [], results, suite)

    def _job(self, key: Key, benchmark: KimiLinearBenchmark, suite: Suite) -> Manifest | None:
        """Return a suite's cached Job, None if it has none.

        It is found by owner and label, as earlier builds of the operator named Jobs otherwise.
        """
        return self._index.job_of(key, benchmark.metadata.uid, suite.name)

    async def _stop(self, suite_job: Manifest | None) -> None:
        """Delete a Job, but after its pods, so that it holds the target until its client has ended."""
        if suite_job and "deletionTimestamp" not in suite_job["metadata"]:
            await self.cluster.delete(JOB, suite_job, children_first=True)
            logger.info("Stopped Job %s", suite_job["metadata"]["name"])

    async def _start(self, key: Key, benchmark: KimiLinearBenchmark, suite: Suite, state: TargetState) -> _Step:
        """Apply the runner and create a suite's Job, unless the benchmark has to wait for others of this target."""
        assert state.target  # noqa: S101 - `is_ready` has checked it
        label = state.target.label
        if label in self._starting:
            message = f"another benchmark of {state.target.name} is about to start"
            return _Step(Reason("WaitingForTurn", message), again=LEFTOVER_RETRY_SECONDS)
        self._starting.add(label)
        try:
            if wait := await self._admission.wait(key, state.target, self.now()):
                return _Step(wait.reason, again=wait.again)
            await self.children.apply(benchmark, metadata.with_fingerprint(job.build_runner(benchmark)))
            desired = job.build_job(benchmark, suite, state.target, state.snapshot)
            created = await self.children.create(benchmark, metadata.with_fingerprint(desired))
        finally:
            self._starting.discard(label)
        return _Step(state.reason, created, again=LOOK_AGAIN_SECONDS)

    async def _clean_up(self, key: Key, manifest: Manifest, benchmark: KimiLinearBenchmark | None) -> float | None:
        """Delete the Jobs and the runner that a benchmark no longer needs, and the benchmark itself when it expires.

        Returns:
            The seconds until the next deletion is due, a day at most; None if no time is set for any.
        """
        status = manifest["status"]
        until_job = await self._clean_up_jobs(key, manifest)
        until_expiry = retention.seconds_to_live(benchmark, status, self.now())
        if is_complete(status) and benchmark and until_job is None:
            await self._delete_runner(benchmark)
        if until_expiry == 0.0:
            await self._expire(key, manifest)
            return None
        soonest = retention.soonest([until_job, until_expiry])
        return None if soonest is None else min(soonest, retention.LONGEST_WAIT_SECONDS)

    async def _clean_up_jobs(self, key: Key, manifest: Manifest) -> float | None:
        """Delete the Jobs whose result is in the status and whose log is no longer needed.

        Returns:
            The seconds until the next Job can be deleted, None if every Job left still lacks a result.
        """
        jobs = self.cache.children(JOB, key, manifest["metadata"]["uid"])
        jobs = [suite_job for suite_job in jobs if "deletionTimestamp" not in suite_job["metadata"]]
        left = [retention.job_seconds_left(suite_job, manifest["status"], self.now()) for suite_job in jobs]
        for suite_job in (suite_job for suite_job, seconds in zip(jobs, left, strict=True) if seconds == 0.0):
            await self.cluster.delete(JOB, suite_job)
            logger.info("Deleted Job %s: its result is kept", suite_job["metadata"]["name"])
        return retention.soonest([seconds for seconds in left if seconds])

    async def _delete_runner(self, benchmark: KimiLinearBenchmark) -> None:
        runner = self.cache.get(Key(benchmark.metadata.namespace, job.runner_name(benchmark), CONFIG_MAP))
        if runner and metadata.is_owned_by(runner, benchmark.metadata.uid):
            await self.cluster.delete(CONFIG_MAP, runner)

    async def _expire(self, key: Key, manifest: Manifest) -> None:
        """Delete a benchmark whose time is up, unless it was changed: then a watch event enqueues it."""
        live = await self.cluster.get(BENCHMARK, key.namespace, key.name)
        if live is None or live["metadata"]["uid"] != manifest["metadata"]["uid"]:
            return
        benchmark = CHECKER.read_stored(live)
        if retention.seconds_to_live(benchmark, live.get("status", {}), self.now()) == 0.0:
            await self.cluster.delete(BENCHMARK, live)
            logger.info("Deleted the benchmark: spec.ttlSecondsAfterFinished is over")

    async def _try_to_keep_results(self, benchmark: KimiLinearBenchmark, status: Manifest) -> bool:
        """Try to write the ConfigMap with the results; return False to retry. A taken name counts as done."""
        try:
            await self._keep_results(benchmark, status)
        except ApiError as error:
            logger.warning("Could not write the results, trying again after the verdict: %s", error)
            return False
        return True

    async def _keep_results(self, benchmark: KimiLinearBenchmark, status: Manifest) -> None:
        """Write the ConfigMap with the results if it differs. A ConfigMap of this name with another owner stays."""
        try:
            await self.children.apply(benchmark, metadata.with_fingerprint(results_config_map.build(benchmark, status)))
        except (NameTakenError, LeftoverError) as error:
            logger.warning("Could not write the results: %s", error)


def _refused(manifest: Manifest, benchmark: KimiLinearBenchmark | None, message: str) -> BenchmarkObservation:
    """Return the observation of a benchmark with an invalid spec; results in its status stay.

    Args:
        manifest: The benchmark as it is stored.
        benchmark: As much of it as can be read, None if nothing can.
        message: What is wrong with the spec.
    """
    previous: Manifest = manifest.get("status", {})
    not_applied = Reason("InvalidSpec", message, blames_spec=True)
    results = read_results(benchmark, previous) if benchmark else previous.get("results", [])
    target_reason = Reason("InvalidSpec", "The spec is refused")
    return BenchmarkObservation(manifest, benchmark, not_applied, target_reason, read_environment(previous), results)
