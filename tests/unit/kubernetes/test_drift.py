"""Drift: fields that the cluster adds do not count; missing and changed fields do."""

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_linear_operator.kubernetes.drift import all_differences, differences, has_drifted, with_digests
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.manifests import build
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server
from processor_time import cost

SPEC: Manifest = {
    "tensorParallelism": 2,
    "model": {"tokenSecretRef": {"name": "hf"}},
    "service": {"headless": True, "annotations": {"a": "b"}},
    "security": {"hostIPC": True},
    "podTemplate": {
        "metadata": {"annotations": {"team": "search"}},
        "spec": {
            "tolerations": [{"key": "amd.com/gpu", "operator": "Exists"}],
            "containers": [
                {"name": "sglang", "resources": {"limits": {"memory": "64Gi"}}},
                {"name": "sidecar", "image": "sidecar:1", "ports": [{"containerPort": 9000}]},
            ],
        },
    },
}
SERVICE, HEADLESS, DEPLOYMENT = build(KimiLinearServer.model_validate(make_server(**SPEC)))
WANTED = st.sampled_from([SERVICE, HEADLESS, DEPLOYMENT])

Path = tuple[str | int, ...]


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the paths of all values in an object."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def leaves(manifest: Manifest) -> list[Path]:
    return [path for path in paths(manifest) if path and not isinstance(at(manifest, path), dict | list)]


def objects(manifest: Manifest) -> list[Path]:
    return [path for path in paths(manifest) if isinstance(at(manifest, path), dict)]


# Lists to which other managers may add items, because Kubernetes merges them by a key.
SHARED = ("containers", "env", "ports", "volumeMounts", "volumes", "ownerReferences")


@given(st.data())
def test_fields_and_items_that_others_add_are_no_drift(data: st.DataObject) -> None:
    wanted = data.draw(WANTED)
    live = copy.deepcopy(wanted)
    for path in data.draw(st.lists(st.sampled_from(objects(wanted)), max_size=8)):
        at(live, path)[data.draw(st.sampled_from(["status", "defaulted", "f:foreign"]))] = data.draw(
            st.sampled_from(["text", 0, False, None, [], {}, {"nested": [1]}])
        )
    shared = [path for path in paths(wanted) if path and path[-1] in SHARED and isinstance(at(wanted, path), list)]
    # Inner values come first, because an insertion moves later items.
    for path in sorted(data.draw(st.lists(st.sampled_from(shared), max_size=4)), key=len, reverse=True):
        at(live, path).insert(0, {"name": "injected", "containerPort": 1, "mountPath": "/injected", "uid": "other"})
    assert not has_drifted(live, wanted)


OTHER = {str: "changed by hand", bool: None, int: 4711}


@given(st.data())
def test_every_changed_value_is_found(data: st.DataObject) -> None:
    wanted = data.draw(WANTED)
    path = data.draw(st.sampled_from(leaves(wanted)))
    live = copy.deepcopy(wanted)
    before = at(wanted, path)
    at(live, path[:-1])[path[-1]] = not before if isinstance(before, bool) else OTHER[type(before)]
    assert has_drifted(live, wanted)


@given(st.data())
def test_every_missing_value_is_found(data: st.DataObject) -> None:
    wanted = data.draw(WANTED)
    path = data.draw(st.sampled_from([path for path in paths(wanted) if path]))
    live = copy.deepcopy(wanted)
    del at(live, path[:-1])[path[-1]]
    assert has_drifted(live, wanted)


