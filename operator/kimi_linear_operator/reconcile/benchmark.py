"""One pass over one benchmark: what has ended is judged, and the next suite is started when it may."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from kimi_linear_operator import rules, status
from kimi_linear_operator.api import KimiLinearBenchmark, Manifest
from kimi_linear_operator.api.benchmark import Suite
from kimi_linear_operator.benchmark import recipe, verdict
from kimi_linear_operator.cluster import ApiError, Cluster
from kimi_linear_operator.reconcile.children import (
    BLOCKED_RETRY_SECONDS,
    Children,
    GoneError,
    LeftoverError,
    NameTakenError,
    obstacle_of,
)
from kimi_linear_operator.reconcile.reporting import Reporting
from kimi_linear_operator.reconcile.targets import Aim, Targets
from kimi_linear_operator.resources import BENCHMARK, JOB, POD, access, job, metadata, target
from kimi_linear_operator.resources.results import build_results
from kimi_linear_operator.status import Cause, Obstacle, Progress, jobs
from kimi_linear_operator.store import Key, Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Step:
    """What a pass came to with the suite that is next.

    Attributes:
        cause: The state of the target.
        job: The suite's Job, if it runs.
        obstacle: Why it could not be started or stopped, if it could not.
        again: When to look again in seconds, if no watch will tell.
    """

    cause: Cause
    job: Manifest | None = None
    obstacle: Obstacle | None = None
    again: float | None = None


@dataclass
class BenchmarkReconciler:
    """Runs the suites of benchmarks one after the other and judges them.

    Nothing is remembered here: which suites have ended is in the status, and what runs is in Jobs.

    Attributes:
        cluster: Where objects are written.
        store: Where objects are read.
        children: Writes what belongs to a benchmark.
        reporting: Writes its status.
        now: The time as RFC 3339.
        allows_node_access: Whether pods may reach beyond themselves.
    """

    cluster: Cluster
    store: Store
    children: Children
    reporting: Reporting
    now: Callable[[], str]
    allows_node_access: bool = False
    _targets: Targets = field(init=False)
    # Between looking whether anybody runs on a target and starting, nobody else may look.
    _starting: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    def __post_init__(self) -> None:
        """Look for targets where the passes read."""
        self._targets = Targets(self.cluster, self.store)

    async def reconcile(self, key: Key) -> float | None:
        """Make one pass over a benchmark; return after how many seconds it is due again, if at all.

        Raises:
            ApiError: The API server could not do its part; a later pass will find out what is left to do.
        """
        manifest = self.store.get(BENCHMARK, key)
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            return None  # Its Jobs are owned by it: the garbage collector needs no help.
        checked = rules.check(manifest)
        try:
            if status.is_complete(manifest.get("status", {})):
                # What was measured stays as it is, even if its spec is no longer understood.
                if checked.benchmark:
                    await self._keep_results(checked.benchmark, manifest["status"])
                return None
            return await self._advance(key, manifest, checked)
        except GoneError:
            return None

    async def _advance(self, key: Key, manifest: Manifest, checked: rules.Checked) -> float | None:
        """Go as far as is possible now, and report."""
        beyond = access.beyond_pod(checked.benchmark) if checked.benchmark and not self.allows_node_access else []
        if checked.benchmark is None or not checked.is_valid:
            progress, again = _refused(manifest, checked, checked.told), None
        elif beyond:
            progress, again = _refused(manifest, checked, access.refusal(beyond)), None
        else:
            progress, again = await self._run(key, manifest, checked.benchmark)
        summary = status.summarise_benchmark(progress, self.now())
        is_kept = True
        if progress.is_complete and checked.benchmark:
            # Who waits for the verdict finds the results. The verdict waits for nothing.
            is_kept = await self._try_to_keep_results(checked.benchmark, summary)
        event = status.benchmark_event(manifest, summary, self.now())
        reported = await self.reporting.write(BENCHMARK, manifest, summary, event)
        if not is_kept:
            return 0.0
        return min((seconds for seconds in (again, reported) if seconds is not None), default=None)

    async def _run(self, key: Key, manifest: Manifest, benchmark: KimiLinearBenchmark) -> tuple[Progress, float | None]:
        """Judge what has ended and start what comes next; return the state, and when to look again."""
        aim = self._targets.find(benchmark)
        previous: Manifest = manifest.get("status", {})
        facts: Manifest = previous.get("environment", {}) or (aim.target.facts if aim.target else {})
        results = await self._results(key, benchmark, aim, facts)
        suites = benchmark.spec.suites
        if len(results) == len(suites):
            done = Cause("SuitesEnded", "every suite has ended")
            return Progress(manifest, benchmark, None, done, facts, results), None
        step = await self._proceed(key, benchmark, suites[len(results)], aim)
        # What has not begun may still measure something else.
        facts = facts if step.job or results else {}
        pods = jobs.pods_of(step.job, self.store.children(POD, key)) if step.job else ()
        return Progress(manifest, benchmark, step.obstacle, step.cause, facts, results, step.job, pods), step.again

    async def _proceed(self, key: Key, benchmark: KimiLinearBenchmark, suite: Suite, aim: Aim) -> _Step:
        """Stop or start a suite, if there is anything to do."""
        running = self._job(benchmark, suite)
        try:
            if benchmark.spec.suspend:
                await self._stop(running)
                return _Step(aim.cause)
            if running is None and aim.is_ready:
                return await self._start(key, benchmark, suite, aim)
        except (NameTakenError, LeftoverError, ApiError) as error:
            return _Step(aim.cause, running, obstacle_of(error), BLOCKED_RETRY_SECONDS)
        return _Step(aim.cause, running)

    async def _results(self, key: Key, benchmark: KimiLinearBenchmark, aim: Aim, facts: Manifest) -> list[Manifest]:
        """Return the results of the suites that have ended, those that are known and those that are new."""
        results = _known(benchmark)
        for suite in benchmark.spec.suites[len(results) :]:
            ended = self._job(benchmark, suite)
            if ended is None or not jobs.has_ended(ended):
                break
            # No watch has to have shown the last pod by now.
            selector = f"{metadata.selector_text(benchmark)},{metadata.SUITE_LABEL}={suite.name}"
            pods = jobs.pods_of(ended, await self.cluster.list(POD, key.namespace, selector))
            result = jobs.result_of(ended, suite, pods, benchmark.spec.timeout_seconds)
            before = ended["metadata"].get("annotations", {}).get(metadata.TARGET_ANNOTATION, "")
            changes = [*target.changes_since(facts, before), *target.changes(before, aim.snapshot)]
            baseline = self._baseline(benchmark, suite)
            results.append(verdict.judge(benchmark.spec, suite, result, baseline, changes))
            logger.info("Suite %s has ended: %s", suite.name, result["outcome"])
        return results

    def _baseline(self, benchmark: KimiLinearBenchmark, suite: Suite) -> verdict.Metrics:
        """Return the numbers to compare a suite with, none if there are none."""
        wanted = benchmark.spec.baseline
        if wanted.source == "recipe":
            return recipe.PUBLISHED.get(suite.name, {})
        other = self.store.get(BENCHMARK, Key(benchmark.metadata.namespace, wanted.benchmark or ""))
        known: Manifest = (other or {}).get("status", {})
        if wanted.source == "none" or not status.is_complete(known):
            return {}
        metrics = (result["metrics"] for result in known.get("results", ()) if result["name"] == suite.name)
        return next(metrics, {})

    def _job(self, benchmark: KimiLinearBenchmark, suite: Suite) -> Manifest | None:
        """Return a suite's Job as it was seen last."""
        found = self.store.get(JOB, Key(benchmark.metadata.namespace, job.name(benchmark, suite)))
        return found if found and metadata.is_owned_by(found, benchmark.metadata.uid) else None

    async def _stop(self, running: Manifest | None) -> None:
        """Delete a Job. It is there until its pods have gone, so that nobody else starts before."""
        if running and "deletionTimestamp" not in running["metadata"]:
            await self.cluster.delete(JOB, running, children_first=True)
            logger.info("Stopped Job %s", running["metadata"]["name"])

    async def _start(self, key: Key, benchmark: KimiLinearBenchmark, suite: Suite, aim: Aim) -> _Step:
        """Start a suite unless somebody else is in the way."""
        assert aim.target  # noqa: S101 - what is ready is known
        async with self._starting.setdefault(aim.target.label, asyncio.Lock()):
            if hindrance := await self._targets.hindrance(key, aim.target):
                return _Step(hindrance.cause, again=hindrance.again)
            await self.children.apply(benchmark, metadata.with_fingerprint(job.build_runner(benchmark)))
            wanted = job.build_job(benchmark, suite, aim.target, aim.snapshot)
            return _Step(aim.cause, await self.children.create(benchmark, metadata.with_fingerprint(wanted)))

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
            await self.children.apply(benchmark, metadata.with_fingerprint(build_results(benchmark, known)))
        except (NameTakenError, LeftoverError) as error:
            logger.warning("Could not write the results: %s", error)


def _known(benchmark: KimiLinearBenchmark) -> list[Manifest]:
    """Return the results in the status, as far as they are those of the first suites."""
    results: Sequence[Manifest] = benchmark.status.get("results", ())
    known = []
    for suite, result in zip(benchmark.spec.suites, results, strict=False):
        if result["name"] != suite.name:
            break
        known.append(result)
    return known


def _refused(manifest: Manifest, checked: rules.Checked, reason: str) -> Progress:
    """Return the state of a benchmark whose spec was refused; what has ended stays."""
    previous: Manifest = manifest.get("status", {})
    obstacle = Obstacle("InvalidSpec", reason, blames_spec=True)
    known = _known(checked.benchmark) if checked.benchmark else previous.get("results", [])
    facts = previous.get("environment", {})
    return Progress(manifest, checked.benchmark, obstacle, Cause("InvalidSpec", "The spec is refused"), facts, known)
