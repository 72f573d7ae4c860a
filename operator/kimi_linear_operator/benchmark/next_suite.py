"""Starts the next suite of a benchmark, follows it while it runs, and stops it."""

import logging
from dataclasses import dataclass, replace

from kimi_linear_operator import clock
from kimi_linear_operator.benchmark import job, job_reasons, job_status, started, turn
from kimi_linear_operator.benchmark.admission import LEFTOVER_RETRY_SECONDS, Admission, Wait
from kimi_linear_operator.benchmark.index import BenchmarkIndex
from kimi_linear_operator.benchmark.live_pods import read_pods
from kimi_linear_operator.benchmark.measurement import Measurement
from kimi_linear_operator.benchmark.server_state import read_state
from kimi_linear_operator.benchmark.spec import Suite
from kimi_linear_operator.benchmark.status import read_failed_start
from kimi_linear_operator.benchmark.stored_results import StoredResults
from kimi_linear_operator.benchmark.target_state import ServerState, changed_reason, is_unusable
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes import access, deletion, metadata
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import JOB, POD, Manifest
from kimi_linear_operator.kubernetes.times import seconds_between, soonest
from kimi_linear_operator.kubernetes.waits import next_look
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import (
    BEHIND_RETRY_SECONDS,
    BLOCKED_RETRY_SECONDS,
    LeftoverError,
    NameTakenError,
    lasting_reason,
)
from kimi_linear_operator.reconcile.pauses import Pauses
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.server.rollouts import is_marked
from kimi_linear_operator.server.spec import SERVER

logger = logging.getLogger(__name__)

# How soon to look again at a benchmark whose pods do not start. This is needed because the operator does not watch
# Events.
LOOK_AGAIN_SECONDS = 30.0


@dataclass(frozen=True)
class Step:
    """The result of a pass for the next suite.

    Attributes:
        reason: The reason of TargetReady.
        job: The suite's Job, None if it has none.
        not_applied: Why the Job could not be created or deleted, None if it could.
        not_running: Why the suite does not run although its Job exists, None if it runs.
        failed_start: The last attempt that could not start and gave its turn back, None if the client has run since
            then.
        again: Requeue after this many seconds, None if a watch event will enqueue the benchmark.
        look: How soon to look again at something that no watch shows, in seconds; None if there is nothing. The longer
            the benchmark waits, the longer the pauses become.
        lacks_place: Whether the suite only waits for a place to check for running clients.
    """

    reason: Reason
    job: Manifest | None = None
    not_applied: Reason | None = None
    not_running: Reason | None = None
    failed_start: Manifest | None = None
    again: float | None = None
    look: float | None = None
    lacks_place: bool = False


