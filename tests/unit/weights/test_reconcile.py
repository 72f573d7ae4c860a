"""Passes over weights with a fake cluster: how often logs are read, and how servers use weights."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from kimi_linear_operator import clock
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.kinds import CLAIM, CONFIG_MAP, DEPLOYMENT, JOB, POD, Kind, Manifest
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.log_reads import READ_SECONDS
from kimi_linear_operator.reconcile.pauses import LONGEST_PAUSE_SECONDS
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.weights import job
from kimi_linear_operator.weights.progress import last_line, read
from kimi_linear_operator.weights.reconcile import WeightsReconciler
from kimi_linear_operator.weights.spec import WEIGHTS, WeightsSpec
from make import MANAGED_LABELS, make_condition, make_server, make_weights, owned, stored
from passes import Passes, new_cache

NOW = "2026-11-29T20:00:00Z"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
KEY = Key("default", "kimi", WEIGHTS)
IMAGE = str(WeightsSpec.model_fields["image"].default)
TIMES = {"creationTimestamp": "2026-11-29T19:00:00Z"}


def said(**parts: Any) -> bytes:
    content = {"state": "Downloading", "message": "", "commit": COMMIT, "totalBytes": 1000, "bytes": 250, "rate": 10}
    return json.dumps(content | parts).encode()


def in_a_log(text: bytes) -> str:
    """Return lines as the API server gives them: each with its time."""
    return "\n".join(f"2026-11-29T20:00:00.123456789Z {line}" for line in text.decode().split("\n"))


class FakeCluster:
    """Accepts writes, and contains a readable log. The cache shows all Jobs and pods, except some `late` ones."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.late: list[Manifest] = []
        self.asked: list[Kind] = []
        self.log = said()
        self.logs_read = 0
        self.written: list[Manifest] = []
        self.statuses: list[Manifest] = []
        self.deleted: list[str] = []
        self.events: list[Manifest] = []
        self.events_read = 0
        self.version = 10
        self.weights: Manifest | None = None

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        if kind == WEIGHTS and self.weights:
            return self.weights
        if kind == JOB:
            self.asked.append(kind)
            late = [job for job in self.late if job["metadata"]["name"] == name]
            return late[0] if late else self.cache.get(Key(namespace, name, JOB))
        return {WEIGHTS: make_weights, SERVER: make_server}[kind](name) if kind in (WEIGHTS, SERVER) else None

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        self.asked.append(kind)
        late = [pod for pod in self.late if pod["kind"] == kind.kind]
        return add(summary, late or self.cache.children(kind, KEY))

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        self.version += 1
        self.written.append(manifest)
        return stored({**manifest, "metadata": {**TIMES, **manifest["metadata"], "resourceVersion": str(self.version)}})

    apply = apply_new

    async def annotate(self, kind: Kind, manifest: Manifest, name: str, value: str) -> Manifest:
        metadata = manifest["metadata"]
        annotations = {**metadata.get("annotations", {}), name: value}
        return {**manifest, "metadata": {**metadata, "annotations": annotations, "resourceVersion": "99"}}

    async def pod_log_tail(self, pod: Manifest, container: str, *, lines: int) -> str:
        self.logs_read += 1
        return in_a_log(self.log)

    async def patch_status(
        self, kind: Kind, manifest: Manifest, status: Manifest, *, if_unchanged: bool = False
    ) -> Manifest:
        self.statuses.append(status)
        return {**manifest["metadata"], "resourceVersion": str(int(manifest["metadata"]["resourceVersion"]) + 1)}

    async def events_of(self, involved: Manifest, reasons: Any) -> list[Manifest]:
        self.events_read += 1
        return [event for event in self.events if event["reason"] in reasons]

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return manifest

    async def delete(self, kind: Kind, manifest: Manifest, **_: bool) -> None:
        self.deleted.append(manifest["metadata"]["name"])


