"""A pass takes little processor time whatever somebody writes into the records of a server's pod templates."""

import asyncio
import copy
import json
from typing import Any

import pytest

from kimi_linear_operator.kubernetes import stored as fields
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, POD, REVISION, Manifest
from kimi_linear_operator.kubernetes.metadata import ADOPT_ANNOTATION
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.server import revision
from kimi_linear_operator.server.labels import (
    AUTOMATIC_ANNOTATION,
    LEFT_OUT_ANNOTATION,
    SEEN_ANNOTATION,
    TEMPLATE_ANNOTATION,
    TEMPLATE_LABEL,
    UNOWNED_ANNOTATION,
    VERIFICATION_ANNOTATION,
)
from kimi_linear_operator.server.spec import SERVER
from make import MANAGED_LABELS, make_pod, make_server, stored
from passes import Passes, new_cache
from processor_time import cost
from unit.server.test_many_unowned_fields import KIMI, Cluster

# A pass costs at most 3. With the bugs for which these tests were written, it cost more than 70, or took all memory.
MOST_COST = 20

TEMPLATE = {"metadata": {}, "spec": {"automountServiceAccountToken": False, "containers": []}}
LIST = {"env": [{"a": 1}]}
DATA: dict[str, Manifest] = {
    "negative indexes": {"inputs": LIST, "defaulted": [["env", -1, "a"]] * 1000},
    "a negative index beyond the list": {"inputs": LIST, "defaulted": [["env", -5, "a"]]},
    "an index at the end": {"inputs": LIST, "defaulted": [["env", 0]]},
    "the same index": {"inputs": LIST, "defaulted": [["env", 0, "a"]] * 1024},
    "booleans": {"inputs": LIST, "defaulted": [["env", True, "a"], ["env", False, "a"]]},
    "long paths": {"inputs": LIST, "defaulted": [["env"] * 5000]},
    "many inputs": {"inputs": {f"k{n}": 0 for n in range(4000)}, "defaulted": [[f"k{n}"] for n in range(1024)]},
    "many nulls": {"inputs": {"podTemplate": {"spec": {"x": {f"k{n}": None for n in range(50_000)}}}}},
    "some nulls": {"inputs": {"podTemplate": {"spec": {"x": {f"k{n}": None for n in range(4_900)}}}}},
    "wide inputs": {"inputs": {f"k{n}": 0 for n in range(40_000)}, "defaulted": [[f"k{n}"] for n in range(1024)]},
}

MOST = 32_768
NUMBERS = ",".join(f'"{n:x}":0' for n in range(3200))
PATHS = [["podTemplate", "spec", f"a{n}"] for n in range(1000)]
TEXTS = {
    "lists": f"[{','.join(['[]'] * 10_900)}]",
    "objects": f"[{','.join(['{}'] * 10_900)}]",
    "pairs": f"{{{NUMBERS}}}",
    "numbers": f"[{','.join('1' * 16_000)}]",
    "deep lists": f'["{"x" * 31_000}",{"[" * 500}{"]" * 500}]',
    "deep objects": '{"a":' * 5000 + "1" + "}" * 5000,
    "no JSON": "[" + "x" * (MOST - 1),
    "half a list": "[" * (MOST - 1) + "1",
    "surrogates": '["' + r"\ud800" * 5000 + '"]',
    "quotes": '["' + r"\"" * 16_000 + '"]',
    "one string": '"' + "x" * (MOST - 2) + '"',
    "a long number": "1" * MOST,
    "paths": json.dumps(PATHS, separators=(",", ":")),
    "values": json.dumps([[path, {"a": []}] for path in PATHS[:700]], separators=(",", ":")),
    "long paths": json.dumps([["a"] * 5000], separators=(",", ":")),
    "negative indexes": json.dumps([["env", -1, "a"]] * 1000, separators=(",", ":")),
}
NAMES = (SEEN_ANNOTATION, LEFT_OUT_ANNOTATION, UNOWNED_ANNOTATION)


def record(number: int, data: Manifest, annotations: dict[str, str], name: str = "") -> Manifest:
    """Return a record of the server that somebody else has written."""
    about = {
        "name": name or f"x{number}",
        "labels": {**MANAGED_LABELS, "kimi-linear.io/server": "kimi"},
        "annotations": {ADOPT_ANNOTATION: "true", **annotations},
    }
    known = {"inputs": {}, "template": TEMPLATE, "rollout": "", "uid": "", "generation": 0}
    of = {"apiVersion": "apps/v1", "kind": "ControllerRevision"}
    return stored({**of, "metadata": about, "data": {**known, **data}, "revision": number})


def settled(**spec: Any) -> tuple[Passes, Cache, Cluster]:
    """Return a server for which the operator has written everything."""
    cluster, cache = Cluster(), new_cache()
    passes = Passes(cluster, cache)
    cache.put(SERVER, cluster.store(make_server(**spec)))
    for _ in range(2):
        asyncio.run(passes.reconcile(KIMI))
    return passes, cache, cluster


