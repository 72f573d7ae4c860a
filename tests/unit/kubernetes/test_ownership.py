"""Managed fields: a program counts as one manager with all its verbs, and each field has its owners."""

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.ownership import extract, owners_of, unified

US = "kimi-linear-operator"


def entry(manager: str, operation: str, fields: Manifest, **more: str) -> Manifest:
    return {"manager": manager, "operation": operation, "fieldsV1": fields, **more}


APPLIED = entry(US, "Apply", {"f:spec": {"f:a": {}, "f:list": {'k:{"name":"x"}': {"f:name": {}}}}})
PATCHED = entry(US, "Update", {"f:spec": {"f:b": {}, "f:list": {'k:{"name":"x"}': {"f:value": {}}}}})
OTHER = entry("kubectl", "Update", {"f:spec": {"f:c": {}}})
STATUS = entry(US, "Update", {"f:status": {}}, subresource="status")


def test_fields_that_we_patched_count_as_applied() -> None:
    fields: Manifest = {"f:spec": {"f:a": {}, "f:list": {'k:{"name":"x"}': {"f:name": {}, "f:value": {}}}, "f:b": {}}}
    assert unified([APPLIED, OTHER, PATCHED, STATUS], US) == [OTHER, STATUS, entry(US, "Apply", fields)]


def test_an_object_that_we_only_patched_counts_as_applied() -> None:
    assert unified([PATCHED], US) == [{**PATCHED, "operation": "Apply"}]


def test_a_single_manager_of_ours_needs_no_change() -> None:
    assert unified([APPLIED, OTHER, STATUS], US) is None


def test_a_set_of_fields_names_a_part_of_an_object() -> None:
    live = {
        "replicas": 1,
        "defaulted": True,
        "atomic": {"a": 1},
        "empty": {"a": 1},
        "containers": [{"name": "a", "image": "i", "other": 1}, {"name": "b"}],
        "finalizers": ["x", "y"],
        "ports": [{"containerPort": 1, "protocol": "UDP"}, {"containerPort": 1, "protocol": "TCP", "name": "http"}],
    }
    fields: Manifest = {
        "f:replicas": {},
        "f:atomic": {},
        "f:empty": {".": {}},
        "f:gone": {},
        "f:containers": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:image": {}}},
        "f:finalizers": {".": {}, 'v:"y"': {}},
        "f:ports": {'k:{"containerPort":1,"protocol":"TCP"}': {".": {}, "f:name": {}}},
    }
    assert extract(live, fields) == {
        "replicas": 1,
        "atomic": {"a": 1},
        "empty": {},
        "containers": [{"name": "a", "image": "i"}],
        "finalizers": ["y"],
        "ports": [{"containerPort": 1, "protocol": "TCP", "name": "http"}],
    }


def test_the_owner_of_a_field_is_found_by_its_path() -> None:
    managed = [
        APPLIED,
        entry("scaler", "Update", {"f:spec": {"f:replicas": {}}}, subresource="scale"),
        entry("editor", "Update", {"f:spec": {"f:containers": {'k:{"name":"sglang"}': {"f:image": {}}}}}),
        entry("labeller", "Update", {"f:metadata": {"f:annotations": {"f:example.com/a.b": {}}}}),
        entry("controller", "Update", {"f:spec": {"f:replicas": {}}}, subresource="status"),
    ]
    assert list(owners_of(managed, ["spec.replicas"], US)) == ["scaler"]
    assert list(owners_of(managed, ["spec.containers[sglang].image"], US)) == ["editor"]
    assert list(owners_of(managed, ["metadata.annotations.example.com/a.b"], US)) == ["labeller"]
    assert list(owners_of(managed, ["spec.containers[sglang].args", "spec.rep"], US)) == []