class Case:
    """Weights, their Job and its pod."""

    def __init__(self, **spec: Any) -> None:
        self.cache = new_cache()
        self.cluster = FakeCluster(self.cache)
        self.cache.put(WEIGHTS, make_weights(**spec))
        self.enqueued: list[Key] = []
        self.passes = Passes(self.cluster, self.cache, now=lambda: NOW, enqueue=self.enqueued.extend)

    def reconcile(self, key: Key = KEY) -> float | None:
        """Make a pass, wait for the read that it started, and make the passes that were then requested."""

        async def passes() -> float | None:
            again = await self.passes.reconcile(key)
            await asyncio.sleep(0)
            while self.enqueued:
                again = await self.passes.reconcile(self.enqueued.pop())
                await asyncio.sleep(0)
            return again

        return asyncio.run(passes())

    @property
    def job(self) -> Manifest:
        [job] = self.cache.children(JOB, KEY)
        return job

    def put_pod(self, **state: Any) -> None:
        self.cache.put(POD, self.make_pod(**state))

    def make_pod(self, **state: Any) -> Manifest:
        container = {"name": "fetch", "image": "i", "restartCount": 0, "ready": True, **state}
        status = {"phase": "Running", "containerStatuses": [container], "conditions": []}
        self.cluster.version += 1
        metadata = {"name": "kimi-fetch-x", "resourceVersion": str(self.cluster.version)}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": status}
        return owned(pod, "kimi", "KimiLinearWeights")

    def end_job(self, at: str = NOW, version: int = 90) -> None:
        complete = {"type": "Complete", "status": "True", "lastTransitionTime": at}
        job = self.job
        metadata = {**job["metadata"], "resourceVersion": str(version)}
        self.cache.put(JOB, {**job, "metadata": metadata, "status": {"conditions": [complete]}})

    @property
    def status(self) -> Manifest:
        return self.cluster.statuses[-1]


def running(case: Case) -> None:
    case.reconcile()
    case.put_pod(state={"running": {}})


def ended(**content: Any) -> Manifest:
    return {"terminated": {"exitCode": 0, "message": json.dumps(content), "finishedAt": NOW}}


def complete(case: Case, commit: str = COMMIT) -> None:
    case.reconcile()
    case.put_pod(state=ended(state="Complete", commit=commit, bytes=1000, totalBytes=1000))
    case.end_job()
    case.reconcile()


def test_the_first_pass_creates_claim_program_and_job() -> None:
    case = Case()
    case.reconcile()
    assert [child["kind"] for child in case.cluster.written] == ["PersistentVolumeClaim", "ConfigMap", "Job"]


def test_an_existing_claim_is_used_unchanged() -> None:
    case = Case(volume={"existingClaim": "models"})
    case.reconcile()
    assert [child["kind"] for child in case.cluster.written] == ["ConfigMap", "Job"]
    volumes = case.cluster.written[1]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "weights", "persistentVolumeClaim": {"claimName": "models"}} in volumes


def test_a_log_is_read_every_ten_seconds_and_the_status_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    case, time = Case(), [100.0]
    monkeypatch.setattr(clock, "seconds", lambda: time[0])
    running(case)
    assert case.reconcile() == READ_SECONDS
    assert (case.status["percent"], case.status["bytesPerSecond"]) == (25, 10)
    case.cluster.log = said(bytes=500)
    case.reconcile()
    assert (case.cluster.logs_read, case.status["percent"]) == (1, 25)
    time[0] += READ_SECONDS
    case.reconcile()
    assert (case.cluster.logs_read, case.status["percent"]) == (2, 50)


def test_without_a_log_the_rest_of_the_status_is_written() -> None:
    case = Case()
    case.cluster.log = b""
    running(case)
    case.reconcile()
    assert ready_condition(case.status)["reason"] == "WeightsDownloading"
    assert "percent" not in case.status


def test_complete_weights_need_no_further_pass_and_no_write() -> None:
    case = Case()
    complete(case)
    written = len(case.cluster.statuses)
    assert case.reconcile() is None
    assert (len(case.cluster.statuses), case.cluster.logs_read) == (written, 0)
    assert (case.status["commit"], ready_condition(case.status)["status"]) == (COMMIT, "True")


def test_weights_are_complete_as_soon_as_the_program_says_so() -> None:
    case = Case()
    running(case)
    case.reconcile()
    case.put_pod(state=ended(state="Complete", commit=COMMIT, bytes=1000, totalBytes=1000))
    assert case.reconcile() is None
    assert ready_condition(case.status)["reason"] == "WeightsComplete"
    statuses = len(case.cluster.statuses)
    case.end_job()
    case.reconcile()
    assert len(case.cluster.statuses) == statuses


def test_a_job_without_a_result_is_created_again_after_a_minute() -> None:
    case = Case()
    case.reconcile()
    case.end_job("2026-11-29T19:59:50Z")
    assert case.reconcile() == 50
    assert ready_condition(case.status)["reason"] == "NoResult"
    assert case.cluster.deleted == []
    late = Case()
    late.reconcile()
    late.end_job("2026-11-29T19:58:00Z")
    late.reconcile()
    assert late.cluster.deleted == [late.job["metadata"]["name"]]


