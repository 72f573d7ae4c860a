"""One pass over one benchmark: what has ended is judged, and the next suite is started when it may."""

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
    known_attempt,
    known_environment,
    known_results,
    with_last_words,
)
from kimi_linear_operator.benchmark.target_state import LEFTOVER_RETRY_SECONDS, Targets, TargetState
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes import access, metadata
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, POD, Manifest
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.kubernetes.waits import next_look
from kimi_linear_operator.reconcile.asked import Asked
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.children import (
    BLOCKED_RETRY_SECONDS,
    GoneError,
    LeftoverError,
    NameTakenError,
    lasting_reason,
)
from kimi_linear_operator.reconcile.reporting import TOLD_FAILURES
from kimi_linear_operator.reconcile.resource_type import Context

logger = logging.getLogger(__name__)

# How often to look once more at a suite whose pods do not come up: no watch shows Events.
LOOK_AGAIN_SECONDS = 30.0

_DONE = Reason("SuitesEnded", "every suite has ended")
# Without one of these, a result would be called better or worse than it is. It can be judged later: its Job stays.
_JUDGED_BY = ("serverRef", "endpoint", "suites", "baseline", "thresholds", "maxErrorRate", "timeoutSeconds")


@dataclass(frozen=True)
class _Step:
    """What a pass came to with the suite that is next.

    Attributes:
        cause: The state of the target.
        job: The suite's Job, if it runs.
        obstacle: Why it could not be started or stopped, if it could not.
        held: Why it does not run although its Job is there.
        failed_start: The last attempt to start that gave its turn back, if none has started since.
        again: When to look again in seconds, if no watch will tell.
    """

    reason: Reason
    job: Manifest | None = None
    not_applied: Reason | None = None
    not_running: Reason | None = None
    failed_start: Manifest | None = None
    again: float | None = None