def limits(quantity: object) -> Manifest:
    return {"resources": {"limits": {"memory": quantity}}}


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        (limits("1Gi"), limits("1024Mi")),
        (limits("4"), limits(4)),
        (limits("100m"), limits("0.1")),
        (limits("1"), limits("1000m")),
        (limits("1k"), limits("1000")),
        (limits("1500M"), limits("1.5G")),
        (limits("1e3"), limits("1k")),
        (limits("2E"), limits("2000P")),
        ({"emptyDir": {"sizeLimit": "16Gi"}}, {"emptyDir": {"sizeLimit": "16384Mi"}}),
        ({"env": [{"name": "a"}]}, {"env": [{"name": "a", "value": ""}]}),
        ({"containers": [{"name": "a"}]}, {"containers": [{"name": "a", "args": []}]}),
        ({"from": [{"podSelector": {}}]}, {"from": [{"podSelector": {"matchLabels": {}, "matchExpressions": []}}]}),
        ({"ipBlock": {"cidr": "192.0.2.0/24"}}, {"ipBlock": {"cidr": "192.0.2.0/24", "except": []}}),
        ({"spec": {}}, {"spec": {"hostIPC": False, "hostNetwork": False}}),
        ({"volumeMounts": [{"mountPath": "/a"}]}, {"volumeMounts": [{"mountPath": "/a", "readOnly": False}]}),
        ({"env": [{"name": "b"}, {"name": "a"}]}, {"env": [{"name": "a"}, {"name": "b"}]}),
        (
            {"ports": [{"containerPort": 1, "protocol": "TCP"}, {"containerPort": 1, "protocol": "UDP", "name": "x"}]},
            {"ports": [{"containerPort": 1, "protocol": "TCP"}]},
        ),
        (
            {"topologySpreadConstraints": [{"topologyKey": "a", "maxSkew": 1}, {"topologyKey": "a", "maxSkew": 2}]},
            {"topologySpreadConstraints": [{"topologyKey": "a", "maxSkew": 2}, {"topologyKey": "a", "maxSkew": 1}]},
        ),
    ],
    ids=str,
)
def test_another_spelling_by_the_api_server_is_no_drift(live: Manifest, wanted: Manifest) -> None:
    assert not has_drifted(live, wanted)


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        (limits("1Gi"), limits("1G")),
        (limits("1"), limits("1m")),
        (limits("1Mi"), limits("one")),
        ({"args": ["a", "b"]}, {"args": ["b", "a"]}),
        ({"args": ["a", "b"]}, {"args": ["a"]}),
        ({"value": "1Gi"}, {"value": "1024Mi"}),
        ({}, {"automountServiceAccountToken": False}),
        ({}, {"replicas": 0}),
        ({"containers": []}, {"containers": [{"name": "a"}]}),
        # If two variables have the same name, the kubelet uses the last one.
        ({"env": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]}, {"env": [{"name": "a", "value": "1"}]}),
        ({"ports": [{"port": 1}]}, {"ports": [{"port": 2}]}),
        ({"spec": []}, {"spec": {"a": 1}}),
        ({"spec": "a"}, {"spec": ["a"]}),
        ({"tolerations": [{"key": "a"}, {"key": "foreign"}]}, {"tolerations": [{"key": "a"}]}),
        # A NetworkPolicy with one more open port.
        (
            {"spec": {"ingress": [{"ports": [{"port": 1}, {"port": 22}]}]}},
            {"spec": {"ingress": [{"ports": [{"port": 1}]}]}},
        ),
        (
            {"spec": {"egress": [{"ports": [{"port": 1}, {"port": 22}]}]}},
            {"spec": {"egress": [{"ports": [{"port": 1}]}]}},
        ),
    ],
    ids=str,
)
def test_a_different_value_is_drift(live: Manifest, wanted: Manifest) -> None:
    assert has_drifted(live, wanted)


def test_a_difference_is_named_as_kubectl_writes_it() -> None:
    live = {"spec": {"replicas": 1, "containers": [{"name": "a", "args": ["x"], "env": [{"name": "B", "value": "1"}]}]}}
    wanted = {
        "spec": {
            "replicas": 2,
            "containers": [{"name": "a", "args": ["y"], "env": [{"name": "B", "value": "2"}, {"name": "C"}]}],
            "hostIPC": True,
        }
    }
    assert list(differences(live, wanted)) == [
        "spec.replicas",
        "spec.containers[a].args[0]",
        "spec.containers[a].env[B].value",
        "spec.containers[a].env[C]",
        "spec.hostIPC",
    ]


def test_the_fingerprint_reveals_a_field_that_is_no_longer_wanted() -> None:
    _, before = build(KimiLinearServer.model_validate(make_server(security={"hostIPC": True})))
    _, after = build(KimiLinearServer.model_validate(make_server()))
    assert has_drifted(before, after)


