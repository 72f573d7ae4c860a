"""A stored status of any content is read without errors, and the next status replaces the unreadable parts."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_linear_operator.benchmark.spec import BENCHMARK, BenchmarkStatus
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.kubernetes.stored import readable_status
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.exposition import resource_lines
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.server.spec.status import ServerStatus
from kimi_linear_operator.weights.spec import WEIGHTS
from make import make_benchmark, make_condition, make_result, make_server, make_weights, stored
from passes import RESOURCES, Passes, new_cache

READY = make_condition("Ready", "True", "AllReplicasServe", "1 of 1 replicas serve")
MAKE = {SERVER: make_server, BENCHMARK: make_benchmark, WEIGHTS: make_weights}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
RIGHT = {
    "conditions": st.just([READY]),
    "observedGeneration": st.integers(),
    "results": st.just([make_result("speed-low"), make_result("gsm8k")]),
    "environment": st.just({"server": "kimi"}),
    "lastFailure": st.just(
        {"pod": "p", "container": "c", "reason": "R", "exitCode": 1, "message": "", "time": "2026-11-24T01:00:00Z"}
    ),
    "startTime": st.just("2026-11-24T02:00:00Z"),
    "verdict": st.just("Passed"),
    "url": st.just("http://kimi"),
    "claim": st.just("kimi"),
    "commit": st.just("0" * 40),
    "bytes": st.integers(),
}
STATUSES = st.fixed_dictionaries({}, optional={name: value | JSON for name, value in RIGHT.items()}) | JSON


def test_a_readable_status_is_left_unchanged() -> None:
    status = {"conditions": [READY], "unknown": {"of": "another version"}}
    assert readable_status(ServerStatus, status) is status


@pytest.mark.parametrize(
    ("status", "readable"),
    [
        (None, {}),
        ([], {}),
        ({"conditions": "none"}, {"conditions": []}),
        ({"conditions": [{"type": "Ready"}], "url": "u"}, {"conditions": [], "url": "u"}),
        ({"conditions": [READY, {"type": "Newer"}, 1]}, {"conditions": [READY]}),
        ({"conditions": [READY] * 40 + [1]}, {"conditions": []}),
        (
            {"results": [{"newer": 1}, 1], "environment": {"server": 1}},
            {"results": [{"newer": 1}], "environment": {"server": 1}},
        ),
        ({"environment": 1, "results": {}, "verdict": 1}, {"environment": {}, "results": [], "verdict": None}),
    ],
    ids=str,
)
def test_unreadable_parts_are_left_out_and_records_keep_their_objects(status: Any, readable: Manifest) -> None:
    assert readable_status(BenchmarkStatus, status) == readable


class ObligingCluster:
    """A cluster that accepts every write."""

    def __init__(self) -> None:
        self.statuses: list[Manifest] = []

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return MAKE[kind](name) if kind in MAKE else None

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        return summary

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self.apply(kind, manifest)

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        return stored({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "2"}})

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        self.statuses.append(status)
        version = str(int(manifest["metadata"]["resourceVersion"]) + 1)
        return {**manifest["metadata"], "resourceVersion": version}

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return manifest

    async def delete(self, kind: Kind, manifest: Manifest, *, children_first: bool = False) -> None:
        """Delete nothing."""


@given(st.sampled_from(RESOURCES), STATUSES)
def test_a_pass_over_a_resource_with_any_status_succeeds_and_writes_at_most_once(kind: Kind, status: Any) -> None:
    cache, cluster = new_cache(), ObligingCluster()
    cache.put(kind, MAKE[kind]("kimi") | {"status": status})
    reconciler = Passes(cluster, cache)
    for _ in range(3):
        asyncio.run(reconciler.reconcile(Key("default", "kimi", kind)))
    assert len(cluster.statuses) <= 1
    assert list(resource_lines(TYPES, cache.snapshot(), "2026-11-24T12:00:00Z"))
