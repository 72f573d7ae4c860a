"""A pass takes little processor time for any contents of an object's spec, managed fields and status.

An input within its bounds can still cost much if work is done for each of its parts.
"""

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_result, make_server
from passes import Passes, new_cache
from processor_time import cost
from unit.server.test_many_unowned_fields import Cluster

# A pass over the largest spec costs about 4, and the first pass over the largest status about 15. The Lease is renewed
# every few seconds. With the bugs for which these tests were written, a pass cost 260.
MOST_COST = 80

APPARMOR = "container.apparmor.security.beta.kubernetes.io"
SPECS: dict[str, Manifest] = {
    "refused annotations": {"metadata": {"annotations": {f"{APPARMOR}/c{n}": "unconfined" for n in range(97)}}},
    "labels": {"metadata": {"labels": {f"label-{n}": "x" for n in range(2300)}}},
    "refused labels": {"metadata": {"labels": {f"label {n}": "x" for n in range(97)}}},
    "deep objects": {"spec": {"newer": {f"a{n}": {"b": {"c": {"d": {"e": {"f": 1}}}}} for n in range(300)}}},
    "variables": {"spec": {"containers": [{"name": "sglang", "env": [{"name": f"E{n}"} for n in range(800)]}]}},
    "nulls": {"spec": {"newer": {f"field-{n}": None for n in range(2300)}}},
}
REFUSED = {
    "": {},
    "refused": {"tensorParallelism": 3},
    "unreadable": {"engine": {"attentionBackend": ["x"] * 1000}},
}


def named(fields: Any) -> list[Manifest]:
    return [{"manager": "me", "operation": "Update", "time": "2026-11-01T00:00:00Z", "fieldsV1": {"f:spec": fields}}]


MANAGED: dict[str, list[Manifest]] = {
    "nobody": [],
    "one field": named({"f:model": {}}),
    "many fields": named({f"f:x{n}": {f"f:y{m}": {} for m in range(10)} for n in range(2000)}),
    "many managers": [{**named({"f:podTemplate": {}})[0], "manager": f"m{n}"} for n in range(5000)],
}


def cost_of(passes: Passes, key: Key) -> float:
    return cost(lambda: asyncio.run(passes.reconcile(key)))


@pytest.mark.parametrize("managed", MANAGED.values(), ids=MANAGED)
@pytest.mark.parametrize("template", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_a_pass_takes_little_time_whatever_is_in_an_object(
    refused: Manifest, template: Manifest, managed: list[Manifest]
) -> None:
    cluster, cache = Cluster(managed), new_cache()
    passes, key = Passes(cluster, cache), Key("default", "kimi", SERVER)
    cache.put(SERVER, cluster.store(make_server(suspend=True)))
    asyncio.run(passes.reconcile(key))
    changed = copy.deepcopy(cache.get(key))
    assert changed
    changed["spec"] |= {"podTemplate": template, **refused}
    cache.put(SERVER, cluster.store(changed, generation=2))
    for _ in range(2):
        assert cost_of(passes, key) < MOST_COST


def results_of(change: Callable[[int], Manifest]) -> Manifest:
    return {"results": [make_result("speed-low", name=f"s{number}", **change(number)) for number in range(16)]}


FINDING = {"rule": "Threshold", "metric": "m", "value": 1.5, "limit": 2.5, "passed": True, "message": "m" * 100}
STATUSES: dict[str, Manifest] = {
    "findings": results_of(lambda _: {"findings": [FINDING] * 256}),
    "unreadable findings": results_of(lambda _: {"findings": [{"rule": 1}] * 2000}),
    "numbers": results_of(lambda _: {"metrics": {f"m{n}": 1.5 for n in range(64)}}),
    "texts": results_of(lambda _: {"message": "x\n" * 20_000}),
    "environment": {"environment": {"server": "x" * 900_000, "newer": [[]] * 50_000}},
    "lists": {"results": [[]] * 100_000},
}


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("status", STATUSES.values(), ids=STATUSES)
def test_a_pass_takes_little_time_whatever_is_in_a_status(status: Manifest, complete: bool) -> None:
    condition = {"type": "Complete", "status": str(complete), "reason": "SuitesEnded", "message": ""}
    given = {**status, "startTime": "2026-11-24T01:00:00Z", "completionTime": "2026-11-24T02:00:00Z"}
    load = {"numPrompts": 1, "maxConcurrency": 1}
    suites = [{"name": f"s{number}", "speed": load} for number in range(16)]
    benchmark = {**make_benchmark(suites=suites), "status": {**given, "conditions": [condition]}}
    cluster, cache = Cluster([]), new_cache()
    passes, key = Passes(cluster, cache), Key("default", "nightly", BENCHMARK)
    cache.put(BENCHMARK, cluster.store(benchmark))
    for _ in range(2):
        assert cost_of(passes, key) < MOST_COST
