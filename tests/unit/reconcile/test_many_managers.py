"""A user can give an object thousands of field managers. The operator reads only a few of them, and remembers fewer."""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import pytest

from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes import ownership
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, Kind, Manifest
from kimi_linear_operator.kubernetes.ownership import MOST_STEPS, extract, owners_of, unified
from kimi_linear_operator.kubernetes.plan import Apply
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.children import Children
from kimi_linear_operator.reconcile.repairs import (
    LONGEST_FIELD,
    LONGEST_RIVAL,
    MOST_FIELDS,
    MOST_RIVALS,
    PEACE_SECONDS,
    QUICK_REPAIRS,
    Child,
)
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from make import make_deployment, make_server
from passes import new_cache, tell_nobody
from processor_time import cost

US = "kimi-linear-operator"
OWNER = KimiLinearServer.model_validate(make_server())
KIMI = Key("default", "kimi", SERVER)
CHILD = Child(KIMI, KIMI.of(DEPLOYMENT))
REPLICAS: Manifest = {"f:spec": {"f:replicas": {}}}


def managers(number: int, fields: Manifest = REPLICAS) -> list[Manifest]:
    return [{"manager": f"{index:04}" + "m" * 124, "operation": "Apply", "fieldsV1": fields} for index in range(number)]


class ManyManagers:
    """A cluster in which thousands of managers own the repaired field."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        return {"metadata": {"managedFields": managers(5000)}}

    async def delete(self, kind: Kind, manifest: Manifest, **_: bool) -> None:
        return


class Contested:
    """A Deployment that was repaired so often that the operator looks for a rival."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.children = Children(cast(Cluster, ManyManagers()), new_cache(), tell_nobody, lambda: self.now)
        self.live = make_deployment()
        for _ in range(QUICK_REPAIRS):
            asyncio.run(self.children._count(CHILD, Apply(self.live, self.live, ("spec.replicas",))))

    def kept(self) -> int:
        return len(self.children._repairs._records)


def test_only_a_few_of_many_rivals_are_named_and_their_names_are_cut() -> None:
    [told] = Contested().children.contested(OWNER, [make_deployment()])
    assert told.startswith(f"Deployment kimi: 0000{'m' * (LONGEST_RIVAL - 4)} and 0001")
    assert told.endswith(f" and {5000 - MOST_RIVALS} more keeps changing spec.replicas")
    assert len(told) < 400


def test_the_rivals_of_a_child_are_forgotten_with_the_child() -> None:
    contested = Contested()
    asyncio.run(contested.children._delete(OWNER, contested.live))
    assert contested.kept() == 0


def test_the_rivals_of_a_child_are_forgotten_when_the_dispute_is_over() -> None:
    contested = Contested()
    contested.now += PEACE_SECONDS + 1
    assert contested.children.contested(OWNER, [make_deployment("another")]) == []
    assert contested.kept() == 0


class Counted(dict[str, Any]):
    """A set of fields that counts the reads of entries, over all sets."""

    looks = 0

    def items(self) -> Any:
        for item in super().items():
            Counted.looks += 1
            yield item


def looks_for_an_owner(fields: Any, path: str, entries: int) -> int:
    Counted.looks = 0
    assert list(owners_of(managers(entries, fields), [path] * 100, US)) == []
    return Counted.looks


def test_the_search_for_an_owner_ends_however_many_entries_there_are() -> None:
    many = Counted({f"f:{number}": {} for number in range(1000)})
    assert 0 < looks_for_an_owner(many, "spec.replicas", 1000) < 2 * MOST_STEPS


def test_the_search_for_an_owner_ends_whatever_names_items_have() -> None:
    # Each name can be reached in two ways, so the number of paths doubles at every level.
    fields: Any = Counted({"f:gone": {}})
    for _ in range(60):
        fields = Counted({'k:{"a":"x","b":"x.x"}': fields})
    assert 0 < looks_for_an_owner(fields, ".".join("x" * 80), 1) < 2 * MOST_STEPS


def test_owners_found_before_the_search_ends_are_named() -> None:
    assert len(list(owners_of(managers(5000), ["spec.replicas"], US))) == 5000


def test_items_of_a_list_are_not_each_compared_with_every_name() -> None:
    variables = [{"name": f"E{number}", "value": "x"} for number in range(4000)]
    fields: Manifest = {f'k:{{"name":"E{number}"}}': {"f:value": {}} for number in range(4000)}
    decoded = _count_decoded(lambda: extract(variables, fields) == variables)
    assert decoded == 4000


def _count_decoded(work: Any) -> int:
    original, keys = ownership._decoded, []

    def counting(key: str, longest: int) -> Any:
        keys.append(key)
        return original(key, longest)

    vars(ownership)["_decoded"] = counting
    try:
        assert work()
    finally:
        vars(ownership)["_decoded"] = original
    return len(keys)


