"""One pass over weights: the claim, the Job that fetches to it, and what its pod says."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from kimi_linear_operator import clock
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes import access
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import CLAIM, CONFIG_MAP, JOB, POD, Manifest
from kimi_linear_operator.kubernetes.refusals import newest, refusal
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.kubernetes.waits import next_look
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.children import BLOCKED_RETRY_SECONDS, Failures, write_all
from kimi_linear_operator.reconcile.errors import GoneError
from kimi_linear_operator.reconcile.recheck import Rechecker
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.weights import manifests, progress
from kimi_linear_operator.weights.definition import CHECKER
from kimi_linear_operator.weights.events import weights_event
from kimi_linear_operator.weights.job import CONTAINER, own_pod_template
from kimi_linear_operator.weights.labels import RESULT_ANNOTATION
from kimi_linear_operator.weights.location import claim_name
from kimi_linear_operator.weights.preview import claim_uid_in
from kimi_linear_operator.weights.progress import Progress
from kimi_linear_operator.weights.spec import WEIGHTS, KimiLinearWeights
from kimi_linear_operator.weights.status import WeightsObservation, weights_status

# How often the log of a running pod is read. A status changes no more often.
LOOK_SECONDS = 10.0
# How many lines to read of a log: others than the program may write there, too.
_LOG_LINES = 8
# How long a Job stays that has ended and left no result. Another one follows.
SECONDS_WITHOUT_RESULT = 60.0
# How long a Job may have no pod before its Events are read, and how often they are read then.
SECONDS_WITHOUT_POD = 30.0
# Pods whose last line is remembered, more than a cluster should have. A forgotten one is read once more.
_MOST_LINES = 1024


@dataclass(frozen=True)
class _Line:
    """The last line of a pod's log, and when it was read, in seconds of `clock`."""

    said: Progress | None
    read_at: float


@dataclass(frozen=True)
class _Outcome:
    """The result of a pass, before its status is written."""

    checked: Checked[KimiLinearWeights]
    failures: Failures = field(default_factory=Failures)
    job: Manifest | None = None
    pods: Sequence[Manifest] = ()
    said: Progress | None = None
    refused: Reason | None = None


