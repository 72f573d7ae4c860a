"""One pass over weights: the claim, the Job that fetches the model to the claim, and the messages of the Job's pod."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kimi_linear_operator import clock
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.deletion import seconds_until_named
from kimi_linear_operator.kubernetes.kinds import CLAIM, CONFIG_MAP, JOB, POD, Manifest
from kimi_linear_operator.kubernetes.refusals import newest, refusal
from kimi_linear_operator.kubernetes.spec_check import SpecCheck
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.kubernetes.times import seconds_between, soonest
from kimi_linear_operator.kubernetes.unrequested import Answers
from kimi_linear_operator.kubernetes.waits import next_look
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import (
    BEHIND_RETRY_SECONDS,
    BLOCKED_RETRY_SECONDS,
    BehindError,
    Failures,
    GoneError,
)
from kimi_linear_operator.reconcile.live import newest_pods
from kimi_linear_operator.reconcile.log_reads import READ_SECONDS
from kimi_linear_operator.reconcile.pauses import Pauses
from kimi_linear_operator.reconcile.questions import Questions
from kimi_linear_operator.reconcile.recheck import Rechecker
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.reconcile.writes import write_all
from kimi_linear_operator.weights import job_inputs, kept_job, manifests, progress
from kimi_linear_operator.weights.definition import CHECKER
from kimi_linear_operator.weights.events import weights_event
from kimi_linear_operator.weights.fetch_logs import FetchLogs
from kimi_linear_operator.weights.job import own_pod_templates
from kimi_linear_operator.weights.kept_job import Wanted
from kimi_linear_operator.weights.labels import RESULT_ANNOTATION
from kimi_linear_operator.weights.location import claim_name
from kimi_linear_operator.weights.preview import claim_uid_in
from kimi_linear_operator.weights.progress import Progress
from kimi_linear_operator.weights.spec import WEIGHTS, KimiLinearWeights
from kimi_linear_operator.weights.status import WeightsObservation, weights_status

# After this time, the operator deletes a Job that ended without a result, and creates another one. If the next Jobs end
# without a result, too, they stay longer: otherwise a wrong image would cost more than a thousand pods a day, for ever.
WITHOUT_RESULT = Backoff(first=60.0, longest=3600.0)
# If a Job has no pod for this long, the operator reads the Job's Events. It reads them again after longer and longer
# pauses, because no watch shows an Event.
SECONDS_WITHOUT_POD = 30.0
# How long to wait before blocked children are written again. Another owner's object or a refusal of the API server
# blocks them, and no watch event reports the end of this.
BLOCKED_RETRY = Backoff(first=BLOCKED_RETRY_SECONDS, longest=300.0)


@dataclass(frozen=True)
class _Outcome:
    """The result of a pass, before its status is written."""

    checked: Checked[KimiLinearWeights]
    failures: Failures = field(default_factory=Failures)
    job: Manifest | None = None
    pods: Sequence[Manifest] = ()
    said: Progress | None = None
    refused: Reason | None = None
    claim_uid: str = ""


class WeightsReconciler:
    """Fetches weights to volumes, each with one Job."""

    def __init__(self, context: Context) -> None:
        """Take the context that all reconcilers share."""
        self._cluster = context.cluster
        self._cache = context.cache
        self._children = context.children
        self._reporting = context.reporting
        self._now = context.now
        allows = context.options.allows_node_access
        self._specs = SpecCheck(CHECKER, own_pod_templates, allows_node_access=allows)
        self._rechecker = Rechecker(context.cluster, self._specs.check)
        self._questions = Questions(context.cluster)
        self._logs = FetchLogs(context)
        # How often in a row the children of weights could not be written.
        self._blocked: dict[Key, int] = {}
        self._pauses = Pauses(clock.seconds)
        # How many Jobs of weights in a row were deleted because they had ended without a result.
        self._without_result: dict[Key, int] = {}

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
        if manifest is None or metadata.is_being_deleted(manifest):
            self._rechecker.forget(key)
            self._questions.forget(key)
            self._children.forget(key)
            self._logs.forget(key)
            self._blocked.pop(key, None)
            self._pauses.forget(key)
            self._without_result.pop(key, None)
            return None  # The garbage collector deletes the children, except a claim that outlives the weights.
        checked = self._specs.check(manifest)
        try:
            await self._children.read_whole(key, manifests.CHILDREN)
            checked = await self._rechecker.recheck(key, manifest, checked)
            outcome = await self._apply(key, checked)
        except GoneError:
            return BEHIND_RETRY_SECONDS
        except ApiError as error:
            outcome = _Outcome(checked, Failures(passing=error))
        return await self._conclude(key, manifest, outcome, failures)

    async def _apply(self, key: Key, checked: Checked[KimiLinearWeights]) -> _Outcome:
        """Write the children if the spec is valid, and read the state of the pod."""
        weights = checked.resource
        if weights is None or not checked.is_valid:
            return _Outcome(checked, Failures(lasting=Reason("InvalidSpec", checked.message, blames_spec=True)))
        weights = await self._requested(key, weights, checked.left_out)
        claims = manifests.build_claims(weights)
        failures = await write_all(self._children.apply(weights, claim) for claim in claims)
        if failures.lasting or failures.passing:
            return _Outcome(checked, failures)
        claim_uid, uid = self._claim_uid(key, weights), weights.metadata.uid
        live = [child for kind in (JOB, CONFIG_MAP) for child in self._cache.children(kind, key, uid)]
        wish = Wanted(weights, claim_uid, checked.left_out)
        wanted = manifests.build_fetch(wish, live)
        if wanted[-1] not in live:
            live = await self._with_last_result(weights, live)
            wanted = manifests.build_fetch(wish, live)
        failures = await self._write_new(weights, wanted, live)
        job = self._cache.get(Key(key.namespace, wanted[-1]["metadata"]["name"], JOB))
        if failures.lasting or failures.passing or job is None:
            return _Outcome(checked, failures, claim_uid=claim_uid)
        await self._children.prune(weights, key, (CONFIG_MAP, JOB), wanted)
        return replace(await self._observed(key, checked, weights, job), claim_uid=claim_uid)

    async def _requested(
        self, key: Key, weights: KimiLinearWeights, refused: Mapping[FieldPath, Any]
    ) -> KimiLinearWeights:
        """Return weights without the defaults that nobody has asked for since the newest Job was made.

        A new value of the annotation that asks the hub again also asks for the doubtful fields.
        """
        newest = kept_job.newest(weights, self._cache.children(JOB, key, weights.metadata.uid))
        if newest is None or newest[1].generation == weights.metadata.generation:
            return weights
        item, made_for = newest
        recorded, now = job_inputs.without_refused(made_for.inputs, refused), self._now()
        uncertain = kept_job.uncertain_fields(weights, item, recorded, now)

        def judge(live: Manifest, seen: Mapping[FieldPath, Any]) -> Answers:
            return kept_job.unrequested(uncertain, live, seen, now)

        answers = await self._questions.answer(key, weights, uncertain, judge)
        takes_all = job_inputs.fetch_of(weights) != made_for.fetch
        left_out = {path: answer for path, answer in answers.items() if not (takes_all and answer.is_doubtful)}
        return self._specs.unless_refused(weights, kept_job.without(weights, left_out, recorded))

    def _claim_uid(self, key: Key, weights: KimiLinearWeights) -> str:
        claim = self._cache.get(Key(key.namespace, claim_name(weights), CLAIM))
        return claim_uid_in(weights, [claim] if claim else [])

    async def _write_new(
        self, weights: KimiLinearWeights, wanted: Sequence[Manifest], live: Sequence[Manifest]
    ) -> Failures:
        """Write the program, and then the Job that runs the program. Existing objects that are as wanted stay."""
        for child in (child for child in wanted if child not in live):
            write = self._create if child["kind"] == JOB.kind else self._children.apply
            failures = await write_all([write(weights, child)])
            if failures.lasting or failures.passing:
                return failures
        return Failures()

    async def _create(self, weights: KimiLinearWeights, wanted: Manifest) -> None:
        await self._children.create(weights, wanted)

    async def _with_last_result(self, weights: KimiLinearWeights, live: Sequence[Manifest]) -> list[Manifest]:
        """Return the children. Before another Job replaces the newest Job, read the newest Job's result again.

        The result comes from the API server.
        """
        found = kept_job.newest(weights, (child for child in live if child["kind"] == JOB.kind))
        if found is None or progress.result_of(found[0]):
            return [*live]
        job, _ = await self._read(weights, found[0])
        return [job if child is found[0] else child for child in live]

    async def _observed(
        self, key: Key, checked: Checked[KimiLinearWeights], weights: KimiLinearWeights, job: Manifest
    ) -> _Outcome:
        """Return the state of a Job and its pod. Write the program's result into an annotation of the Job.

        A Job that has ended without a result is deleted after a while, so that another Job checks the volume again.
        """
        pods: Sequence[Manifest] = self._cache.children(POD, key, job["metadata"]["uid"])
        job = await self._note_result(job, pods)
        if _lacks_result(job):
            job, pods = await self._read(weights, job)
        if progress.result_of(job):
            self._without_result.pop(key, None)
        if _lacks_result(job) and self._seconds_to_keep(key, job) == 0:
            await self._cluster.delete(JOB, job)
            self._without_result[key] = self._without_result.get(key, 0) + 1
        running = next((pod for pod in pods if progress.is_running(pod)), None)
        said = self._said(key, None if progress.has_ended(job) else running)
        refused = None if pods or progress.has_ended(job) else await self._refused(job)
        return _Outcome(checked, job=job, pods=pods, said=said, refused=refused)

    def _said(self, key: Key, running: Manifest | None) -> Progress | None:
        """Return the last message of the running program, None if no program runs or its message is unknown."""
        if running is None:
            self._logs.forget(key)
            return None
        return self._logs.follow(key, running)

    async def _refused(self, job: Manifest) -> Reason | None:
        """Return why a Job has no pod, None if the Job is new or no Event names the cause."""
        age = seconds_between(job["metadata"].get("creationTimestamp"), self._now()) or 0.0
        if age < SECONDS_WITHOUT_POD or _is_suspended(job):
            return None
        events = await self._cluster.events_of(job, ("FailedCreate",))
        latest = newest(events)
        return refusal(str(latest.get("message", ""))) if latest else None

    async def _read(self, weights: KimiLinearWeights, job: Manifest) -> tuple[Manifest, Sequence[Manifest]]:
        """Return a Job, with its result if it has one, and its pods. Both come from the API server.

        In the cache, the end of a pod can be missing: each watch has its own connection, and a minute can pass before
        the operator notices that the connection is dead. And the pod has the only copy of the result.

        Raises:
            BehindError: The Job is gone.
            ApiError: The Job or its pods could not be read.
        """
        namespace, name, uid = (job["metadata"][field] for field in ("namespace", "name", "uid"))
        live = await self._cluster.get(JOB, namespace, name)
        if live is None or live["metadata"]["uid"] != uid:
            raise BehindError(f"Job {name} is gone")
        self._cache.put(JOB, live)
        pods = await newest_pods(self._cluster, live, metadata.selector_text(weights))
        return await self._note_result(live, pods), pods

    async def _note_result(self, job: Manifest, pods: Sequence[Manifest]) -> Manifest:
        """Write the program's result into an annotation of the Job, unless it is there already.

        The Job itself ends later, or never if its pod has a sidecar.
        """
        result = next((end for end in progress.latest_ends(pods) if end.is_complete), None)
        if result is None or progress.result_of(job):
            return job
        noted = await self._cluster.annotate(JOB, job, RESULT_ANNOTATION, progress.text_of(result))
        self._cache.put(JOB, noted)
        return noted

    def _seconds_to_keep(self, key: Key, job: Manifest) -> float:
        """Return for how many more seconds a Job that ended without a result stays."""
        passed = seconds_between(progress.ended_at(job), self._now())
        return max(0.0, WITHOUT_RESULT.length(self._without_result.get(key, 0)) - (passed or 0.0))

    async def _conclude(self, key: Key, manifest: Manifest, outcome: _Outcome, failures: int) -> float | None:
        """Write the status; return the seconds until the next pass, or raise an error that the queue retries."""
        not_applied, passing = outcome.failures.to_report(failures), outcome.failures.passing
        again = None
        if not_applied or not passing:
            again = await self._report(key, manifest, outcome, not_applied)
        if passing:
            raise passing
        retries = [
            again,
            self._blocked_seconds(key, is_blocked=bool(not_applied and outcome.checked.is_valid)),
            self._next_look(key, outcome),
            self._next_look_without_pod(key, outcome),
        ]
        return soonest(retries)

    def _blocked_seconds(self, key: Key, *, is_blocked: bool) -> float | None:
        """Return in how many seconds to write blocked children again, None if no child is blocked.

        The waits become longer.
        """
        attempts = self._blocked.pop(key, 0)
        if not is_blocked:
            return None
        self._blocked[key] = attempts + 1
        return BLOCKED_RETRY.delay(attempts)

    def _next_look(self, key: Key, outcome: _Outcome) -> float | None:
        """Return the seconds until the next look at the Job and its pod, None if watch events report every change."""
        job, pods = outcome.job, outcome.pods
        if job is None or progress.result_of(job) or metadata.is_being_deleted(job):
            return None
        if progress.has_ended(job):
            return max(1.0, self._seconds_to_keep(key, job))
        return READ_SECONDS if any(map(progress.is_running, pods)) else next_look(pods, self._now())

    def _next_look_without_pod(self, key: Key, outcome: _Outcome) -> float | None:
        """Return the seconds until the next look at a Job that waits for its pod, None if it does not wait.

        A watch event reports that a suspended Job was resumed.
        """
        job = outcome.job
        if job is None or outcome.pods or not _waits_for_pod(job):
            self._pauses.forget(key)
            return None
        return self._pauses.next(key, str(job["metadata"].get("uid", "")), SECONDS_WITHOUT_POD)

    async def _report(
        self, key: Key, manifest: Manifest, outcome: _Outcome, not_applied: Reason | None
    ) -> float | None:
        """Write the status. Return the seconds until the next pass, None if none is due."""
        held = self._children.held(key, manifest["metadata"]["uid"], manifests.CHILDREN)
        observation = WeightsObservation(
            manifest,
            outcome.checked.resource,
            not_applied,
            job=outcome.job,
            pods=outcome.pods,
            said=outcome.said,
            refused=outcome.refused,
            claim_uid=outcome.claim_uid,
            held=held,
        )
        status = weights_status(observation, self._now())
        event = weights_event(manifest, status, self._now())
        # Later, the time of this status shows which fields the spec already had: see `kept_job.unrequested`.
        has_job = outcome.job is not None and not not_applied
        again = await self._reporting.write(WEIGHTS, manifest, status, event, if_unchanged=has_job)
        return soonest([again, seconds_until_named(held, self._now())])


def _is_suspended(job: Manifest) -> bool:
    return bool(job.get("spec", {}).get("suspend"))


def _waits_for_pod(job: Manifest) -> bool:
    """Return whether a Job without a pod can get one."""
    is_over = progress.has_ended(job) or progress.result_of(job) is not None
    return not is_over and not metadata.is_being_deleted(job) and not _is_suspended(job)


def _lacks_result(job: Manifest) -> bool:
    """Return whether a Job that stays has ended without a result, as far as its annotation says."""
    has_result = progress.result_of(job) is not None
    return progress.has_ended(job) and not has_result and not metadata.is_being_deleted(job)
