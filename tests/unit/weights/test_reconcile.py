"""Passes over weights with a fake cluster: how often logs are read, and what a server makes of weights."""

import asyncio
import json
from typing import Any

import pytest

from kimi_linear_operator import clock
from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.kinds import CLAIM, DEPLOYMENT, JOB, POD, Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.weights.progress import last_line, read
from kimi_linear_operator.weights.reconcile import LOOK_SECONDS
from kimi_linear_operator.weights.spec import WEIGHTS
from make import make_server, make_weights, owned, stored
from passes import Passes, new_cache

NOW = "2026-11-29T20:00:00Z"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
KEY = Key("default", "kimi", WEIGHTS)
TIMES = {"creationTimestamp": "2026-11-29T19:00:00Z"}


def said(**parts: Any) -> bytes:
    content = {"state": "Downloading", "message": "", "commit": COMMIT, "totalBytes": 1000, "bytes": 250, "rate": 10}
    return json.dumps(content | parts).encode()


def in_a_log(text: bytes) -> str:
    """Return lines as the API server gives them: each with its time."""
    return "\n".join(f"2026-11-29T20:00:00.123456789Z {line}" for line in text.decode().split("\n"))


class FakeCluster:
    """Takes what is written, and has a log that can be read."""

    def __init__(self) -> None:
        self.log = said()
        self.logs_read = 0
        self.written: list[Manifest] = []
        self.statuses: list[Manifest] = []
        self.deleted: list[str] = []
        self.events: list[Manifest] = []
        self.version = 10

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return {WEIGHTS: make_weights, SERVER: make_server}[kind](name) if kind in (WEIGHTS, SERVER) else None

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

    async def events_of(self, involved: Manifest) -> list[Manifest]:
        return self.events

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return manifest

    async def delete(self, kind: Kind, manifest: Manifest) -> None:
        self.deleted.append(manifest["metadata"]["name"])


class Case:
    """Weights, their Job and its pod."""

    def __init__(self, **spec: Any) -> None:
        self.cluster, self.cache = FakeCluster(), new_cache()
        self.cache.put(WEIGHTS, make_weights(**spec))
        self.passes = Passes(self.cluster, self.cache, now=lambda: NOW)

    def reconcile(self, key: Key = KEY) -> float | None:
        return asyncio.run(self.passes.reconcile(key))

    @property
    def job(self) -> Manifest:
        [job] = self.cache.children(JOB, KEY)
        return job

    def put_pod(self, **state: Any) -> None:
        container = {"name": "fetch", "image": "i", "restartCount": 0, "ready": True, **state}
        status = {"phase": "Running", "containerStatuses": [container], "conditions": []}
        self.cluster.version += 1
        metadata = {"name": "kimi-fetch-x", "resourceVersion": str(self.cluster.version)}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": status}
        self.cache.put(POD, owned(pod, "kimi", "KimiLinearWeights"))

    def end_job(self, at: str = NOW) -> None:
        complete = {"type": "Complete", "status": "True", "lastTransitionTime": at}
        job = self.job
        metadata = {**job["metadata"], "resourceVersion": "90"}
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


def test_the_first_pass_makes_claim_program_and_job() -> None:
    case = Case()
    case.reconcile()
    assert [child["kind"] for child in case.cluster.written] == ["PersistentVolumeClaim", "ConfigMap", "Job"]


def test_an_existing_claim_is_used_as_it_is() -> None:
    case = Case(volume={"existingClaim": "models"})
    case.reconcile()
    assert [child["kind"] for child in case.cluster.written] == ["ConfigMap", "Job"]
    volumes = case.cluster.written[1]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "weights", "persistentVolumeClaim": {"claimName": "models"}} in volumes


def test_a_log_is_read_every_ten_seconds_and_the_status_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    case, time = Case(), [100.0]
    monkeypatch.setattr(clock, "seconds", lambda: time[0])
    running(case)
    assert case.reconcile() == LOOK_SECONDS
    assert (case.status["percent"], case.status["bytesPerSecond"]) == (25, 10)
    case.cluster.log = said(bytes=500)
    case.reconcile()
    assert (case.cluster.logs_read, case.status["percent"]) == (1, 25)
    time[0] += LOOK_SECONDS
    case.reconcile()
    assert (case.cluster.logs_read, case.status["percent"]) == (2, 50)