class WeightsReconciler:
    """Fetches weights to volumes, each with one Job."""

    def __init__(self, context: Context) -> None:
        """Take the context that all reconcilers share."""
        self._cluster = context.cluster
        self._cache = context.cache
        self._children = context.children
        self._reporting = context.reporting
        self._now = context.now
        self._allows_node_access = context.options.allows_node_access
        self._rechecker = Rechecker(context.cluster, self._check)
        # The last lines of pods by UID, the oldest first.
        self._lines: OrderedDict[str, _Line] = OrderedDict()

    async def run(self, _: Callable[[], bool], __: Callable[[], Sequence[str]]) -> None:
        """Do nothing: all work belongs to single resources."""

    async def reconcile(self, key: Key, failures: int = 0) -> float | None:
        """Make one pass over weights.

        Args:
            key: The weights.
            failures: How many passes before this one failed in a row.

        Returns:
            Requeue after this many seconds; None if only an event makes another pass necessary.

        Raises:
            ApiError: A request failed that may succeed later. The queue retries with back-off.
        """
        manifest = self._cache.get(key.of(WEIGHTS))
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            self._rechecker.forget(key)
            self._children.forget(key)
            return None  # The garbage collector deletes its children, a kept claim excepted.
        checked = self._check(manifest)
        try:
            checked = await self._rechecker.recheck(key, manifest, checked)
            outcome = await self._apply(key, checked)
        except GoneError:
            return None
        except ApiError as error:
            outcome = _Outcome(checked, Failures(passing=error))
        return await self._conclude(key, manifest, outcome, failures)

    def _check(self, manifest: Manifest) -> Checked[KimiLinearWeights]:
        """Check weights by their rules, and refuse access of the pod to its node unless the administrator allows it."""
        checked = CHECKER.check_stored(manifest)
        return checked if self._allows_node_access else access.refuse_access(checked, own_pod_template)

    async def _apply(self, key: Key, checked: Checked[KimiLinearWeights]) -> _Outcome:
        """Write the children if the spec is valid, and look at the pod."""
        weights = checked.resource
        if weights is None or not checked.is_valid:
            return _Outcome(checked, Failures(lasting=Reason("InvalidSpec", checked.message, blames_spec=True)))
        before = [*manifests.build_claims(weights), manifests.build_program(weights)]
        failures = await write_all(self._children.apply(weights, child) for child in before)
        if failures.lasting or failures.passing:
            return _Outcome(checked, failures)
        wanted = manifests.build_job(weights, self._claim_uid(key, weights))
        failures = await write_all([self._create(weights, wanted)])
        job = self._cache.get(Key(key.namespace, wanted["metadata"]["name"], JOB))
        if failures.lasting or failures.passing or job is None:
            return _Outcome(checked, failures)
        await self._children.prune(weights, key, (CONFIG_MAP, JOB), [*before, wanted])
        return await self._observed(key, checked, job)

    def _claim_uid(self, key: Key, weights: KimiLinearWeights) -> str:
        claim = self._cache.get(Key(key.namespace, claim_name(weights), CLAIM))
        return claim_uid_in(weights, [claim] if claim else [])

    async def _create(self, weights: KimiLinearWeights, wanted: Manifest) -> None:
        await self._children.create(weights, wanted)

    async def _observed(self, key: Key, checked: Checked[KimiLinearWeights], job: Manifest) -> _Outcome:
        """Return what a Job and its pod say, and note on the Job how it ended."""
        pods = self._cache.children(POD, key, job["metadata"]["uid"])
        if progress.result_of(job) is None:
            job = await self._note_result(job, pods)
        running = next((pod for pod in pods if progress.is_running(pod)), None)
        said = await self._said(running) if running and not progress.has_ended(job) else None
        refused = None if pods or progress.has_ended(job) else await self._refused(job)
        return _Outcome(checked, job=job, pods=pods, said=said, refused=refused)

    async def _refused(self, job: Manifest) -> Reason | None:
        """Return why a Job has no pod, None if it is new or no Event says why. Only Events tell that."""
        age = seconds_between(job["metadata"].get("creationTimestamp"), self._now()) or 0.0
        if age < SECONDS_WITHOUT_POD or job.get("spec", {}).get("suspend"):
            return None
        events = await self._cluster.events_of(job)
        latest = newest([event for event in events if event.get("reason") == "FailedCreate"])
        return refusal(str(latest.get("message", ""))) if latest else None

    async def _note_result(self, job: Manifest, pods: Sequence[Manifest]) -> Manifest:
        """Note on a Job how its program ended; the Job itself ends later, with a sidecar perhaps never.

        If a Job has ended and its result is unknown, it is deleted later, so that another Job looks again.
        """
        ends = [end for end in progress.ends(pods) if end.is_complete]
        if ends:
            noted = await self._cluster.annotate(JOB, job, RESULT_ANNOTATION, progress.text_of(ends[-1]))
            self._cache.put(JOB, noted)
            return noted
        if progress.has_ended(job) and self._seconds_to_keep(job) == 0:
            await self._cluster.delete(JOB, job)
        return job

    def _seconds_to_keep(self, job: Manifest) -> float:
        """Return for how many seconds a Job that has ended without a result stays."""
        passed = seconds_between(progress.ended_at(job), self._now())
        return max(0.0, SECONDS_WITHOUT_RESULT - (passed or 0.0))

    async def _said(self, pod: Manifest) -> Progress | None:
        """Return the last line of a running program, read at most every LOOK_SECONDS."""
        uid, now = str(pod["metadata"]["uid"]), clock.seconds()
        line = self._lines.get(uid)
        if line is None or now - line.read_at >= LOOK_SECONDS:
            said = await self._last_line(pod)
            line = _Line(said or (line.said if line else None), now)
            self._lines[uid] = line
            self._lines.move_to_end(uid)
            if len(self._lines) > _MOST_LINES:
                self._lines.popitem(last=False)
        return line.said

    async def _last_line(self, pod: Manifest) -> Progress | None:
        """Return the last line of a program. It is None if it cannot be read: then the status is only less precise."""
        with suppress(ApiError):
            return progress.last_line(await self._cluster.pod_log_tail(pod, CONTAINER, lines=_LOG_LINES))
        return None

    async def _conclude(self, key: Key, manifest: Manifest, outcome: _Outcome, failures: int) -> float | None:
        """Write the status; return the seconds until the next pass, or raise an error that the queue retries."""
        not_applied, passing = outcome.failures.to_report(failures), outcome.failures.passing
        again = None
        if not_applied or not passing:
            again = await self._report(manifest, outcome, not_applied)
        if passing:
            raise passing
        retries = [
            again,
            BLOCKED_RETRY_SECONDS if not_applied and outcome.checked.is_valid else None,
            self._next_look(outcome),
        ]
        return min((seconds for seconds in retries if seconds is not None), default=None)

    def _next_look(self, outcome: _Outcome) -> float | None:
        """Return the seconds until the Job or its pod may have changed without an event, None if they cannot."""
        job, pods = outcome.job, outcome.pods
        if job is None or progress.result_of(job):
            return None
        if progress.has_ended(job):
            return max(1.0, self._seconds_to_keep(job))
        if not pods:
            return SECONDS_WITHOUT_POD
        return LOOK_SECONDS if any(map(progress.is_running, pods)) else next_look(pods, self._now())

    async def _report(self, manifest: Manifest, outcome: _Outcome, not_applied: Reason | None) -> float | None:
        observation = WeightsObservation(
            manifest,
            outcome.checked.resource,
            not_applied,
            job=outcome.job,
            pods=outcome.pods,
            said=outcome.said,
            refused=outcome.refused,
        )
        status = weights_status(observation, self._now())
        return await self._reporting.write(WEIGHTS, manifest, status, weights_event(manifest, status, self._now()))
