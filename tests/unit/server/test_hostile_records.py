"""A pass takes little processor time whatever somebody writes into the records of a server's pod templates."""

import asyncio
import copy
import gc
import json
import time
from typing import Any

import pytest

from kimi_linear_operator.kubernetes import stored as fields
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Manifest
from kimi_linear_operator.kubernetes.metadata import ADOPT_ANNOTATION
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.server.labels import TEMPLATE_ANNOTATION
from kimi_linear_operator.server.spec import SERVER
from make import MANAGED_LABELS, make_server, stored
from passes import Passes, new_cache
from unit.server.test_many_unowned_fields import KIMI, Cluster

# Seconds of processor time. A usual pass takes about 5 ms. With the bugs for which these tests were written, a pass
# took seconds, or all memory.
MOST_SECONDS = 0.2

TEMPLATE = {"metadata": {}, "spec": {"automountServiceAccountToken": False, "containers": []}}
LIST = {"env": [{"a": 1}]}
DATA: dict[str, Manifest] = {
    "negative indexes": {"inputs": LIST, "defaulted": [["env", -1, "a"]] * 1000},
    "a negative index beyond the list": {"inputs": LIST, "defaulted": [["env", -5, "a"]]},
    "an index at the end": {"inputs": LIST, "defaulted": [["env", 0]]},
    "the same index": {"inputs": LIST, "defaulted": [["env", 0, "a"]] * 1024},
    "booleans": {"inputs": LIST, "defaulted": [["env", True, "a"], ["env", False, "a"]]},
    "long paths": {"inputs": LIST, "defaulted": [["env"] * 5000]},
    "wide inputs": {"inputs": {f"k{n}": 0 for n in range(40_000)}, "defaulted": [[f"k{n}"] for n in range(1024)]},
}


def record(number: int, data: Manifest, annotations: dict[str, str]) -> Manifest:
    """Return a record of the server that somebody else has written."""
    about = {
        "name": f"x{number}",
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


def seconds_of(passes: Passes) -> float:
    """Return the processor time of a pass."""
    gc.collect()  # The garbage of other tests must not count for this pass.
    begin = time.thread_time()
    asyncio.run(passes.reconcile(KIMI))
    return time.thread_time() - begin


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_a_pass_takes_little_time_whatever_is_in_a_record(data: Manifest) -> None:
    passes, cache, cluster = settled(suspend=True)
    fake = record(9, data, {})
    cluster.objects["ControllerRevision", "x9"] = fake
    cache.put(REVISION, fake)
    for _ in range(2):
        assert seconds_of(passes) < MOST_SECONDS


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_a_pass_takes_little_time_whatever_is_in_the_record_of_a_router(data: Manifest) -> None:
    passes, cache, cluster = settled(router={})
    router = copy.deepcopy(cluster.objects["Deployment", "kimi-router"])
    annotations = router["metadata"]["annotations"]
    text = json.dumps({**json.loads(annotations[TEMPLATE_ANNOTATION]), "uid": "", **data}, separators=(",", ":"))
    annotations[TEMPLATE_ANNOTATION] = text
    cache.put(DEPLOYMENT, cluster.store(router))
    assert seconds_of(passes) < MOST_SECONDS


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