class BenchmarkReconciler:
    """Runs the suites of benchmarks one after the other and judges them.

    Nothing is remembered here: which suites have ended is in the status, and what runs is in Jobs.
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
        self._targets = Targets(context.cluster, context.cache)
        # Targets on which a benchmark is about to start. No other may look meanwhile, and none waits: a look takes as
        # long as the API server takes to list, and whoever waits keeps a worker from everybody else.
        self._starting: set[str] = set()

    async def run(self, _: Callable[[], bool]) -> None:
        """Do nothing: all work is asked for by single benchmarks."""

    async def reconcile(self, key: Key, failures: int = 0) -> float | None:
        """Make one pass over a benchmark; return after how many seconds it is due again, if at all.

        Args:
            key: Which benchmark.
            failures: How many passes before failed in a row.

        Raises:
            ApiError: The API server could not do its part; a later pass will find out what is left to do.
        """
        manifest = self.cache.get(key.of(BENCHMARK))
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            self._asked.forget(key)
            return None  # Its Jobs are owned by it: the garbage collector needs no help.
        checked = self._check(manifest)
        try:
            if is_complete(manifest.get("status", {})):
                return await self._keep(key, manifest)
            return await self._advance(key, manifest, await self._asked.recheck(key, manifest, checked))
        except GoneError:
            return None
        except ApiError as error:
            if failures >= TOLD_FAILURES:
                await self._tell_failure(manifest, checked, error)
            raise

    def _check(self, manifest: Manifest) -> Checked[KimiLinearBenchmark]:
        """Check a benchmark by its rules, and for what needs the permission of the administrator."""
        checked = CHECKER.check_stored(manifest)
        if checked.resource is None or not checked.is_valid or self._allows_node_access:
            return checked
        return checked.beside(access.problems(job.own_pod_template(checked.resource)))

    async def _keep(self, key: Key, manifest: Manifest) -> float | None:
        """Keep of a complete benchmark what is still needed; what was measured stays whatever its spec is now."""
        benchmark = CHECKER.read_stored(manifest, {"suites"})
        if benchmark:
            await self._keep_results(benchmark, manifest["status"])
        return await self._clean_up(key, manifest, benchmark)

    async def _tell_failure(self, manifest: Manifest, checked: Checked[KimiLinearBenchmark], error: ApiError) -> None:
        """Report an error that has not passed by itself; what is known of suites stays."""
        known: Manifest = manifest.get("status", {})
        if is_complete(known):
            return
        not_applied = Reason("ApplyFailed", error.message)
        refused = _refused(manifest, checked.resource, error.message)
        await self._write(manifest, replace(refused, not_applied=not_applied, target=not_applied))

    async def _advance(self, key: Key, manifest: Manifest, checked: Checked[KimiLinearBenchmark]) -> float | None:
        """Go as far as is possible now, and report."""
        if checked.resource is None or not checked.is_valid:
            observation, again = await self._refuse(key, manifest, checked)
        else:
            observation, again = await self._run(key, manifest, checked.resource)
        summary = benchmark_status(observation, self.now())
        is_kept = True
        if observation.is_complete and observation.benchmark:
            # Results are written before the verdict, so that readers of the verdict find them. A failure to write them
            # does not delay the verdict.
            is_kept = await self._try_to_keep_results(observation.benchmark, summary)
        reported = await self._write(manifest, observation, summary)
        if reported is not None or not is_kept:
            # Without its status, nothing of the benchmark may go.
            return retention.soonest([again, reported if is_kept else 0.0])
        return retention.soonest(
            [again, await self._clean_up(key, {**manifest, "status": summary}, observation.benchmark)]
        )

    async def _write(
        self, manifest: Manifest, observation: BenchmarkObservation, summary: Manifest | None = None
    ) -> float | None:
        """Write the status and its Event; return when the benchmark is due again, None if all went well."""
        summary = summary or benchmark_status(observation, self.now())
        event = benchmark_event(manifest, summary, self.now())
        return await self.reporting.write(BENCHMARK, manifest, summary, event)

    async def _refuse(
        self, key: Key, manifest: Manifest, checked: Checked[KimiLinearBenchmark]
    ) -> tuple[BenchmarkObservation, float | None]:
        """Judge what has ended, as far as the spec can be read; start and stop nothing."""
        benchmark = CHECKER.read_stored(manifest, _JUDGED_BY)
        refused = _refused(manifest, benchmark, checked.message)
        if benchmark is None or not (benchmark.spec.server_ref or benchmark.spec.endpoint):
            return refused, None
        state, suites = self._targets.find(benchmark), benchmark.spec.suites
        facts = refused.facts or (state.target.facts if state.target else {})
        ended = await self._results(key, benchmark, state, manifest.get("status", {}), facts)
        if ended:
            refused = replace(refused, facts=facts, results=ended)
        if len(ended) == len(suites):
            return replace(refused, target=_DONE), None
        running = self._job(key, benchmark, suites[len(ended)])
        return refused, self._seconds_left(key, benchmark, running) if running else None

    async def _run(
        self, key: Key, manifest: Manifest, benchmark: KimiLinearBenchmark
    ) -> tuple[BenchmarkObservation, float | None]:
        """Judge what has ended and start what comes next; return the state, and when to look again."""
        state = self._targets.find(benchmark)
        previous: Manifest = await self._restored(benchmark) or manifest.get("status", {})
        facts: Manifest = known_environment(previous) or (state.target.facts if state.target else {})
        ended = await self._results(key, benchmark, state, previous, facts)
        suites = benchmark.spec.suites
        if len(ended) == len(suites):
            return BenchmarkObservation(manifest, benchmark, None, _DONE, facts, ended), None
        step = await self._proceed(key, benchmark, suites[len(ended)], state)
        # What has not begun may still measure something else.
        facts = facts if step.job or ended else {}
        observation = BenchmarkObservation(manifest, benchmark, step.not_applied, step.reason, facts, ended, step.job)
        return replace(observation, not_running=step.not_running, failed_start=step.failed_start), step.again

    async def _restored(self, benchmark: KimiLinearBenchmark) -> Manifest | None:
        """Return the status of a benchmark that has lost it, from the ConfigMap with its results, if that was kept.

        Backups have no status, and `kubectl delete --cascade=orphan` leaves the ConfigMap behind.
        """
        if benchmark.status.get("startTime"):
            return None
        seen = self.cache.get(Key(benchmark.metadata.namespace, results_config_map.name(benchmark), CONFIG_MAP))
        if seen is None or not results_config_map.is_left_by(seen, benchmark):
            return None
        found = await self.cluster.get(CONFIG_MAP, benchmark.metadata.namespace, results_config_map.name(benchmark))
        if found is None or not results_config_map.is_left_by(found, benchmark):
            return None
        restored = results_config_map.read(found)
        is_whole = len(known_results(benchmark, restored)) == len(benchmark.spec.suites)
        return restored if is_whole else None

    async def _proceed(self, key: Key, benchmark: KimiLinearBenchmark, suite: Suite, state: TargetState) -> _Step:
        """Stop, start or look after a suite, as far as there is anything to do."""
        running = self._job(key, benchmark, suite)
        failed = known_attempt(benchmark.status)
        step = _Step(state.reason, running, failed_start=failed)
        try:
            if benchmark.spec.suspend:
                await self._stop(running)
                return _Step(state.reason)
            if running:
                return await self._look_after(key, benchmark, suite, step, running)
            if state.is_ready:
                return replace(await self._start(key, benchmark, suite, state), failed_start=failed)
        except (NameTakenError, LeftoverError, ApiError) as error:
            not_applied = lasting_reason(error)
            if not not_applied.blames_spec and not running and self._targets.has_rivals(key):
                failed = self._attempt(suite, not_applied)
            return replace(step, not_applied=not_applied, failed_start=failed, again=BLOCKED_RETRY_SECONDS)
        return step

    async def _look_after(
        self, key: Key, benchmark: KimiLinearBenchmark, suite: Suite, step: _Step, running: Manifest
    ) -> _Step:
        """Find out why a suite with a Job does not run, and let others go first if that does not pass."""
        if "deletionTimestamp" in running["metadata"]:
            removed = Reason("WaitingForTurn", "the Job of the last attempt is still being removed")
            return replace(step, reason=removed, job=None)
        pods = self.cache.children(POD, key, running["metadata"]["uid"])
        left = job_status.seconds_left(running, pods, benchmark.spec.timeout_seconds, self.now())
        if job_status.has_begun(pods):
            step = replace(step, failed_start=None)
        why = await self._why_not_running(running, pods)
        age = seconds_between(running["metadata"]["creationTimestamp"], self.now()) or 0.0
        holds = turn.may_hold_seconds(why.name) if why else 0.0
        if why and not job_status.has_begun(pods) and age >= holds and self._targets.has_rivals(key):
            await self._stop(running)
            logger.info("Suite %s could not start and gives its turn back: %s", suite.name, why.message)
            return replace(step, job=None, failed_start=self._attempt(suite, why))
        # A suite that is being brought up is looked at again, as only Events may say what is wrong.
        is_fine = job_status.has_begun(pods) and not why
        waits = [left, next_look(pods, self.now()), None if is_fine else LOOK_AGAIN_SECONDS]
        return replace(step, not_running=why, again=retention.soonest(waits))

    async def _why_not_running(self, running: Manifest, pods: list[Manifest]) -> Reason | None:
        """Return what keeps a Job's pods from running."""
        involved = job_reasons.asks_events_of(running, pods, self.now())
        events: list[Manifest] = []
        try:
            events = await self.cluster.events_of(involved) if involved else []
        except ApiError as error:
            # Without them, the cause is told in fewer words.
            logger.warning("Could not read Events: %s", error)
        return job_reasons.job_reason(running, pods, events, self.now())

    def _attempt(self, suite: Suite, why: Reason) -> Manifest:
        return {"suite": suite.name, "time": self.now(), "reason": why.name, "message": why.message}

    async def _results(
        self, key: Key, benchmark: KimiLinearBenchmark, state: TargetState, previous: Manifest, facts: Manifest
    ) -> list[Manifest]:
        """Return the results of the suites that have ended, those that are known and those that are new."""
        ended = known_results(benchmark, previous)
        for suite in benchmark.spec.suites[len(ended) :]:
            of_suite = self._job(key, benchmark, suite)
            if of_suite is None or not client.is_known(suite) or self._seconds_left(key, benchmark, of_suite) != 0:
                break
            ended.append(await self._result(benchmark, suite, state, of_suite, facts))
            logger.info("Suite %s has ended: %s", suite.name, ended[-1]["outcome"])
        return ended

    def _seconds_left(self, key: Key, benchmark: KimiLinearBenchmark, of_suite: Manifest) -> float | None:
        """Return after how many seconds a suite is over, 0 if it is; None if its Job is removed before that."""
        if "deletionTimestamp" in of_suite["metadata"] and not job_status.has_ended(of_suite):
            return None
        pods = self.cache.children(POD, key, of_suite["metadata"]["uid"])
        return job_status.seconds_left(of_suite, pods, benchmark.spec.timeout_seconds, self.now())

    async def _result(
        self, benchmark: KimiLinearBenchmark, suite: Suite, state: TargetState, of_suite: Manifest, facts: Manifest
    ) -> Manifest:
        """Return the judged result of a suite that has ended."""
        # The watch may not have shown the last pod yet.
        selector = f"{metadata.selector_text(benchmark)},{SUITE_LABEL}={suite.name}"
        pods = job_status.pods_of(of_suite, await self.cluster.essences(POD, benchmark.metadata.namespace, selector))
        result = job_status.result_of(of_suite, suite, pods, benchmark.spec.timeout_seconds, self.now())
        result = with_last_words(result, benchmark.status)
        before = of_suite["metadata"].get("annotations", {}).get(TARGET_ANNOTATION, "")
        changes = [*target.changes_since(facts, before), *target.changes(before, state.snapshot)]
        return verdict.judge(benchmark.spec, suite, result, self._baseline(benchmark, suite), changes)

    def _baseline(self, benchmark: KimiLinearBenchmark, suite: Suite) -> Baseline:
        """Return the numbers to compare a suite with."""
        wanted = benchmark.spec.baseline
        if wanted.source == "recipe":
            return baseline.of_recipe(suite)
        if wanted.benchmark is None:
            return Baseline()
        manifest = self.cache.get(Key(benchmark.metadata.namespace, wanted.benchmark, BENCHMARK))
        other = CHECKER.read_stored(manifest, {"suites"}) if manifest else None
        has_ended = other is not None and is_complete(other.status)
        known = known_results(other, other.status) if other and has_ended else []
        return baseline.of_benchmark(wanted.benchmark, other.spec.suites if other else [], known, suite)

    def _job(self, key: Key, benchmark: KimiLinearBenchmark, suite: Suite) -> Manifest | None:
        """Return a suite's Job as it was seen last, whatever its name is."""
        return self._index.job_of(key, benchmark.metadata.uid, suite.name)

    async def _stop(self, running: Manifest | None) -> None:
        """Delete a Job. It is there until its pods have gone, so that nobody else starts before."""
        if running and "deletionTimestamp" not in running["metadata"]:
            await self.cluster.delete(JOB, running, children_first=True)
            logger.info("Stopped Job %s", running["metadata"]["name"])

    async def _start(self, key: Key, benchmark: KimiLinearBenchmark, suite: Suite, state: TargetState) -> _Step:
        """Start a suite unless somebody else is in the way."""
        assert state.target  # noqa: S101 - what is ready is known
        label = state.target.label
        if label in self._starting:
            message = f"another benchmark of {state.target.name} is about to start"
            return _Step(Reason("WaitingForTurn", message), again=LEFTOVER_RETRY_SECONDS)
        self._starting.add(label)
        try:
            if wait := await self._targets.wait(key, state.target, self.now()):
                return _Step(wait.reason, again=wait.again)
            await self.children.apply(benchmark, metadata.with_fingerprint(job.build_runner(benchmark)))
            wanted = job.build_job(benchmark, suite, state.target, state.snapshot)
            created = await self.children.create(benchmark, metadata.with_fingerprint(wanted))
        finally:
            self._starting.discard(label)
        return _Step(state.reason, created, again=LOOK_AGAIN_SECONDS)

    async def _clean_up(self, key: Key, manifest: Manifest, benchmark: KimiLinearBenchmark | None) -> float | None:
        """Delete what a benchmark no longer needs, itself in the end; return when the next of it is due."""
        known = manifest["status"]
        waits = [await self._clean_up_jobs(key, manifest), retention.seconds_to_live(benchmark, known, self.now())]
        if is_complete(known) and benchmark and waits[0] is None:
            await self._delete_runner(benchmark)
        if waits[1] == 0.0:
            await self._expire(key, manifest)
            return None
        soonest = retention.soonest(waits)
        return None if soonest is None else min(soonest, retention.LONGEST_WAIT_SECONDS)

    async def _clean_up_jobs(self, key: Key, manifest: Manifest) -> float | None:
        """Delete the Jobs whose result is in the status and whose log nobody needs; return how long others stay."""
        own = self.cache.children(JOB, key, manifest["metadata"]["uid"])
        own = [item for item in own if "deletionTimestamp" not in item["metadata"]]
        left = [retention.job_seconds_left(item, manifest["status"], self.now()) for item in own]
        for item in (item for item, seconds in zip(own, left, strict=True) if seconds == 0.0):
            await self.cluster.delete(JOB, item)
            logger.info("Deleted Job %s: its result is kept", item["metadata"]["name"])
        return retention.soonest([seconds for seconds in left if seconds])

    async def _delete_runner(self, benchmark: KimiLinearBenchmark) -> None:
        runner = self.cache.get(Key(benchmark.metadata.namespace, job.runner_name(benchmark), CONFIG_MAP))
        if runner and metadata.is_owned_by(runner, benchmark.metadata.uid):
            await self.cluster.delete(CONFIG_MAP, runner)

    async def _expire(self, key: Key, manifest: Manifest) -> None:
        """Delete a benchmark whose time is up, unless it was changed meanwhile: then a watch will tell."""
        current = await self.cluster.get(BENCHMARK, key.namespace, key.name)
        if current is None or current["metadata"]["uid"] != manifest["metadata"]["uid"]:
            return
        benchmark = CHECKER.read_stored(current)
        if retention.seconds_to_live(benchmark, current.get("status", {}), self.now()) == 0.0:
            await self.cluster.delete(BENCHMARK, current)
            logger.info("Deleted the benchmark: spec.ttlSecondsAfterFinished is over")

    async def _try_to_keep_results(self, benchmark: KimiLinearBenchmark, known: Manifest) -> bool:
        """Write the results' ConfigMap as far as that is possible now; return False if it has to be tried again."""
        try:
            await self._keep_results(benchmark, known)
        except ApiError as error:
            logger.warning("Could not write the results, trying again after the verdict: %s", error)
            return False
        return True

    async def _keep_results(self, benchmark: KimiLinearBenchmark, known: Manifest) -> None:
        """Write the results' ConfigMap if it is not as it should be. Somebody else's of this name stays."""
        try:
            await self.children.apply(benchmark, metadata.with_fingerprint(results_config_map.build(benchmark, known)))
        except (NameTakenError, LeftoverError) as error:
            logger.warning("Could not write the results: %s", error)


def _refused(manifest: Manifest, benchmark: KimiLinearBenchmark | None, reason: str) -> BenchmarkObservation:
    """Return the state of a benchmark whose spec was refused, as far as it can be read; what has ended stays."""
    previous: Manifest = manifest.get("status", {})
    not_applied = Reason("InvalidSpec", reason, blames_spec=True)
    known = known_results(benchmark, previous) if benchmark else previous.get("results", [])
    target = Reason("InvalidSpec", "The spec is refused")
    return BenchmarkObservation(manifest, benchmark, not_applied, target, known_environment(previous), known)
