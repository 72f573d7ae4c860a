"""A Job stays when the operator or its CRDs change. It is replaced only if somebody asked for another one."""

import asyncio
import copy
import json
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import JOB, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.weights import job, job_inputs
from kimi_linear_operator.weights.labels import FETCH_ANNOTATION, INPUTS_ANNOTATION, RESULT_ANNOTATION
from kimi_linear_operator.weights.spec import WEIGHTS
from make import make_condition, make_weights
from passes import Passes, new_cache
from refusing import RefusingCluster

KEY = Key("default", "kimi", WEIGHTS)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hour(number: int) -> str:
    return f"2026-11-29T{number:02}:00:00Z"


class _Cluster(RefusingCluster):
    """A cluster whose API server made all Jobs at two o'clock. The cache shows all of them."""

    cache: Cache

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.cache.get(Key(namespace, name, kind)) if kind == JOB else await super().get(kind, namespace, name)

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        return summary

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        applied = await super().apply(kind, manifest)
        return {**applied, "metadata": {**applied["metadata"], "creationTimestamp": hour(2)}}

    async def events_of(self, *_: object) -> list[Manifest]:
        return []


class World:
    """Weights whose Job runs, and the operators that follow each other."""

    def __init__(self, **spec: Any) -> None:
        self.cluster, self.cache = _Cluster({}), new_cache()
        self.cluster.cache = self.cache
        self.spec: Manifest = spec
        self.generation, self.version = 1, 100
        self.annotations: dict[str, str] = {}
        self.owned: Manifest = {}
        self.written_at, self.reported_at = hour(1), ""
        self.new_operator()
        self.reconcile()
        self.first = self.job

    def new_operator(self) -> None:
        self.operator = Passes(self.cluster, self.cache, now=lambda: hour(23))

    def reconcile(self) -> None:
        """Make a pass over the weights as they are now."""
        self.version += 100
        manifest = make_weights(**self.spec)
        about: Manifest = {"generation": self.generation, "resourceVersion": str(self.version)}
        manifest["metadata"] |= {**about, "annotations": self.annotations}
        downloading = make_condition("Ready", "False", "WeightsDownloading", "")
        manifest["status"] = {"observedGeneration": 1, "conditions": [downloading]}
        owner = {"manager": "gitops", "time": self.written_at, "fieldsV1": {"f:spec": self.owned}}
        status = {"manager": MANAGER, "subresource": "status", "time": self.reported_at, "fieldsV1": {"f:status": {}}}
        managed = {**manifest["metadata"], "managedFields": [owner, *([status] if self.reported_at else [])]}
        self.cluster.live["KimiLinearWeights/kimi"] = {**manifest, "metadata": managed}
        self.cache.put(WEIGHTS, manifest)
        asyncio.run(self.operator.reconcile(KEY))

    def change(self, **spec: Any) -> None:
        """Store another spec, and let another operator make passes over it."""
        self.spec, self.generation = {**self.spec, **spec}, self.generation + 1
        self.new_operator()
        self.reconcile()
        self.reconcile()

    @property
    def job(self) -> str:
        """Return the name of the last written Job."""
        return [name for name in self.cluster.written if name.startswith("Job/")][-1]

    @property
    def is_first_kept(self) -> bool:
        return self.job == self.first and f"-{self.first}" not in self.cluster.written

    def edit_job(self, annotation: str, value: str) -> None:
        """Change an annotation of the Job."""
        [found] = self.cache.children(JOB, KEY)
        edited = copy.deepcopy(found)
        self.cluster.written.append("an edit")
        edited["metadata"]["annotations"][annotation] = value
        edited["metadata"]["resourceVersion"] = str(len(self.cluster.written) + 10)
        self.cache.put(JOB, edited)


def _overlay(pull_policy: str = "", **pod: Any) -> Manifest:
    container = {"name": "fetch", "env": [{"name": "X", "value": "1"}]}
    return {"spec": {"containers": [{**container, **({"imagePullPolicy": pull_policy} if pull_policy else {})}], **pod}}


_LIST: Manifest = {"f:podTemplate": {"f:spec": {"f:containers": {}}}}


def test_a_default_within_a_list_replaces_no_running_job() -> None:
    world = World(podTemplate=_overlay())
    world.owned = _LIST
    world.change(podTemplate=_overlay("Always"))
    assert world.is_first_kept


@pytest.mark.parametrize(
    ("written_at", "reported_at", "is_kept"),
    [(hour(1), "", True), (hour(3), "", False), (hour(3), hour(4), True), (hour(5), hour(4), False)],
    ids=["before the Job", "after the Job", "before the last status", "after the last status"],
)
def test_a_field_in_a_list_counts_as_requested_only_if_its_owner_wrote_after_the_operator_knew_the_spec(
    *, written_at: str, reported_at: str, is_kept: bool
) -> None:
    world = World(podTemplate=_overlay())
    world.owned, world.written_at, world.reported_at = _LIST, written_at, reported_at
    world.change(podTemplate=_overlay("Always"))
    assert world.is_first_kept is is_kept


