"""The plan: what to do, given the live and the wanted objects."""

import copy

import pytest

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import ADOPT_ANNOTATION, FINGERPRINT_ANNOTATION, MANAGER
from kimi_linear_operator.kubernetes.plan import Apply, Blocked, Create, Delete, Relation, plan, relation_of
from kimi_linear_operator.server.manifests import build
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server, stored

OWNER = KimiLinearServer.model_validate(make_server())
SERVICE, DEPLOYMENT = build(OWNER)


def live(manifest: Manifest, **metadata: object) -> Manifest:
    """Return a child as the API server stores it."""
    kept = copy.deepcopy(manifest)
    return stored({**kept, "metadata": {**kept["metadata"], **metadata}})


def labels(**more: str) -> dict[str, str]:
    return {**SERVICE["metadata"]["labels"], **more}


def test_an_object_that_is_as_wanted_needs_nothing() -> None:
    assert plan(OWNER, [SERVICE, DEPLOYMENT], [live(SERVICE), live(DEPLOYMENT)]) == []


def test_each_child_has_its_own_step() -> None:
    edited = live(DEPLOYMENT)
    edited["spec"]["replicas"] = 5
    left = live(SERVICE, name="kimi-headless")
    assert plan(OWNER, [SERVICE, DEPLOYMENT], [edited, left]) == [
        Create(SERVICE),
        Apply(edited, DEPLOYMENT, ("spec.replicas",)),
        Delete(left),
    ]


def test_the_plan_waits_for_an_object_that_is_being_deleted() -> None:
    going = {"deletionTimestamp": "2026-11-24T10:00:00Z"}
    edited = live(DEPLOYMENT, **going)
    edited["spec"]["replicas"] = 5
    assert plan(OWNER, [DEPLOYMENT], [edited, live(SERVICE, **going)]) == []


def test_a_child_with_two_managers_of_ours_is_applied() -> None:
    twice = live(SERVICE, managedFields=[{"manager": MANAGER, "operation": "Update"}])
    assert plan(OWNER, [SERVICE], [twice]) == [Apply(twice, SERVICE, ("metadata.managedFields",))]


def test_a_repair_is_distinguished_from_a_change_of_the_spec() -> None:
    (other,) = [child for child in build(_changed()) if child["kind"] == "Service"]
    edited = live(SERVICE)
    edited["spec"]["type"] = "NodePort"
    [repair], [change] = plan(OWNER, [SERVICE], [edited]), plan(OWNER, [other], [live(SERVICE)])
    assert isinstance(repair, Apply)
    assert isinstance(change, Apply)
    assert (repair.is_repair, change.is_repair) == (True, False)


def _changed() -> KimiLinearServer:
    return KimiLinearServer.model_validate(make_server(service={"port": 80}))


FORMER = [{**SERVICE["metadata"]["ownerReferences"][0], "uid": "former"}]
OTHERS = [{**SERVICE["metadata"]["ownerReferences"][0], "name": "other", "uid": "other"}]
FOREIGN = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x", "controller": True}]


@pytest.mark.parametrize(
    ("metadata", "relation"),
    [
        ({}, Relation.OWNED),
        ({"ownerReferences": FORMER}, Relation.LEFT_OVER),
        ({"ownerReferences": FOREIGN}, Relation.FOREIGN),
        ({"ownerReferences": FOREIGN, "annotations": {ADOPT_ANNOTATION: "true"}}, Relation.OFFERED),
        ({"ownerReferences": []}, Relation.ORPHANED),
        ({"ownerReferences": [], "annotations": {}}, Relation.FOREIGN),
        ({"ownerReferences": [], "labels": labels(**{"kimi-linear.io/server": "other"})}, Relation.FOREIGN),
        ({"ownerReferences": [], "labels": {}}, Relation.FOREIGN),
        ({"ownerReferences": [], "annotations": {FINGERPRINT_ANNOTATION: "of-another-version"}}, Relation.ORPHANED),
    ],
    ids=str,
)
def test_the_relation_of_an_object_to_its_owner_is_recognised(metadata: Manifest, relation: Relation) -> None:
    assert relation_of(live(SERVICE, **metadata), OWNER) == relation


@pytest.mark.parametrize(
    ("owners", "is_passing", "words"),
    [
        (FORMER, True, "is still being removed"),
        (FOREIGN, False, "kubectl annotate service kimi kimi-linear.io/adopt"),
        (OTHERS, False, "Service kimi belongs to KimiLinearServer other: rename this server, or delete"),
    ],
    ids=["of a former server", "of somebody else", "of another server"],
)
def test_a_name_that_is_taken_is_reported_and_the_object_left_alone(
    owners: list[Manifest], is_passing: bool, words: str
) -> None:
    [step] = plan(OWNER, [SERVICE], [live(SERVICE, ownerReferences=owners)])
    assert isinstance(step, Blocked)
    assert (step.is_passing, words in step.message) == (is_passing, True)
