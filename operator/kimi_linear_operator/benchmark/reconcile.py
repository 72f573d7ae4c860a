"""One pass over one benchmark: judge the suites that have ended, and start the next one when it may run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kimi_linear_operator.benchmark import job, results_config_map, started
from kimi_linear_operator.benchmark.clean_up import CleanUp
from kimi_linear_operator.benchmark.definition import CHECKER
from kimi_linear_operator.benchmark.ended_suites import EndedSuites
from kimi_linear_operator.benchmark.events import benchmark_event
from kimi_linear_operator.benchmark.index import BenchmarkIndex
from kimi_linear_operator.benchmark.manifests import CHILDREN
from kimi_linear_operator.benchmark.measurement import Measurement
from kimi_linear_operator.benchmark.next_suite import NextSuite
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark
from kimi_linear_operator.benchmark.status import (
    BenchmarkObservation,
    benchmark_status,
    is_complete,
    read_environment,
    read_failed_start,
    read_results,
)
from kimi_linear_operator.benchmark.storable import storable
from kimi_linear_operator.benchmark.stored_results import StoredResults
from kimi_linear_operator.benchmark.target_state import target_state
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.bounds import is_without_room
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.deletion import seconds_until_named
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, Manifest
from kimi_linear_operator.kubernetes.metadata import is_being_deleted
from kimi_linear_operator.kubernetes.spec_check import SpecCheck
from kimi_linear_operator.kubernetes.times import soonest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import BEHIND_RETRY_SECONDS, REPORTED_FAILURES, GoneError
from kimi_linear_operator.reconcile.recheck import Rechecker
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.server.spec import SERVER

_DONE = Reason("SuitesEnded", "every suite has ended")
# The verdict depends on these fields, so a suite is judged only when all of them can be read. Until then, its Job
# stays.
_JUDGED_BY = ("serverRef", "endpoint", "suites", "baseline", "thresholds", "maxErrorRate", "timeoutSeconds")


@dataclass(frozen=True)
class _Outcome:
    """The result of a pass, before its status is written.

    Attributes:
        observation: What the status is derived from.
        again: Requeue after this many seconds, None if a watch event will enqueue the benchmark.
    """

    observation: BenchmarkObservation
    again: float | None = None


class BenchmarkReconciler:
    """Runs the suites of benchmarks one after the other and judges them.

    It keeps nothing in memory that must survive a restart. The status says which suites have ended, and the Jobs say
    which suite runs.
    """

    def __init__(self, context: Context) -> None:
        """Take the context that all reconcilers share."""
        self.cache = context.cache
        self._index = context.cache.index(BenchmarkIndex)
        self.reporting = context.reporting
        self.now = context.now
        allows = context.options.allows_node_access
        self._specs = SpecCheck(CHECKER, job.own_pod_templates, allows_node_access=allows)
        self._children = context.children
        self._rechecker = Rechecker(context.cluster, self._specs.check)
        self._stored_results = StoredResults(context)
        self._ended_suites = EndedSuites(context)
        self._next_suite = NextSuite(context, self._stored_results)
        self._clean_up = CleanUp(context)

    async def run(self, _: Callable[[], bool], __: Callable[[], Sequence[str]]) -> None:
        """Do nothing: all work belongs to single benchmarks."""

    async def reconcile(self, key: Key, failures: int = 0) -> float | None:
        """Make one pass over a benchmark.

        Args:
            key: The key of the benchmark.
            failures: How many passes in a row have failed before this one.

        Returns:
            The seconds after which to requeue the benchmark, None if it need not be.

        Raises:
            ApiError: A request failed. A later pass does the rest.
        """
        manifest = self.cache.get(key.of(BENCHMARK))
        if manifest is None or is_being_deleted(manifest):
            self._rechecker.forget(key)
            self._children.forget(key)
            self._next_suite.forget(key)
            return None  # The garbage collector deletes its Jobs.
        checked = self._specs.check(manifest)
        try:
            if is_complete(manifest.get("status", {})):
                self._next_suite.forget(key)
                return await self._keep_complete(key, manifest)
            await self._read_server(key)
            return await self._advance(key, manifest, await self._rechecker.recheck(key, manifest, checked))
        except GoneError:
            return BEHIND_RETRY_SECONDS
        except ApiError as error:
            if failures >= REPORTED_FAILURES:
                await self._report_failure(manifest, checked, error)
            raise

    async def _read_server(self, key: Key) -> None:
        """Let the pass have the Deployment of the server that a benchmark names, even if the cache has no room for it.

        Raises:
            ApiError: The Deployment could not be read.
        """
        target = self._index.target(key)
        if target and target.namespace == key.namespace:
            await self._children.read_whole(Key(target.namespace, target.name, SERVER), [DEPLOYMENT])

    async def _keep_complete(self, key: Key, manifest: Manifest) -> float | None:
        """Write the ConfigMap with the results of a complete benchmark, even if its spec has become invalid.

        Then delete its Jobs, its runner and the benchmark itself, each when it is due.
        """
        benchmark = CHECKER.read_stored(manifest, {"suites"})
        is_whole = results_config_map.is_whole(manifest["status"]) and not is_without_room(manifest)
        if benchmark and is_whole:
            await self._stored_results.write(benchmark, manifest["status"])
        return await self._clean_up.run(key, manifest, benchmark)

    async def _report_failure(self, manifest: Manifest, checked: Checked[KimiLinearBenchmark], error: ApiError) -> None:
        """Report an error in the status, because retries did not help. The results in the status stay."""
        if is_complete(manifest.get("status", {})):
            return
        not_applied = Reason("ApplyFailed", error.message)
        refused = _refused(manifest, checked.resource, error.message)
        held = self._held(manifest)
        await self._write(manifest, replace(refused, not_applied=not_applied, target=not_applied, held=held))

    def _held(self, manifest: Manifest) -> list[Manifest]:
        """Return the children of a benchmark that are being deleted, but that finalizers hold."""
        about = manifest["metadata"]
        return self._children.held(Key(about["namespace"], about["name"], BENCHMARK), about["uid"], CHILDREN)

    async def _advance(self, key: Key, manifest: Manifest, checked: Checked[KimiLinearBenchmark]) -> float | None:
        """Do the possible work for a benchmark that is not complete, and write its status.

        Raises:
            ApiError: A request failed. A later pass does the rest.
        """
        if checked.resource is None or not checked.is_valid:
            outcome = await self._refuse(key, manifest, checked)
        else:
            outcome = await self._run(key, manifest, checked.resource)
        observation = replace(outcome.observation, held=self._held(manifest))
        summary = benchmark_status(observation, self.now())
        not_kept = None
        if observation.is_complete and observation.benchmark and results_config_map.is_whole(summary):
            # The ConfigMap with the results is written before the verdict, so that readers of the verdict find it. If
            # this write fails, the verdict is still written.
            not_kept = await self._stored_results.try_to_write(observation.benchmark, summary)
        retry = await self._write(manifest, observation, summary)
        # Nothing is deleted before the status and the results are written.
        if not_kept:
            raise not_kept
        waits = [outcome.again, seconds_until_named(observation.held, self.now())]
        if retry is not None:
            return soonest([*waits, retry])
        written = {**manifest, "status": summary}
        return soonest([*waits, await self._clean_up.run(key, written, observation.benchmark)])

    async def _write(
        self, manifest: Manifest, observation: BenchmarkObservation, summary: Manifest | None = None
    ) -> float | None:
        """Write the status and its Event. Return the seconds after which to retry, None if the write succeeded."""
        summary = summary or benchmark_status(observation, self.now())
        event = benchmark_event(manifest, summary, self.now())
        return await self.reporting.write(
            BENCHMARK, manifest, summary, event, storable=lambda status: storable(status, self.now())
        )

    async def _refuse(self, key: Key, manifest: Manifest, checked: Checked[KimiLinearBenchmark]) -> _Outcome:
        """Judge the suites that have ended, if the spec can be read; start and stop nothing."""
        benchmark = CHECKER.read_stored(manifest, _JUDGED_BY)
        refused = _refused(manifest, benchmark, checked.message)
        if benchmark is None or not (benchmark.spec.server_ref or benchmark.spec.endpoint):
            return _Outcome(refused)
        state, suites = target_state(self.cache, benchmark), benchmark.spec.suites
        measurement = Measurement(key, benchmark, state)
        facts = refused.facts or (state.target.facts if state.target else {})
        results = await self._ended_suites.results(measurement, manifest.get("status", {}), facts)
        if results:
            refused = replace(refused, facts=facts, results=results)
        if len(results) == len(suites):
            return _Outcome(replace(refused, target=_DONE))
        return _Outcome(refused, self._ended_suites.seconds_left_of(measurement, suites[len(results)]))

    def _as_started(self, benchmark: KimiLinearBenchmark) -> KimiLinearBenchmark:
        """Return a benchmark without defaults that its spec got after the first suite had started."""
        runner = self.cache.get(Key(benchmark.metadata.namespace, job.runner_name(benchmark), CONFIG_MAP))
        return self._specs.unless_refused(benchmark, started.as_started(benchmark, runner))

    async def _run(self, key: Key, manifest: Manifest, benchmark: KimiLinearBenchmark) -> _Outcome:
        """Judge the suites that have ended and go on with the next one."""
        benchmark = self._as_started(benchmark)
        state = target_state(self.cache, benchmark)
        measurement = Measurement(key, benchmark, state)
        restored = await self._stored_results.restored(benchmark)
        previous: Manifest = restored or manifest.get("status", {})
        facts: Manifest = read_environment(previous) or (state.target.facts if state.target else {})
        results = await self._ended_suites.results(measurement, previous, facts)
        suites = benchmark.spec.suites
        if len(results) == len(suites):
            done = BenchmarkObservation(manifest, benchmark, None, _DONE, facts, results)
            return _Outcome(replace(done, restored_start=restored.get("startTime") if restored else None))
        step = await self._next_suite.proceed(measurement, suites[len(results)])
        # The environment is recorded when the first suite starts. Before that, the server may change.
        facts = facts if step.job or results else {}
        observation = BenchmarkObservation(manifest, benchmark, step.not_applied, step.reason, facts, results, step.job)
        observation = replace(observation, not_running=step.not_running, failed_start=step.failed_start)
        left = self._ended_suites.seconds_left_of(measurement, suites[len(results)]) if step.job else None
        return _Outcome(observation, soonest([step.again, left]))


def _refused(manifest: Manifest, benchmark: KimiLinearBenchmark | None, message: str) -> BenchmarkObservation:
    """Return the observation of a benchmark with an invalid spec. Results in its status stay.

    Args:
        manifest: The benchmark as it is stored.
        benchmark: The readable part of the benchmark, None if nothing can be read.
        message: What is wrong with the spec.
    """
    previous: Manifest = manifest.get("status", {})
    not_applied = Reason("InvalidSpec", message, blames_spec=True)
    results = read_results(benchmark, previous) if benchmark else previous.get("results", [])
    target_reason = Reason("InvalidSpec", "The spec is refused")
    refused = BenchmarkObservation(manifest, benchmark, not_applied, target_reason, read_environment(previous), results)
    return replace(refused, failed_start=read_failed_start(previous))