class NextSuite:
    """Brings the next suite of each benchmark to its end."""

    def __init__(self, context: Context, stored_results: StoredResults) -> None:
        """Take the context that all reconcilers share, and the stored results."""
        self._stored_results = stored_results
        self._cluster = context.cluster
        self._cache = context.cache
        self._children = context.children
        self._now = context.now
        self._index = context.cache.index(BenchmarkIndex)
        scheduling = context.scheduling
        self._admission = Admission(
            context.cluster, context.cache, scheduling.has_read, enqueue=scheduling.enqueue, since=context.now()
        )
        self._about_to_change = context.about_to_change
        self._allows_node_access = context.options.allows_node_access
        # The target labels and namespaces of the benchmarks that are about to start. Benchmarks that wait for one of
        # them are requeued instead of waiting in their pass. Lists from the API server can take long, and a waiting
        # pass would occupy a worker.
        self._starting: set[tuple[str, str]] = set()
        self._pauses = Pauses(clock.seconds)
        # The pauses of benchmarks without a place are separate: neither wait makes the other one longer or shorter.
        self._pauses_without_place = Pauses(clock.seconds)

    def forget(self, key: Key) -> None:
        """Forget a benchmark that is complete or deleted."""
        self._pauses.forget(key)
        self._pauses_without_place.forget(key)
        self._admission.forget(key)

    async def proceed(self, measurement: Measurement, suite: Suite) -> Step:
        """Stop a suite, start it, or follow it while it runs."""
        step = await self._proceed(measurement, suite)
        key = measurement.key
        if step.lacks_place:
            return replace(step, again=self._pauses_without_place.next(key, suite.name, step.look))
        self._pauses_without_place.forget(key)
        self._admission.leave_looks(key)
        # A new Job or a new suite is a new cause, and is looked at as often as the first one.
        cause = f"{suite.name} {step.job['metadata']['uid'] if step.job else ''}"
        return replace(step, again=soonest([step.again, self._pauses.next(key, cause, step.look)]))

    async def _proceed(self, measurement: Measurement, suite: Suite) -> Step:
        benchmark, state = measurement.benchmark, measurement.target_state
        suite_job = self._index.job_of(measurement.key, benchmark.metadata.uid, suite.name)
        failed = read_failed_start(benchmark.status) if suite_job else self._failed_start(measurement, suite)
        step = Step(state.reason, suite_job, failed_start=failed)
        try:
            if benchmark.spec.suspend:
                return Step(state.reason, again=await self._stop(suite_job))
            if suite_job:
                return await self._follow(measurement, suite, suite_job)
            if state.is_ready:
                return replace(await self._start(measurement, suite), failed_start=failed)
        except (NameTakenError, LeftoverError, ApiError) as error:
            not_applied = lasting_reason(error)
            if not not_applied.blames_spec and not suite_job and self._admission.has_rivals(measurement.key):
                failed = self._attempt(suite, not_applied)
            return replace(step, not_applied=not_applied, failed_start=failed, look=BLOCKED_RETRY_SECONDS)
        return step

    def _failed_start(self, measurement: Measurement, suite: Suite) -> Manifest | None:
        """Return the last failed attempt to start the next suite, None if there is none.

        If other benchmarks wait, a target that cannot be used counts as a failed attempt until it can be used.
        """
        reason = measurement.target_state.reason
        failed = read_failed_start(measurement.benchmark.status)
        if failed and is_unusable(failed["reason"]) and failed["reason"] != reason.name:
            return None
        if not failed and is_unusable(reason.name) and self._admission.has_rivals(measurement.key):
            return self._attempt(suite, reason)
        return failed

    async def _follow(self, measurement: Measurement, suite: Suite, suite_job: Manifest) -> Step:
        """Return why a suite with a Job does not run.

        If the suite takes too long to begin and other benchmarks wait, stop it to give its turn back.
        """
        benchmark = measurement.benchmark
        step = Step(measurement.target_state.reason, suite_job, failed_start=read_failed_start(benchmark.status))
        if metadata.is_being_deleted(suite_job):
            message = f"the Job of the last attempt is still being removed{deletion.hint(suite_job)}"
            return replace(step, reason=Reason("WaitingForTurn", message), job=None)
        pods = self._cache.children(POD, measurement.key, suite_job["metadata"]["uid"])
        reason = await self._why_not_running(suite_job, pods)
        if self._must_give_way(measurement, suite_job, pods, reason):
            # The client may run although the cache does not show it yet.
            pods = await read_pods(self._cluster, benchmark, suite, suite_job)
            reason = await self._why_not_running(suite_job, pods)
        if reason and self._must_give_way(measurement, suite_job, pods, reason):
            again = await self._stop(suite_job)
            logger.info(
                "Suite %s could not start, so the benchmark gives its turn back: %s", suite.name, reason.message
            )
            return replace(step, job=None, failed_start=self._attempt(suite, reason), again=again)
        has_begun = job_status.has_begun(pods)
        if has_begun:
            step = replace(step, failed_start=None)
        # Until the client runs, perhaps only Events show the problem, and the operator does not watch Events.
        is_fine = has_begun and not reason
        limits = [next_look(pods, self._now()), self._hold_seconds(suite_job, reason) if reason else None]
        return replace(step, not_running=reason, again=soonest(limits), look=None if is_fine else LOOK_AGAIN_SECONDS)

    def _must_give_way(
        self, measurement: Measurement, suite_job: Manifest, pods: list[Manifest], reason: Reason | None
    ) -> bool:
        """Return whether a suite has not begun for this reason, and has held the target long enough."""
        if reason is None or job_status.has_begun(pods):
            return False
        return self._hold_seconds(suite_job, reason) is None and self._admission.has_rivals(measurement.key)

    def _hold_seconds(self, suite_job: Manifest, reason: Reason) -> float | None:
        """Return for how many more seconds a suite that cannot start for this reason may hold its turn, None if 0."""
        age = seconds_between(suite_job["metadata"]["creationTimestamp"], self._now()) or 0.0
        left = turn.may_hold_seconds(reason.name) - age
        return left if left > 0 else None

    async def _why_not_running(self, suite_job: Manifest, pods: list[Manifest]) -> Reason | None:
        """Return why a Job's pods do not run, None if they run or the cause is not known."""
        involved = job_reasons.asks_events_of(suite_job, pods, self._now())
        events: list[Manifest] = []
        try:
            events = await self._cluster.events_of(involved, job_reasons.REASONS) if involved else []
        except ApiError as error:
            # Without Events, the reason is less precise.
            logger.warning("Could not read Events: %s", error)
        return job_reasons.job_reason(suite_job, pods, events, self._now())

    def _attempt(self, suite: Suite, reason: Reason) -> Manifest:
        """Return `status.failedStart` for a suite that gives its turn back now."""
        return {"suite": suite.name, "time": self._now(), "reason": reason.name, "message": reason.message}

    async def _stop(self, suite_job: Manifest | None) -> float | None:
        """Delete a Job's pods and then the Job. So the Job holds the target until its client has ended.

        Return the seconds until the next attempt, None if there is nothing to stop. The watch may miss the end.
        """
        if suite_job is None or metadata.is_being_deleted(suite_job):
            return None
        await self._cluster.delete(JOB, suite_job, children_first=True)
        logger.info("Stopped Job %s", suite_job["metadata"]["name"])
        return BEHIND_RETRY_SECONDS

    async def _start(self, measurement: Measurement, suite: Suite) -> Step:
        """Apply the runner and create a suite's Job, unless the benchmark must wait for others of this target."""
        benchmark, state = measurement.benchmark, measurement.target_state
        assert state.target  # noqa: S101 - `is_ready` has checked it
        if reason := self._refused(job.build_job(benchmark, suite, state.target), state.target.name):
            return Step(reason, look=LOOK_AGAIN_SECONDS)
        starting = state.target.label, measurement.key.namespace
        if self._is_another_starting(measurement.key, state.target.label):
            message = f"another benchmark of {state.target.name} is about to start"
            return Step(Reason("WaitingForTurn", message), look=LEFTOVER_RETRY_SECONDS)
        self._starting.add(starting)
        try:
            wait = await self._admission.wait(measurement.key, state.target, self._now())
            if wait := wait or self._wait_for_rollout(measurement):
                return Step(wait.reason, again=wait.again, look=wait.look, lacks_place=wait.lacks_place)
            if await self._stored_results.has_unread(benchmark):
                message = "there are results of an earlier benchmark of this name"
                return Step(Reason("WaitingForTurn", message), look=BEHIND_RETRY_SECONDS)
            runner = job.build_runner(benchmark)
            started.note_fields(runner, benchmark)
            await self._children.apply(benchmark, metadata.with_fingerprint(runner))
            live = await read_state(self._cluster, benchmark)
            desired = job.build_job(benchmark, suite, state.target, live.snapshot)
            # A request may take long, and the automatic rollout only checks for Jobs.
            if wait := self._wait_for_rollout(measurement) or _wait_for_news(measurement, live):
                return Step(wait.reason, again=wait.again, look=wait.look)
            created = await self._children.create(benchmark, metadata.with_fingerprint(desired))
            _refuse_another(created, desired)
        finally:
            self._starting.discard(starting)
        return Step(state.reason, created, look=LOOK_AGAIN_SECONDS)

    def _refused(self, desired: Manifest, target: str) -> Reason | None:
        """Return why a Job is not created: its pod would get more access than allowed. None if it would not.

        The spec of the benchmark gives no such access. But the pod gets the volume of the weights from the Deployment
        of the server, and users can edit this Deployment.
        """
        beyond = [] if self._allows_node_access else access.beyond_pod(desired["spec"]["template"])
        if not beyond:
            return None
        message = (
            f"the client's pod would use the weights' volume of the pods of {target}, which gives access that is not "
            f"allowed: {', '.join(beyond)}"
        )
        return Reason("ServerUnready", message)

    def _is_another_starting(self, key: Key, label: str) -> bool:
        """Return whether a benchmark must wait for another one that is about to start on the target with this label."""
        return any(other == label and self._index.waits_for(key, namespace) for other, namespace in self._starting)

    def _wait_for_rollout(self, measurement: Measurement) -> Wait | None:
        """Return a wait if the target's pods are about to be replaced in an automatic rollout, None otherwise.

        The server stays Ready until its Deployment is written, and that may take long.
        """
        target = self._index.target(measurement.key)
        server = Key(target.namespace, target.name, SERVER) if target else None
        if server is None or not (server in self._about_to_change or is_marked(self._cache, server)):
            return None
        message = f"the operator is about to give server {server.name} the newest pod template (--rollout-pause)"
        return Wait(Reason("ServerUnready", message), look=LEFTOVER_RETRY_SECONDS)


def _wait_for_news(measurement: Measurement, live: ServerState) -> Wait | None:
    """Return a wait if a server has changed and no watch has shown the change yet, None otherwise."""
    reference, state = measurement.benchmark.spec.server_ref, measurement.target_state
    if reference is None or state.target is None:
        return None
    server = Key(measurement.key.namespace, reference.name, SERVER)
    reason = changed_reason(server, state.target.facts, live)
    return Wait(reason, look=BEHIND_RETRY_SECONDS) if reason else None


def _refuse_another(created: Manifest, desired: Manifest) -> None:
    """Refuse a Job that somebody else made with the name of a suite's Job.

    Without our labels, the operator would not see it run.

    Raises:
        NameTakenError: The Job lacks the labels that the operator gives it.
    """
    if not desired["metadata"]["labels"].items() <= (created["metadata"].get("labels") or {}).items():
        name = desired["metadata"]["name"]
        raise NameTakenError(f"Job {name} lacks the operator's labels: delete it")