def test_jobs_that_end_without_a_result_stay_longer_and_longer() -> None:
    case = Case()
    case.reconcile()
    found = []
    for number in range(8):
        # A Job has just ended. Later, it has ended long ago.
        case.end_job("2026-11-29T19:59:55Z", version=100 + 2 * number)
        found.append(case.reconcile())
        case.end_job("2026-11-29T15:00:00Z", version=101 + 2 * number)
        case.reconcile()
    assert found == [55, 115, 235, 475, 955, 1915, 3595, 3595]
    assert len(case.cluster.deleted) == 8


def hold(case: Case, kind: Kind, since: str = "2026-11-29T19:58:30Z", finalizer: str = "example.com/hold") -> str:
    """Let a finalizer hold the deletion of the only child of a kind; return the kind and the name of the child."""
    [child] = case.cache.children(kind, KEY)
    held = {"deletionTimestamp": since, "finalizers": [finalizer], "resourceVersion": "191"}
    case.cache.put(kind, {**child, "metadata": {**child["metadata"], **held}})
    return f"{kind.kind} {child['metadata']['name']}"


def test_a_job_that_a_finalizer_holds_is_named_and_causes_no_further_pass() -> None:
    """The watch shows when it is gone."""
    case = Case()
    case.reconcile()
    case.end_job("2026-11-29T19:58:00Z")
    name = hold(case, JOB)
    assert case.reconcile() is None
    told = ready_condition(case.status)
    assert (told["reason"], f"{name} (example.com/hold)" in told["message"]) == ("DeletionBlocked", True)
    assert find_condition(case.status, "Synced")["reason"] == "DeletionBlocked"


@pytest.mark.parametrize("kind", [CLAIM, CONFIG_MAP, JOB], ids=lambda kind: kind.kind)
def test_complete_weights_name_a_child_that_a_finalizer_holds_until_it_is_gone(kind: Kind) -> None:
    """A claim that outlives the weights has no owner. Pods that use it hold it with a finalizer of Kubernetes."""
    case = Case()
    complete(case)
    name, written = hold(case, kind), len(case.cluster.written)
    assert case.reconcile() is None
    told = find_condition(case.status, "Synced")
    assert (told["status"], told["reason"]) == ("False", "DeletionBlocked")
    assert f"{name} (example.com/hold)" in told["message"]
    assert ready_condition(case.status)["status"] == "True"
    statuses = len(case.cluster.statuses)
    case.reconcile()
    assert (len(case.cluster.statuses), len(case.cluster.written)) == (statuses, written)
    [held] = case.cache.children(kind, KEY)
    released = {**held["metadata"], "resourceVersion": "192"}
    del released["deletionTimestamp"]
    case.cache.put(kind, {**held, "metadata": released})
    case.reconcile()
    assert find_condition(case.status, "Synced") == {}


def test_a_child_whose_deletion_has_just_begun_is_named_some_seconds_later() -> None:
    case = Case()
    complete(case)
    hold(case, CLAIM, since=NOW)
    assert case.reconcile() == 10
    assert find_condition(case.status, "Synced") == {}


@pytest.mark.parametrize("finalizer", ["example.com/hold", "kubernetes.io/pvc-protection"])
def test_complete_weights_with_a_held_claim_are_reconciling_from_the_first_second(finalizer: str) -> None:
    """The operator must create the claim and fetch the model again, so a tool that waits has to wait for that."""
    case = Case()
    complete(case)
    assert find_condition(case.status, "Reconciling")["reason"] == "Settled"
    name = hold(case, CLAIM, since=NOW, finalizer=finalizer)
    case.reconcile()
    told = find_condition(case.status, "Reconciling")
    assert (told["status"], told["reason"]) == ("True", "DeletionBlocked")
    assert f"{name} ({finalizer})" in told["message"]
    assert ready_condition(case.status)["status"] == "True"


def test_nobody_is_told_to_take_the_volume_away_from_pods_that_use_it() -> None:
    case = Case()
    complete(case)
    hold(case, CLAIM, since="2026-11-29T19:55:01Z", finalizer="kubernetes.io/pvc-protection")
    assert case.reconcile() == 1
    assert find_condition(case.status, "Synced") == {}
    late = Case()
    complete(late)
    hold(late, CLAIM, since="2026-11-29T19:55:00Z", finalizer="kubernetes.io/pvc-protection")
    late.reconcile()
    message = find_condition(late.status, "Synced")["message"]
    assert "when no pod uses the volume any more. Do not remove it yourself" in message
    assert "kubectl edit" not in message