@pytest.mark.parametrize("is_owned", [False, True], ids=["a default", "a request"])
def test_only_a_value_with_an_owner_replaces_the_job(*, is_owned: bool) -> None:
    world = World()
    world.owned = {"f:source": {"f:endpoint": {}}} if is_owned else {}
    world.change(source={"endpoint": "https://mirror.example.com"})
    assert world.is_first_kept is not is_owned


@pytest.mark.parametrize("change", [{"image": "registry.example.com/fetch:2"}, {"source": {"revision": "v2"}}])
def test_a_requested_change_replaces_the_job(change: Manifest) -> None:
    world = World(image="registry.example.com/fetch:1", source={"revision": "v1"})
    world.owned = {"f:image": {}, "f:source": {"f:revision": {}}}
    world.change(**change)
    assert not world.is_first_kept


def test_a_new_value_of_the_annotation_fetches_again_with_the_values_that_perhaps_are_defaults() -> None:
    world = World(podTemplate=_overlay())
    world.owned = _LIST
    world.annotations = {FETCH_ANNOTATION: "again"}
    world.change(podTemplate=_overlay("Always"))
    assert not world.is_first_kept
    assert [item for item in world.cluster.applied if item["kind"] == "Job"][-1]["spec"]["template"]["spec"][
        "containers"
    ][0]["imagePullPolicy"] == "Always"


@pytest.mark.parametrize("is_done", [False, True], ids=["running", "finished"])
def test_a_version_with_other_pods_and_other_names_replaces_no_job(
    monkeypatch: pytest.MonkeyPatch, *, is_done: bool
) -> None:
    world = World()
    if is_done:
        content = {"state": "Complete", "commit": COMMIT, "totalBytes": 1, "bytes": 1, "message": ""}
        world.edit_job(RESULT_ANNOTATION, json.dumps(content))
    name, wish = job.job_name, job.wish
    monkeypatch.setattr(job, "job_name", lambda *made_for: f"{name(*made_for)}-v2")
    monkeypatch.setattr(job, "wish", lambda *made_for: f"{wish(*made_for)}-v2")
    monkeypatch.setattr(job, "_REQUESTS", {"cpu": "2"})
    world.change()
    assert world.is_first_kept
    world.change(inheritedMetadata={"labels": {"team": "search"}})
    assert world.is_first_kept


def _record(claim: str, inputs: Manifest) -> str:
    return json.dumps({"generation": 1, "fetch": "", "claim": claim, "inputs": inputs})


def test_a_rollback_ignores_inputs_that_only_the_newer_version_knows() -> None:
    world = World()
    [found] = world.cache.children(JOB, KEY)
    recorded = job_inputs.read(found)
    assert recorded
    inputs = {**recorded.inputs, "mirrors": ["a"]}
    world.edit_job(
        INPUTS_ANNOTATION, json.dumps({"generation": 1, "fetch": "", "claim": recorded.claim, "inputs": inputs})
    )
    world.change()
    assert world.is_first_kept


def test_a_rollback_ignores_a_recorded_default_that_this_version_refuses() -> None:
    world = World()
    [found] = world.cache.children(JOB, KEY)
    recorded = job_inputs.read(found)
    assert recorded
    inputs = {"source": {"variant": "thinking"}}
    world.edit_job(
        INPUTS_ANNOTATION, json.dumps({"generation": 1, "fetch": "", "claim": recorded.claim, "inputs": inputs})
    )
    world.change(source={"variant": "thinking"})
    assert world.is_first_kept


@pytest.mark.parametrize("text", ["", "{", "[]", '{"generation": "1"}', '"' * 70_000])
def test_a_job_whose_record_cannot_be_read_stays_while_its_name_is_the_same(text: str) -> None:
    world = World()
    world.edit_job(INPUTS_ANNOTATION, text)
    world.change()
    assert world.is_first_kept


@pytest.mark.parametrize("inputs", [{"image": 1}, {"source": []}, {"podTemplate": {"spec": {"containers": "x"}}}])
def test_an_edited_record_fails_no_pass(inputs: Manifest) -> None:
    world = World(podTemplate=_overlay())
    world.edit_job(INPUTS_ANNOTATION, _record("", inputs))
    world.change(podTemplate=_overlay("Always"))
    assert world.cluster.status["observedGeneration"] == 2


def test_a_podtemplate_that_is_too_long_for_a_record_is_fetched_with() -> None:
    long = [{"name": f"V{number}", "value": "x" * 4000} for number in range(20)]
    world = World(podTemplate={"spec": {"containers": [{"name": "fetch", "env": long}]}})
    [found] = world.cache.children(JOB, KEY)
    assert INPUTS_ANNOTATION not in found["metadata"]["annotations"]
    world.change()
    assert world.is_first_kept