def test_each_entry_is_decoded_once_however_many_fields_have_changed() -> None:
    variables: Manifest = {f'k:{{"name":"E{number}"}}': {"f:value": {}} for number in range(1000)}
    fields: Manifest = {"f:env": variables}
    paths = [f"env[X{number}].value" for number in range(8)]
    assert _count_decoded(lambda: list(owners_of(managers(1, fields), paths, US)) == []) <= 1000
    spec: Manifest = {"env": [{"name": "E999", **{f"field{number}": 1 for number in range(2000)}}]}
    looked_up = [("env", 0, name) for name in spec["env"][0]]
    assert _count_decoded(lambda: {ownership.remaining_path(fields, path, spec) for path in looked_up} == {None}) <= 4


def fat(fields: int) -> str:
    return ",".join(f'"{number}":1' for number in range(fields))


DEEP = f'"d":{"[" * 210}{"]" * 210}'
KEYS = {
    "many key fields": [f'k:{{"name":{number},{fat(120)}}}' for number in range(1200)],
    "very many key fields": [f'k:{{"name":{number},{fat(520)}}}' for number in range(300)],
    "deep key fields": [f'k:{{"name":{number},{DEEP}}}' for number in range(2000)],
    "very deep key fields": [f'k:{{"name":{number},{",".join([DEEP] * 9)}}}' for number in range(300)],
    "half surrogates": ['k:{"name":"' + str(number) + "\\ud800" * 100 + '"}' for number in range(1500)],
    "the beginning of a name": [f'k:{{"name":"{"sglang" * 100}{number}"}}' for number in range(2000)],
}


@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
def test_an_owner_is_found_in_little_time_whatever_names_items_have(keys: list[str]) -> None:
    fields: Manifest = {"f:spec": {"f:containers": {key: {"f:env": {}} for key in keys}}}
    paths = [f"spec.containers[{'sglang' * 100}].env[E{number}].value" for number in range(50)]
    # When each path decoded all entries again, it took several seconds.
    assert cost(lambda: list(owners_of(managers(1, fields), paths, US)), tries=3) < 20


LARGE: dict[str, Any] = {"a long name": "x" * 100_000, "a list in place of a name": [1] * 2000, "a name": "x"}


def remaining_paths(fields: Manifest, spec: Manifest) -> list[object]:
    return [ownership.remaining_path(fields, ("list", 0, field), spec) for field in spec["list"][0]]


@pytest.mark.parametrize("name", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
def test_the_owners_of_an_items_fields_are_found_in_little_time(keys: list[str], name: Any) -> None:
    spec: Manifest = {"list": [{"name": name, **{f"field{number}": 1 for number in range(2300)}}]}
    for first in (['k:{"name":"y"}'], []):
        fields: Manifest = {"f:list": {key: {} for key in [*first, *keys]}}
        assert cost(partial(remaining_paths, fields, spec), tries=3) < 10


def test_an_unreadable_name_of_an_item_names_no_field() -> None:
    deep = "[" * 5000 + "]" * 5000
    fields: Manifest = {
        f"v:{deep}": {},
        f"k:{deep}": {},
        "k:{}": {},
        "v:{": {},
        f'k:{{"name":{deep}}}': {},
        'v:"y"': {},
    }
    assert extract(["x", "y", {"name": "z"}], fields) == ["y"]
    assert list(owners_of(managers(1, fields), ["spec.list[x]"], US)) == []


def test_thousands_of_patches_by_one_manager_are_united_in_one_step() -> None:
    looked: list[int] = []

    class Entry(dict[str, Any]):
        def __eq__(self, other: object) -> bool:
            looked.append(1)
            return super().__eq__(other)

        __hash__ = None

    entries = [Entry(manager=US, operation="Update", fieldsV1={"f:spec": {f"f:{number}": {}}}) for number in range(500)]
    found = unified(entries, US)
    assert found
    assert [len(entry["fieldsV1"]["f:spec"]) for entry in found] == [500]
    assert entries[0]["fieldsV1"] == {"f:spec": {"f:0": {}}}
    assert looked == []


def test_fields_that_were_cut_at_the_deepest_level_are_united() -> None:
    cut = {"manager": US, "operation": "Update", "fieldsV1": {"f:spec": None}}
    assert unified([cut], US) == [{**cut, "operation": "Apply", "fieldsV1": {"f:spec": {}}}]


def fields_of_a_child(contested: Contested) -> Iterator[str]:
    record = contested.children._repairs._find(CHILD)
    assert record
    return iter(record.fields)


def test_only_a_few_of_thousands_of_contested_fields_are_remembered() -> None:
    contested = Contested()
    for number in range(100):
        fields = tuple(f"spec.{number}.{index}.{'x' * 10_000}" for index in range(100))
        contested.children._repairs.record(CHILD, fields)
    kept = list(fields_of_a_child(contested))
    assert (len(kept), max(map(len, kept))) == (MOST_FIELDS, LONGEST_FIELD)
    last = [f"spec.99.{index}.{'x' * 10_000}" for index in range(100)]
    for _ in range(QUICK_REPAIRS):
        contested.children._repairs.record(CHILD, last)
    assert contested.children._repairs.wait_seconds(CHILD, last) > 0