def test_a_quota_that_refuses_the_pod_is_quoted() -> None:
    case = Case()
    message = 'Error creating: pods "kimi-fetch-x" is forbidden: exceeded quota: small'
    case.cluster.events = [{"reason": "FailedCreate", "message": message, "lastTimestamp": NOW}]
    case.reconcile()
    assert case.reconcile() == 30
    told = ready_condition(case.status)
    assert (told["reason"], "raise the quota" in told["message"]) == ("PodCreationFailed", True)


def test_a_job_that_never_gets_a_pod_is_looked_at_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, day = 0.0, 24 * 3600
    monkeypatch.setattr(clock, "seconds", lambda: seconds)
    case, pauses = Case(), list[float]()
    while seconds < day:
        again = case.reconcile()
        assert again
        pauses.append(again)
        seconds += again
    assert (pauses[0], pauses[-1]) == (30, LONGEST_PAUSE_SECONDS)
    assert case.cluster.events_read <= 1.2 * day / LONGEST_PAUSE_SECONDS


def test_a_suspended_job_rests_without_any_request() -> None:
    case = Case()
    case.reconcile()
    job = case.job
    metadata = {**job["metadata"], "resourceVersion": "50"}
    case.cache.put(JOB, {**job, "metadata": metadata, "spec": {**job["spec"], "suspend": True}})
    case.cluster.events_read = 0
    assert (case.reconcile(), case.cluster.events_read) == (None, 0)


def test_defaults_that_are_written_out_create_no_other_job() -> None:
    case = Case()
    case.reconcile()
    first = case.job["metadata"]["name"]
    edit(case, source={"variant": "instruct", "revision": "main"}, volume={"size": "200Gi"}, image=IMAGE)
    assert case.job["metadata"]["name"] == first


def edit(case: Case, **spec: Any) -> None:
    """Give the weights another spec."""
    weights = make_weights(**spec)
    case.cluster.version += 100
    metadata = {**weights["metadata"], "resourceVersion": str(case.cluster.version), "generation": 2}
    cached = case.cache.get(KEY) or {}
    case.cluster.weights = {**weights, "metadata": metadata, "status": cached["status"]}
    case.cache.put(WEIGHTS, case.cluster.weights)
    case.reconcile()


OTHER_WISHES = [{"source": {"revision": "v2"}}, {"volume": {"existingClaim": "models"}}]
OTHER_PODS = [{"image": "fetcher:1"}, {"source": {"endpoint": "https://hub.example.com"}}]


@pytest.mark.parametrize("change", [*OTHER_WISHES, *OTHER_PODS], ids=str)
def test_another_spec_creates_another_job_while_no_commit_is_complete(change: Manifest) -> None:
    case = Case()
    case.reconcile()
    first = case.job["metadata"]["name"]
    edit(case, **change)
    assert (case.job["metadata"]["name"] != first, case.cluster.deleted) == (True, [first])


@pytest.mark.parametrize("change", OTHER_PODS, ids=str)
def test_complete_weights_are_not_fetched_again_because_of_changed_pod_settings(change: Manifest) -> None:
    case = Case()
    complete(case)
    first, written = case.job["metadata"]["name"], len(case.cluster.written)
    edit(case, **change)
    assert (case.job["metadata"]["name"], case.cluster.written[written:], case.cluster.deleted) == (first, [], [])
    assert (case.status["commit"], ready_condition(case.status)["status"]) == (COMMIT, "True")


@pytest.mark.parametrize("change", OTHER_WISHES, ids=str)
def test_another_wish_is_fetched_although_the_last_one_is_complete(change: Manifest) -> None:
    case = Case()
    complete(case)
    first = case.job["metadata"]["name"]
    edit(case, **change)
    assert case.job["metadata"]["name"] != first


def upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operator use the next version's program."""
    monkeypatch.setattr(job, "_program", lambda: "print('the next version')")


