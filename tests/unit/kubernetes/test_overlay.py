"""The overlay is a strategic merge, as in `kubectl patch`."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.overlay import merge

ENGINE = {
    "name": "sglang",
    "image": "sglang:1",
    "args": ["a", "b"],
    "env": [{"name": "HF_HOME", "value": "/cache"}, {"name": "LOG", "value": "info"}],
    "resources": {"limits": {"amd.com/gpu": "4"}},
}
POD: Manifest = {"containers": [ENGINE], "volumes": [{"name": "cache", "emptyDir": {}}, {"name": "dshm"}]}


def engine(**changes: object) -> Manifest:
    return {"containers": [{**ENGINE, **changes}], "volumes": POD["volumes"]}


@pytest.mark.parametrize(
    ("patch", "merged"),
    [
        ({}, POD),
        ({"priorityClassName": "high"}, POD | {"priorityClassName": "high"}),
        (
            {"containers": [{"name": "sglang", "resources": {"limits": {"memory": "1Gi"}}}]},
            engine(resources={"limits": {"amd.com/gpu": "4", "memory": "1Gi"}}),
        ),
        ({"containers": [{"name": "sidecar"}]}, POD | {"containers": [ENGINE, {"name": "sidecar"}]}),
        ({"containers": [{"name": "sglang", "args": ["c"]}]}, engine(args=["c"])),
        (
            {"containers": [{"name": "sglang", "env": [{"name": "LOG", "value": "debug"}, {"name": "NEW"}]}]},
            engine(env=[ENGINE["env"][0], {"name": "LOG", "value": "debug"}, {"name": "NEW"}]),  # type: ignore[index]
        ),
        (
            {"containers": [{"name": "sglang", "env": [{"name": "HF_HOME", "valueFrom": {"fieldRef": {}}}]}]},
            engine(env=[{"name": "HF_HOME", "valueFrom": {"fieldRef": {}}}, {"name": "LOG", "value": "info"}]),
        ),
        (
            {"volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "c"}}]},
            POD | {"volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "dshm"}]},
        ),
        ({"tolerations": [{"operator": "Exists"}]}, POD | {"tolerations": [{"operator": "Exists"}]}),
    ],
    ids=[
        "nothing",
        "a new field",
        "an object is merged",
        "a new item",
        "a list without a key is replaced",
        "items are merged by name, in their order",
        "another source of a value replaces the old one",
        "another source of a volume replaces the old one",
        "a list that was not there",
    ],
)
def test_a_patch_changes_the_same_as_in_kubectl(patch: Manifest, merged: Manifest) -> None:
    assert merge(POD, patch) == merged


PROBE = {"httpGet": {"path": "/health", "port": 1}, "periodSeconds": 10}


@pytest.mark.parametrize(
    ("base", "patch", "merged"),
    [
        ({"livenessProbe": PROBE, "name": "a"}, {"livenessProbe": None}, {"name": "a"}),
        ({"name": "a"}, {"livenessProbe": None}, {"name": "a"}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({}, {"a": {"b": None, "c": [{"d": None}]}}, {"a": {"c": [{}]}}),
        (
            {"livenessProbe": PROBE},
            {"livenessProbe": {"exec": {"command": ["true"]}}},
            {"livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 10}},
        ),
        (
            {"livenessProbe": PROBE},
            {"livenessProbe": {"httpGet": {"path": "/ready"}}},
            {"livenessProbe": {"httpGet": {"path": "/ready", "port": 1}, "periodSeconds": 10}},
        ),
        (
            {"livenessProbe": PROBE},
            {"livenessProbe": {"periodSeconds": 5}},
            {"livenessProbe": {**PROBE, "periodSeconds": 5}},
        ),
        (
            {"lifecycle": {"preStop": {"sleep": {"seconds": 15}}}},
            {"lifecycle": {"preStop": {"exec": {"command": ["true"]}}}},
            {"lifecycle": {"preStop": {"exec": {"command": ["true"]}}}},
        ),
        (
            {"ports": [{"containerPort": 1, "protocol": "TCP"}]},
            {"ports": [{"containerPort": 1, "protocol": "UDP"}, {"containerPort": 1, "name": "x"}]},
            {
                "ports": [
                    {"containerPort": 1, "protocol": "TCP", "name": "x"},
                    {"containerPort": 1, "protocol": "UDP"},
                ]
            },
        ),
        ({"hostAliases": [{"ip": "::"}]}, {"hostAliases": ["x", {}]}, {"hostAliases": [{"ip": "::"}, "x", {}]}),
    ],
    ids=[
        "null removes",
        "null has nothing to remove",
        "null within an object",
        "null in what is new",
        "another handler",
        "the same handler",
        "no handler",
        "another hook",
        "TCP and UDP",
        "items without a key",
    ],
)
def test_a_patch_can_remove_and_replace(base: Manifest, patch: Manifest, merged: Manifest) -> None:
    assert merge(base, patch) == merged


def test_a_list_without_a_merge_key_is_replaced_and_not_appended_to() -> None:
    base = {"tolerations": [{"key": "a"}], "topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1}]}
    patch = {"tolerations": [{"key": "b"}], "topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 2}]}
    assert merge(base, patch) == patch


VALUES = st.recursive(
    st.sampled_from(["a", 1, True, None]),
    lambda inner: st.dictionaries(st.sampled_from(["x", "y", "spec"]), inner, max_size=3),
    max_leaves=6,
)
ITEMS = st.lists(st.fixed_dictionaries({"name": st.sampled_from("abc")}, optional={"x": VALUES}), max_size=3)
OBJECTS = st.dictionaries(st.sampled_from(["x", "spec"]), VALUES, max_size=2).flatmap(
    lambda fields: st.fixed_dictionaries({"containers": ITEMS, "env": ITEMS}).map(lambda lists: fields | lists)
)


@given(OBJECTS, OBJECTS)
def test_a_merge_leaves_its_arguments_unchanged(base: Manifest, patch: Manifest) -> None:
    before = copy.deepcopy((base, patch))
    merge(base, patch)
    assert (base, patch) == before


@given(OBJECTS, OBJECTS)
def test_merging_twice_changes_nothing_more(base: Manifest, patch: Manifest) -> None:
    once = merge(base, patch)
    assert json.dumps(merge(once, patch)) == json.dumps(once)