def cost_of(passes: Passes) -> float:
    return cost(lambda: asyncio.run(passes.reconcile(KIMI)))


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_a_pass_takes_little_time_whatever_is_in_a_record(data: Manifest) -> None:
    passes, cache, cluster = settled(suspend=True)
    fake = record(9, data, {})
    cluster.objects["ControllerRevision", "x9"] = fake
    cache.put(REVISION, fake)
    for _ in range(2):
        assert cost_of(passes) < MOST_COST


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_pass_takes_little_time_whatever_is_in_the_annotations_of_64_records(text: str) -> None:
    """Half of the records have the number of the running template, and one of them is to be verified."""
    assert len(text) <= MOST
    passes, cache, cluster = settled(verification={"mode": "Block"})
    annotations = {**dict.fromkeys(NAMES, text), AUTOMATIC_ANNOTATION: "true", VERIFICATION_ANNOTATION: text[:4096]}
    fakes = [record(1 if n < 32 else n, {}, annotations, f"x{n}") for n in range(64)]
    for fake in fakes:
        cluster.objects["ControllerRevision", fake["metadata"]["name"]] = fake
        cache.put(REVISION, fake)
    for pod in (make_pod("kimi-a"), make_pod("kimi-b")):
        pod["metadata"]["labels"][TEMPLATE_LABEL] = "x"
        cache.put(POD, pod)
    for _ in range(2):
        assert cost_of(passes) < MOST_COST


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_a_pass_takes_little_time_whatever_is_in_the_record_of_a_router(data: Manifest) -> None:
    passes, cache, cluster = settled(router={})
    router = copy.deepcopy(cluster.objects["Deployment", "kimi-router"])
    annotations = router["metadata"]["annotations"]
    text = json.dumps({**json.loads(annotations[TEMPLATE_ANNOTATION]), "uid": "", **data}, separators=(",", ":"))
    annotations[TEMPLATE_ANNOTATION] = text
    cache.put(DEPLOYMENT, cluster.store(router))
    assert cost_of(passes) < MOST_COST


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_pass_takes_little_time_whatever_is_in_the_annotation_of_a_router(text: str) -> None:
    passes, cache, cluster = settled(router={})
    router = copy.deepcopy(cluster.objects["Deployment", "kimi-router"])
    known = router["metadata"]["annotations"][TEMPLATE_ANNOTATION]
    for longer in (f'{{"a":{text},"b":{text}}}', f'{known[:-1]},"a":{text}}}'):
        router["metadata"]["annotations"][TEMPLATE_ANNOTATION] = longer[:65_536]
        cache.put(DEPLOYMENT, cluster.store(router))
        assert cost_of(passes) < MOST_COST


def test_a_pass_reads_each_record_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice, the end of a rollout and the gates all need the records."""
    passes, cache, _ = settled(verification={"mode": "Block"})
    read, original = list[int](), revision.of_data

    def counting(data: Any, number: int) -> Any:
        read.append(number)
        return original(data, number)

    monkeypatch.setattr(revision, "of_data", counting)
    pod = make_pod("kimi-a")
    pod["metadata"]["labels"][TEMPLATE_LABEL] = "x"
    cache.put(POD, pod)
    asyncio.run(passes.reconcile(KIMI))
    assert read == [1]


def test_the_annotations_of_the_running_record_are_read_whatever_others_contain() -> None:
    heavy = dict.fromkeys(NAMES, TEXTS["paths"])
    unowned = json.dumps([["model", "variant"]])
    running = record(3, {}, {UNOWNED_ANNOTATION: unowned})
    records = revision.newest([*(record(n, {}, heavy) for n in range(4, 30)), running], deployed=3)
    found = revision.read_all(records)
    assert len(found) == len(records)
    assert next(item for item in found if item.number == 3).unowned == (("model", "variant"),)


VALUE: Manifest = {"a": {"b": 1, "c": {}}, "d": [{"e": 1, "f": 2}, {"e": 3}], "g": [[1]]}


@pytest.mark.parametrize(
    ("paths", "left"),
    [
        ([("a", "b")], {**VALUE, "a": {"c": {}}}),
        ([("a", "b"), ("a",), ("a", "c")], {"d": VALUE["d"], "g": VALUE["g"]}),
        ([("d", 0, "e"), ("d", 1, "e")], {**VALUE, "d": [{"f": 2}, {}]}),
        ([("d", 0), ("g", 0, 0), ("d", -1, "e"), ("d", True, "e"), ("d", 2, "e"), ("x",), ("a", "b", "c")], VALUE),
    ],
    ids=["a field", "a field and the object around it", "fields of items", "items and what is not there"],
)
def test_fields_are_removed_all_at_once(paths: list[FieldPath], left: Manifest) -> None:
    assert fields.without_all(VALUE, paths) == left