@pytest.mark.parametrize("begin", [running, complete])
def test_an_upgrade_keeps_the_program_of_a_job_and_writes_nothing(
    begin: Callable[[Case], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case()
    begin(case)
    case.reconcile()
    name, written = case.job["metadata"]["name"], len(case.cluster.written)
    upgrade(monkeypatch)
    case.reconcile()
    assert (case.job["metadata"]["name"], case.cluster.written[written:], case.cluster.deleted) == (name, [], [])


def test_the_next_job_after_an_upgrade_gets_the_new_program_and_the_old_is_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case()
    complete(case)
    [former] = [child["metadata"]["name"] for child in case.cluster.written if child["kind"] == "ConfigMap"]
    first, written = case.job["metadata"]["name"], len(case.cluster.written)
    upgrade(monkeypatch)
    edit(case, source={"revision": "v2"})
    program, made = case.cluster.written[written:]
    assert program["data"] == {"fetch.py": "print('the next version')"}
    volumes = made["spec"]["template"]["spec"]["volumes"]
    assert {"name": "program", "configMap": {"name": program["metadata"]["name"]}} in volumes
    assert {*case.cluster.deleted} == {first, former}


def test_children_that_cannot_be_written_are_retried_less_and_less_often() -> None:
    case = Case()
    foreign = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "kimi"}}
    case.cache.put(CLAIM, stored({**foreign, "metadata": {"name": "kimi", "labels": MANAGED_LABELS}}))
    pauses = [case.reconcile() or 0.0 for _ in range(8)]
    assert ready_condition(case.status)["reason"] == "NameConflict"
    assert pauses[0] <= 15
    assert 150 <= pauses[-1] <= 300
    case.cache.clear()
    case.cache.put(WEIGHTS, make_weights())
    case.reconcile()
    assert [child["kind"] for child in case.cluster.written] == ["PersistentVolumeClaim", "ConfigMap", "Job"]


def test_the_operator_forgets_deleted_weights() -> None:
    case = Case()
    running(case)
    case.reconcile()
    reconciler = case.passes._reconcilers[WEIGHTS]
    assert isinstance(reconciler, WeightsReconciler)
    assert KEY in reconciler._logs._followed
    case.cache.clear()
    case.reconcile()
    assert (reconciler._logs._followed, reconciler._blocked) == ({}, {})


def test_a_server_uses_the_commit_of_its_weights_and_waits_without_one() -> None:
    case, server = Case(), Key("default", "kimi", SERVER)
    case.cache.put(SERVER, make_server(model={"weights": "kimi"}))
    case.reconcile()
    assert case.reconcile(server) is None, "an event enqueues the server"
    assert case.cache.get(server.of(DEPLOYMENT)) is None
    assert find_condition(case.status, "Reconciling")["reason"] == "WeightsDownloading"
    complete(case)
    case.reconcile(server)
    deployment = case.cache.get(server.of(DEPLOYMENT))
    assert deployment
    assert COMMIT in str(deployment["spec"]["template"]["spec"]["containers"][0]["args"])


def changed(version: int, *, generation: int = 1, **status: Any) -> Manifest:
    """Return weights at a later time."""
    weights = {**make_weights(), "status": status}
    return {
        **weights,
        "metadata": {**weights["metadata"], "resourceVersion": str(version), "generation": generation},
    }


USER = Key("default", "user", SERVER)
DOWNLOADING = [make_condition("Ready", "False", "WeightsDownloading", "41 % of 98.2 GB are on the volume")]
LATER = [make_condition("Ready", "False", "WeightsDownloading", "42 % of 98.2 GB are on the volume")]
REFUSED = [
    make_condition("Ready", "False", "TokenRefused", "no"),
    make_condition("Stalled", "True", "TokenRefused", "no"),
]


@pytest.mark.parametrize(
    ("change", "is_news"),
    [
        ({"conditions": LATER, "percent": 42, "bytes": 420, "bytesPerSecond": 9}, False),
        ({"conditions": DOWNLOADING, "generation": 2}, True),
        ({"conditions": DOWNLOADING, "commit": COMMIT, "claim": "kimi"}, True),
        ({"conditions": REFUSED}, True),
    ],
    ids=["more bytes", "another spec", "a commit", "a lasting problem"],
)
def test_only_servers_of_the_weights_are_enqueued_and_only_by_relevant_changes(change: Manifest, is_news: bool) -> None:
    case = Case()
    for name, spec in (("user", {"model": {"weights": "kimi"}}), ("other", {"model": {"weights": "x"}}), ("hub", {})):
        case.cache.put(SERVER, make_server(name, **spec))
    assert case.cache.put(WEIGHTS, changed(50, conditions=DOWNLOADING, percent=41)) == {KEY, USER}
    assert case.cache.put(WEIGHTS, changed(51, **change)) == ({KEY, USER} if is_news else {KEY})