def test_without_a_log_the_rest_of_the_status_is_there() -> None:
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


def test_weights_are_complete_as_soon_as_the_program_says_so_whatever_else_runs_in_its_pod() -> None:
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


def test_a_job_without_a_result_is_made_anew_after_a_minute() -> None:
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


def test_a_quota_that_refuses_the_pod_is_quoted() -> None:
    case = Case()
    message = 'Error creating: pods "kimi-fetch-x" is forbidden: exceeded quota: small'
    case.cluster.events = [{"reason": "FailedCreate", "message": message, "lastTimestamp": NOW}]
    case.reconcile()
    assert case.reconcile() == 30
    told = ready_condition(case.status)
    assert (told["reason"], "raise the quota" in told["message"]) == ("PodCreationFailed", True)


def test_an_upgrade_with_other_defaults_and_another_program_makes_no_other_job() -> None:
    case = Case()
    complete(case)
    defaults = Case(source={"variant": "instruct", "revision": "main"}, volume={"size": "200Gi"})
    defaults.reconcile()
    assert defaults.job["metadata"]["name"] == case.job["metadata"]["name"]


@pytest.mark.parametrize(
    "change",
    [{"source": {"revision": "v2"}}, {"volume": {"existingClaim": "models"}}, {"image": "fetcher:1"}],
    ids=str,
)
def test_another_wish_makes_another_job(change: Manifest) -> None:
    first, second = Case(), Case(**change)
    first.reconcile()
    second.reconcile()
    assert first.job["metadata"]["name"] != second.job["metadata"]["name"]


def test_a_pass_over_a_server_uses_the_commit_and_waits_without_one() -> None:
    case, server = Case(), Key("default", "kimi", SERVER)
    case.cache.put(SERVER, make_server(model={"weights": "kimi"}))
    case.reconcile()
    assert case.reconcile(server) is None, "an event enqueues it"
    assert case.cache.get(server.of(DEPLOYMENT)) is None
    assert find_condition(case.status, "Reconciling")["reason"] == "WeightsDownloading"
    complete(case)
    case.reconcile(server)
    deployment = case.cache.get(server.of(DEPLOYMENT))
    assert deployment
    assert COMMIT in str(deployment["spec"]["template"]["spec"]["containers"][0]["args"])


def test_a_change_of_weights_enqueues_the_servers_that_use_them_and_no_others() -> None:
    case = Case()
    for name, spec in (("user", {"model": {"weights": "kimi"}}), ("other", {"model": {"weights": "x"}}), ("hub", {})):
        case.cache.put(SERVER, make_server(name, **spec))
    changed = make_weights()
    changed["metadata"]["resourceVersion"] = "50"
    assert case.cache.put(WEIGHTS, changed) == {KEY, Key("default", "user", SERVER)}


def test_lines_of_others_are_passed_over() -> None:
    log = b"\n".join([said(bytes=1), said(bytes=2), b"warning: something", b'{"state": 1}'])
    found = last_line(in_a_log(log))
    assert found
    assert found.size == 2


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"state": 5}', '{"no": "state"}', "\ud800", '{"state": NaN}'],
    ids=repr,
)
def test_what_is_not_the_programs_is_nothing(text: str) -> None:
    assert read(text) is None


def test_wild_numbers_and_commits_do_no_harm() -> None:
    wild = read('{"state": "Downloading", "bytes": -1, "totalBytes": 1e99, "commit": "../..", "secondsLeft": "x"}')
    assert wild
    assert (wild.size, wild.total, wild.commit, wild.percent) == (0, 0, "", 0)


def test_a_claim_that_is_made_anew_is_filled_anew() -> None:
    case = Case()
    complete(case)
    first = case.job["metadata"]["name"]
    claim = case.cache.get(KEY.of(CLAIM))
    assert claim
    metadata = {**claim["metadata"], "uid": "another", "resourceVersion": "95"}
    case.cache.put(CLAIM, {**claim, "metadata": metadata})
    case.reconcile()
    assert case.cluster.written[-1]["metadata"]["name"] != first