def config_map(**data: str) -> Manifest:
    return {"kind": "ConfigMap", "metadata": {"name": "a"}, "data": data, "binaryData": {"b": "AA=="}}


def test_a_config_map_is_compared_by_the_digests_of_its_contents() -> None:
    wanted = config_map(a="1")
    kept = with_digests(config_map(a="1", theirs="2"))
    assert "1" not in str(kept["data"]["a"].keys())
    assert kept == with_digests(kept)
    assert not has_drifted(kept, wanted)
    assert not has_drifted(config_map(a="1", theirs="2"), wanted)
    for edited in (config_map(a="2"), config_map(), {**config_map(a="1"), "binaryData": {"b": "AQ=="}}):
        assert has_drifted(with_digests(edited), wanted)
        assert has_drifted(edited, wanted)


def test_only_config_maps_have_digests() -> None:
    secret = {"kind": "Secret", "data": {"a": "1"}}
    assert with_digests(secret) == secret


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        ({"hostAliases": [{"ip": "::"}]}, {"hostAliases": [{"ip": "::"}, "x"]}),
        ({"hostAliases": [{"ip": "::"}]}, {"hostAliases": [{"ip": {}}]}),
        ({"topologySpreadConstraints": [{"topologyKey": "zone"}]}, {"topologySpreadConstraints": [{}, ["x"]]}),
    ],
    ids=str,
)
def test_items_of_a_wrong_shape_are_drift_and_no_error(live: Manifest, wanted: Manifest) -> None:
    assert has_drifted(live, wanted)
    assert not has_drifted(wanted, wanted)


MANY = [{"ip": f"10.0.{number // 256}.{number % 256}"} for number in range(6000)]
ALIKE = [{"ip": "10.0.0.1", "hostnames": [f"h{number}"]} for number in range(3000)]
VARIABLES = [{"name": f"E{number}"} for number in range(128)]


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        ({"hostAliases": MANY}, {"hostAliases": MANY}),
        ({"hostAliases": ALIKE}, {"hostAliases": ALIKE}),
        ({"env": [{"name": "added"}] * 100_000 + VARIABLES}, {"env": VARIABLES}),
    ],
    ids=["many", "many of one key", "many of others"],
)
def test_the_longest_storable_lists_are_compared_by_key(live: Manifest, wanted: Manifest) -> None:
    """Comparing every item with every other would take minutes."""
    assert not has_drifted(live, wanted)
    assert cost(lambda: has_drifted(live, wanted)) < 50


@pytest.mark.parametrize(
    "quantity", ["1e999999999", "-1e999999999Gi", "1e-999999999", "1e99999999999999999999", "sNaN", "NaN"]
)
def test_an_absurdly_large_quantity_is_compared_as_text(quantity: str) -> None:
    assert has_drifted(limits("1Gi"), limits(quantity))


def _nested(widths: Sequence[int], value: int) -> Any:
    """Return lists of variables without a name in each other, so all items of a list have the same key."""
    if not widths:
        return {"value": value}
    return {"env": [_nested(widths[1:], value) for _ in range(widths[0])]}


@pytest.mark.parametrize("widths", [(2, 32, 24), (8, 8, 8, 3), (2,) * 10, (40, 40), (1500,)], ids=str)
def test_lists_of_alike_items_in_each_other_are_compared_in_little_time(widths: Sequence[int]) -> None:
    """Each item could be compared with each other item, and so could the items in them. That would take seconds."""
    lists, others = _nested(widths, 0), _nested(widths, 1)
    assert all_differences(lists, others)
    assert not all_differences(lists, lists)
    for wanted in (lists, others):
        assert cost(partial(all_differences, lists, wanted), tries=3) < 10


def test_alike_items_of_a_container_match_in_any_order() -> None:
    variables = [{"name": "A", "value": str(number)} for number in range(20)]
    live, wanted = ({"containers": [{"name": "sglang", "env": env}]} for env in (variables, variables[::-1]))
    assert not has_drifted(live, wanted)
    assert has_drifted(live, {"containers": [{"name": "sglang", "env": [*variables[:-1], variables[0]]}]})