def test_a_waiting_server_gets_no_status_write_for_each_per_cent() -> None:
    case = Case()
    case.cache.put(SERVER, make_server(model={"weights": "kimi"}))
    for version, conditions in enumerate((DOWNLOADING, LATER)):
        case.cache.put(WEIGHTS, changed(50 + version, conditions=conditions))
        case.reconcile(Key("default", "kimi", SERVER))
    assert len(case.cluster.statuses) == 1
    assert ready_condition(case.status)["message"] == "weights kimi: WeightsDownloading"


def test_lines_of_other_programs_are_skipped() -> None:
    log = b"\n".join([said(bytes=1), said(bytes=2), b"warning: something", b'{"state": 1}'])
    found = last_line(in_a_log(log))
    assert found
    assert found.size == 2


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"state": 5}', '{"no": "state"}', "\ud800", '{"state": NaN}'],
    ids=repr,
)
def test_text_that_is_not_from_the_program_gives_no_progress(text: str) -> None:
    assert read(text) is None


def test_wild_numbers_and_commits_do_no_harm() -> None:
    wild = read('{"state": "Downloading", "bytes": -1, "totalBytes": 1e99, "commit": "../..", "secondsLeft": "x"}')
    assert wild
    assert (wild.size, wild.total, wild.commit, wild.percent) == (0, 0, "", 0)


def test_the_weights_are_fetched_again_when_the_claim_was_created_again() -> None:
    case = Case()
    complete(case)
    first = case.job["metadata"]["name"]
    case.put_pod(
        state={"waiting": {}}
    )  # All objects of the fake cluster have the same UID, so the pods of the first Job are removed.
    claim = case.cache.get(KEY.of(CLAIM))
    assert claim
    metadata = {**claim["metadata"], "uid": "another", "resourceVersion": "95"}
    case.cache.put(CLAIM, {**claim, "metadata": metadata})
    case.reconcile()
    assert case.cluster.written[-1]["metadata"]["name"] != first
    assert "commit" not in case.status, "nothing is on the new claim"
    assert (case.status["claim"], case.status["claimUid"]) == ("kimi", "another")


def end_unseen(case: Case) -> None:
    """Let the Job end with a result in its pod. The watch of pods has not shown the end of the pod."""
    running(case)
    end = ended(state="Complete", commit=COMMIT, bytes=1000, totalBytes=1000)
    case.cluster.late = [case.make_pod(state=end)]


@pytest.mark.parametrize("at", [NOW, "2026-11-29T19:00:00Z"], ids=["just now", "by a clock that is ahead"])
def test_a_result_that_no_watch_has_shown_yet_is_taken_and_its_job_stays(at: str) -> None:
    case = Case()
    end_unseen(case)
    case.end_job(at)
    assert case.reconcile() is None
    assert [ready_condition(status)["reason"] for status in case.cluster.statuses][-1] == "WeightsComplete"
    assert "NoResult" not in str(case.cluster.statuses)
    assert (case.status["commit"], case.cluster.deleted) == (COMMIT, [])


def test_a_job_that_is_gone_and_still_cached_does_not_count_as_ended_without_a_result() -> None:
    case = Case()
    running(case)
    case.end_job("2026-11-29T19:00:00Z")
    case.cluster.late = [{**case.job, "metadata": {**case.job["metadata"], "uid": "another"}}]
    with pytest.raises(ApiError, match="is gone"):
        case.reconcile()
    assert ("NoResult" in str(case.cluster.statuses), case.cluster.deleted) == (False, [])


@pytest.mark.parametrize("has_ended", [False, True])
def test_no_job_is_replaced_for_other_pod_settings_after_an_end_that_no_watch_has_shown(*, has_ended: bool) -> None:
    case = Case()
    end_unseen(case)
    if has_ended:
        case.end_job()
    first, written = case.job["metadata"]["name"], len(case.cluster.written)
    edit(case, image="fetcher:1")
    assert (case.job["metadata"]["name"], case.cluster.written[written:], case.cluster.deleted) == (first, [], [])
    assert case.status["commit"] == COMMIT


@pytest.mark.parametrize("begin", [running, complete])
def test_jobs_and_pods_come_from_the_cache_while_nothing_is_decided(begin: Callable[[Case], None]) -> None:
    case = Case()
    begin(case)
    case.reconcile()
    assert case.cluster.asked == []
