"""A change of a spec by the CRD of another version does not count as a request, but every change of a user counts."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from kimi_linear_operator.kubernetes import ownership, stored
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import REVISION, Manifest, kind_of
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server import revision
from kimi_linear_operator.server.labels import LEFT_OUT_ANNOTATION, ROLLOUT_ANNOTATION
from kimi_linear_operator.server.manifests import build_deployment, build_revision
from kimi_linear_operator.server.revision import History
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.template_choice import choose
from make import make_condition, make_server
from make import stored as as_stored
from passes import Passes, new_cache
from refusing import RefusingCluster

_KEY = Key("default", "kimi", SERVER)
_BEFORE, _RECORDED, _APPLIED, _LATER, _NOW = (f"2026-11-29T0{hour}:00:00Z" for hour in range(1, 6))


def owner(fields: Manifest, time: str = _BEFORE) -> Manifest:
    return {"manager": "gitops", "operation": "Apply", "time": time, "fieldsV1": {"f:spec": fields}}


def _set_at(value: Manifest, path: tuple[str, ...], new: object) -> None:
    for name in path[:-1]:
        value = value[name]
    value[path[-1]] = new


@dataclass
class Cluster:
    """A server whose pods another version built, and its operator.

    Attributes:
        recorded: The spec for which the pods were built.
        refused: Inputs that this version refuses, as the record has them.
    """

    recorded: Manifest
    refused: dict[tuple[str, ...], object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        server = KimiLinearServer.model_validate(make_server(replicas=1, **self.recorded))
        kept = replace(choose(server, History()).current, number=1, generation=1)
        kept.template["spec"]["containers"][0]["env"].append({"name": "OF_ANOTHER_VERSION", "value": "1"})
        self.template = kept.template
        record = build_revision(server, kept)
        record["metadata"]["creationTimestamp"] = _RECORDED
        for path, value in self.refused.items():
            _set_at(record["data"]["inputs"], path, value)
            record["data"]["defaulted"] = [item for item in record["data"]["defaulted"] if tuple(item) != path]
        self.world, self.cache = RefusingCluster({}), new_cache()
        self.deployment = as_stored(build_deployment(server, kept.template, 1))
        for child in (as_stored(record), self.deployment):
            self.cache.put(kind_of(child), child)
        self.generation = self.replicas = 1
        ready = make_condition("Ready", "True", "AllReplicasServe", "")
        self.status: Manifest = {"observedGeneration": 1, "conditions": [ready]}
        self.start()

    def start(self) -> None:
        """Let a new operator take over."""
        self.operator = Passes(self.world, self.cache, now=lambda: _NOW)

    def write(
        self, spec: Manifest, *owners: Manifest, rollout: str = "", is_scaled: bool = True, **more: Any
    ) -> "Cluster":
        """Store a spec and make two passes."""
        self.generation += 1
        self.replicas = self.generation if is_scaled else self.replicas
        server = make_server(replicas=self.replicas, **spec, **more)
        reported = {"manager": MANAGER, "subresource": "status", "time": _APPLIED, "fieldsV1": {"f:status": {}}}
        annotations = {ROLLOUT_ANNOTATION: rollout} if rollout else {}
        version = str(100 * self.generation)
        server["metadata"] |= {"generation": self.generation, "resourceVersion": version, "annotations": annotations}
        managed = {**server["metadata"], "managedFields": [*owners, reported]}
        self.world.live["KimiLinearServer/kimi"] = {**server, "metadata": managed, "status": self.status}
        self.cache.put(SERVER, {**server, "status": self.status})
        for _ in range(2):
            asyncio.run(self.operator.reconcile(_KEY))
        self.status = self.world.status
        return self

    @property
    def applied(self) -> Manifest:
        """Return the spec of the Deployment as it was applied last."""
        applied = [item for item in self.world.applied if item["kind"] == "Deployment"]
        return dict((applied[-1] if applied else self.deployment)["spec"])

    @property
    def has_kept_pods(self) -> bool:
        """Return whether the server has the wanted replicas, and the pods are the same."""
        return (self.applied["replicas"], self.applied["template"]) == (self.replicas, self.template)

    @property
    def message(self) -> str:
        return str(find_condition(self.status, "TemplateCurrent")["message"])

    @property
    def container(self) -> Manifest:
        return dict(self.applied["template"]["spec"]["containers"][0])


def container(**fields: object) -> Manifest:
    return {"podTemplate": {"spec": {"containers": [{"name": "sglang", **fields}]}}}


def pod(**fields: object) -> Manifest:
    return {"podTemplate": {"spec": fields}}


def of_pod(name: str, below: Manifest | None = None) -> Manifest:
    return {"f:podTemplate": {"f:spec": {f"f:{name}": below or {}}}}


_CONTAINERS = of_pod("containers")

# Values that this version refuses. The CRD of another version stored them before the pods were built.
REFUSED = [
    pytest.param(("startup", "timeoutSeconds"), 90_000, id="a bound"),
    pytest.param(("engine", "version"), "1", id="a pattern"),
    pytest.param(("engine", "attentionBackend"), "AITER-v2", id="a shape"),
    pytest.param(("reasoningParser",), "enabled", id="a rule"),
]


@pytest.mark.parametrize(("path", "value"), REFUSED)
def test_a_default_that_this_version_refuses_replaces_no_pod_at_a_scale(path: tuple[str, ...], value: str) -> None:
    spec: Any = value
    for name in reversed(path):
        spec = {name: spec}
    cluster = Cluster({}, {path: value}).write(spec, owner({"f:tensorParallelism": {}}))
    assert find_condition(cluster.status, "Accepted")["reason"] == "SpecValid"
    assert cluster.has_kept_pods
    assert cluster.write(spec, owner({"f:tensorParallelism": {}}), service={"port": 31000}).has_kept_pods


def test_a_users_change_beside_a_default_that_this_version_refuses_takes_effect() -> None:
    refused: dict[tuple[str, ...], object] = {("startup", "timeoutSeconds"): 90_000}
    spec = {"startup": {"timeoutSeconds": 90_000}}
    request = owner({"f:engine": {"f:contextLength": {}}}, _LATER)
    assert not Cluster({}, dict(refused)).write(spec, request, engine={"contextLength": 4096}).has_kept_pods
    # The owner has removed a value that is different from the current default.
    assert not Cluster({"startup": {"timeoutSeconds": 7200}}).write(spec, owner({"f:replicas": {}})).has_kept_pods


def test_a_refused_default_in_an_object_that_was_written_empty_replaces_no_pod() -> None:
    recorded: Manifest = {"podTemplate": {"metadata": {}}}
    newer: Manifest = {"podTemplate": {"metadata": {"labels": {"app.kubernetes.io/name": "other"}}}}
    fields: Manifest = {"f:podTemplate": {"f:metadata": {".": {}}}}
    cluster = Cluster(recorded).write(newer, owner(fields))
    assert find_condition(cluster.status, "Accepted")["reason"] == "SpecValid"
    assert cluster.has_kept_pods


def test_a_default_in_a_list_beside_a_refused_default_replaces_no_pod() -> None:
    cluster = Cluster(container(tty=False), {("startup", "timeoutSeconds"): 90_000})
    newer: Manifest = {"startup": {"timeoutSeconds": 90_000}, **container(tty=False, imagePullPolicy="Always")}
    assert cluster.write(newer, owner(_CONTAINERS)).has_kept_pods
    _, _, ignored = cluster.message.partition("The pods ignore")
    assert "imagePullPolicy" in ignored
    assert "startup" not in ignored


EMPTY = [
    pytest.param(container(resources={}), container(resources={"claims": []}), _CONTAINERS, id="in an item"),
    pytest.param(container(a={"b": {}}), container(a={"b": {"c": {"d": 1}}}), _CONTAINERS, id="deep in an item"),
    pytest.param(
        pod(volumes=[{"name": "v", "emptyDir": {}}]),
        pod(volumes=[{"name": "v", "emptyDir": {"medium": ""}}]),
        of_pod("volumes"),
        id="a volume",
    ),
    pytest.param(pod(), pod(automountServiceAccountToken=False), {"f:podTemplate": {"f:spec": {}}}, id="the pod"),
    pytest.param({"podTemplate": {}}, pod(hostNetwork=False), {"f:podTemplate": {}}, id="the template"),
    pytest.param({}, pod(hostNetwork=False), {"f:replicas": {}}, id="nothing"),
    pytest.param(pod(affinity={}), pod(affinity={"nodeAffinity": {}}), of_pod("affinity", {".": {}}), id="by an edit"),
    pytest.param({"engine": {}}, {"engine": {"memoryFractionStatic": 0.5}}, {"f:engine": {}}, id="a typed field"),
]


@pytest.mark.parametrize(("recorded", "newer", "fields"), EMPTY)
def test_a_default_within_an_object_that_was_written_empty_replaces_no_pod(
    recorded: Manifest, newer: Manifest, fields: Manifest
) -> None:
    assert Cluster(recorded).write(newer, owner(fields)).has_kept_pods


def test_a_change_of_the_port_takes_no_default_within_an_object_that_was_written_empty() -> None:
    both: Manifest = {"f:engine": {}, "f:service": {"f:port": {}}}
    newer = {"engine": {"memoryFractionStatic": 0.5}, "service": {"port": 31000}}
    cluster = Cluster({"engine": {}}).write(newer, owner(both, _LATER), is_scaled=False)
    assert cluster.has_kept_pods
    assert "spec.engine.memoryFractionStatic" in cluster.message
    assert not cluster.write(newer, owner(both, _LATER), rollout="now").has_kept_pods


_PROBE = {"periodSeconds": 10}
NULLS = [
    pytest.param(pod(hostAliases=None), pod(hostAliases=[]), of_pod("hostAliases"), id="a list"),
    pytest.param(pod(dnsConfig=None), pod(dnsConfig={}), of_pod("dnsConfig"), id="an object"),
    pytest.param(pod(dnsConfig=None), pod(dnsConfig={"options": []}), of_pod("dnsConfig"), id="more in an object"),
    pytest.param(pod(hostAliases=None), pod(), of_pod("hostAliases"), id="nothing"),
    pytest.param(container(livenessProbe=None), container(livenessProbe=_PROBE), _CONTAINERS, id="in an item"),
    pytest.param(container(a={"b": None}), container(a={"b": 1}), _CONTAINERS, id="deeper in an item"),
    pytest.param(container(a={"b": None}), container(a={}), _CONTAINERS, id="an object is left empty"),
]


@pytest.mark.parametrize(("recorded", "newer", "fields"), NULLS)
def test_a_default_in_place_of_a_null_replaces_no_pod(recorded: Manifest, newer: Manifest, fields: Manifest) -> None:
    assert Cluster(recorded).write(newer, owner(fields)).has_kept_pods


def test_a_removed_field_stays_removed_when_another_change_replaces_the_pods() -> None:
    fields = owner(_CONTAINERS), owner({"f:engine": {"f:contextLength": {}}}, _LATER)
    request: Manifest = {"engine": {"contextLength": 4096}}
    cluster = Cluster(container(livenessProbe=None)).write(container(livenessProbe=_PROBE), *fields, **request)
    assert not cluster.has_kept_pods
    assert "livenessProbe" not in cluster.container


def test_a_value_that_an_owner_wrote_in_place_of_a_null_counts_as_requested() -> None:
    for recorded, newer, fields in (
        (pod(hostAliases=None), pod(hostAliases=[{"ip": "1.1.1.1"}]), of_pod("hostAliases")),
        (container(livenessProbe=None), container(livenessProbe=_PROBE), _CONTAINERS),
    ):
        cluster = Cluster(recorded).write(newer, owner(fields, _LATER), is_scaled=False)
        assert not cluster.has_kept_pods


def test_a_null_that_lost_its_owner_is_dropped_without_taking_the_default() -> None:
    recorded = pod(terminationGracePeriodSeconds=None)
    cluster = Cluster(recorded).write(pod(terminationGracePeriodSeconds=1), owner({"f:replicas": {}}, _LATER))
    assert not cluster.has_kept_pods
    assert cluster.applied["template"]["spec"]["terminationGracePeriodSeconds"] > 1


_TOKEN = {"name": "hf", "key": "token"}
REQUESTS = [
    pytest.param({}, {"model": {"tokenSecretRef": _TOKEN}}, {"f:model": {"f:tokenSecretRef": {}}}, id="a typed field"),
    pytest.param({}, pod(nodeSelector={"pool": "gold"}), of_pod("nodeSelector"), id="a free field"),
    pytest.param(
        pod(nodeSelector={"pool": "gold"}), pod(nodeSelector={"pool": "gold", "zone": "a"}), of_pod("nodeSelector"),
        id="one more key",
    ),
    pytest.param(
        pod(nodeSelector={"pool": "gold"}), pod(nodeSelector={"pool": "silver"}), of_pod("nodeSelector"),
        id="another value",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("recorded", "newer", "fields"), REQUESTS)
def test_a_users_change_within_an_object_that_became_atomic_takes_effect(
    recorded: Manifest, newer: Manifest, fields: Manifest
) -> None:
    assert not Cluster(recorded).write(newer, owner(fields, _LATER), is_scaled=False).has_kept_pods


def test_the_owner_of_a_whole_object_owns_its_fields_unless_the_set_lists_some() -> None:
    spec = {"a": {"b": {"c": 1}}}
    assert ownership.remaining_path({"f:a": {}}, ("a", "b", "c"), spec) == ("b", "c")
    assert ownership.remaining_path({"f:a": {".": {}}}, ("a", "b", "c"), spec) is None
    assert ownership.remaining_path({"f:a": {"f:d": {}}}, ("a", "b", "c"), spec) is None
    assert ownership.remaining_path({"f:a": {"f:b": {"f:c": {}}}}, ("a", "b", "c"), spec) == ()
    assert ownership.remaining_path({}, ("a", "b", "c"), spec) is None


@pytest.mark.parametrize("other", [{}, {"a": None}, {"a": {}}, {"a": {"b": None}}, {"a": {"b": {}}}], ids=str)
def test_a_field_and_its_parents_are_restored_from_another_object(other: Manifest) -> None:
    assert stored.as_in({"a": {"b": {"c": 1}}, "d": 2}, ("a", "b", "c"), other) == {**other, "d": 2}


def test_an_item_of_a_list_stays_where_it_is() -> None:
    value: Manifest = {"a": [{"b": 1}, {"b": 2}]}
    others: list[Manifest] = [{}, {"a": None}, {"a": [{}]}, {"a": [{}, {}]}]
    for other in others:
        assert stored.as_in(value, ("a", 1, "b"), other) == {"a": [{"b": 1}, {}]}
    assert stored.as_in(value, ("a", 2, "b"), {"a": [{}, {}, {"b": None}]}) == value


_PORT: Manifest = {"service": {"port": 31000}}


def test_the_next_operator_knows_which_fields_were_unrequested() -> None:
    cluster = Cluster(container(tty=False))
    seen = container(tty=False, imagePullPolicy="Always")
    assert cluster.write(seen, owner(_CONTAINERS)).has_kept_pods
    cluster.start()
    assert cluster.write(seen, owner(_CONTAINERS, _LATER), is_scaled=False, **_PORT).has_kept_pods
    cluster.start()
    another = container(tty=False, imagePullPolicy="Never")
    assert not cluster.write(another, owner(_CONTAINERS, _LATER), is_scaled=False).has_kept_pods


def test_left_out_fields_are_recorded_once_and_forgotten_when_they_are_gone() -> None:
    cluster = Cluster(container(tty=False))
    cluster.write(container(tty=False), owner(_CONTAINERS))
    assert "ControllerRevision/kimi-1" not in cluster.world.written
    for _ in range(3):
        cluster.write(container(tty=False, imagePullPolicy="Always"), owner(_CONTAINERS))
        cluster.start()
    assert cluster.world.written.count("ControllerRevision/kimi-1") == 1
    cluster.write(container(tty=False), owner(_CONTAINERS, _LATER))
    assert cluster.world.written.count("ControllerRevision/kimi-1") == 2
    cluster.start()
    request = container(tty=False, imagePullPolicy="Always")
    assert not cluster.write(request, owner(_CONTAINERS, _LATER), is_scaled=False).has_kept_pods


def _revision(text: str) -> revision.Revision:
    server = KimiLinearServer.model_validate(make_server())
    manifest = build_revision(server, choose(server, History()).current)
    manifest["metadata"]["annotations"] = {LEFT_OUT_ANNOTATION: text}
    found = revision.read(manifest)
    assert found
    return found


@pytest.mark.parametrize("text", ["{", "1", "[1]", "[[1, 2]]", '[["a"]]', "[[[], 1]]", "[" * 40_000, "[[[{}], 1]]"])
def test_a_forged_annotation_about_left_out_fields_is_ignored(text: str) -> None:
    assert _revision(text).left_out == {}


def test_left_out_fields_are_read_as_written_and_too_many_are_not_written() -> None:
    server = KimiLinearServer.model_validate(make_server())
    current = replace(choose(server, History()).current, left_out={("a", 0, "b"): {"c": 1}, ("d",): None})
    assert revision.read(build_revision(server, current)) == current
    thousands: dict[FieldPath, Any] = {("a", number): 1 for number in range(1100)}
    long: dict[FieldPath, Any] = {("a",): "x" * 40_000}
    for many in (thousands, long):
        manifest = build_revision(server, replace(current, left_out=many))
        assert LEFT_OUT_ANNOTATION not in manifest["metadata"].get("annotations", {})
    assert kind_of(manifest) == REVISION
