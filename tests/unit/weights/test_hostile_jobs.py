"""A pass over weights takes little processor time, whatever is in the annotations of their Jobs."""

import asyncio
import json
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import JOB, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.weights.labels import INPUTS_ANNOTATION
from kimi_linear_operator.weights.spec import WEIGHTS
from make import make_weights, owned
from passes import Passes, new_cache
from processor_time import cost
from unit.server.test_many_unowned_fields import Cluster

KIMI = Key("default", "kimi", WEIGHTS)
# The first pass costs at most 4; with 64 of the first Jobs below, a pass cost 200.
MOST_COST = 30


def deep(value: Any, levels: int) -> Any:
    return deep({"a": value}, levels - 1) if levels else value


INPUTS: dict[str, Any] = {
    "lists": {"podTemplate": {"x": [[]] * 16_000}},
    "objects": {"podTemplate": {"x": [{}] * 16_000}},
    "numbers": {"podTemplate": {"x": [0] * 20_000}},
    "a few lists": {"podTemplate": {"x": [[]] * 1800}},
    "fields": {"podTemplate": {f"k{number}": 1 for number in range(4800)}},
    "deep fields": {"podTemplate": deep({f"k{number}": 1 for number in range(2400)}, 50)},
    "unknown fields": {f"k{number}": {} for number in range(2400)},
    "unreadable": {"source": [[[]]] * 800},
}


class WithEvents(Cluster):
    async def events_of(self, *_: object) -> list[Manifest]:
        return []


def make_job(number: int, uid: str, text: str, prefix: str = "kimi-fetch-", **about: object) -> Manifest:
    made = {"uid": f"j{number}", "resourceVersion": "9", "creationTimestamp": f"2026-12-{1 + number % 28:02}T00:00:00Z"}
    metadata = {"name": f"{prefix}{number}", "annotations": {INPUTS_ANNOTATION: text}, **made, **about}
    job = owned(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}}, "kimi", "KimiLinearWeights"
    )
    job["metadata"]["ownerReferences"][0]["uid"] = uid
    return job


class World:
    """Weights with their Job, and with the Jobs of somebody else."""

    def __init__(self) -> None:
        self.cluster, self.cache = WithEvents(), new_cache()
        self.passes = Passes(self.cluster, self.cache)
        self.weights = self.cluster.store(make_weights(volume={"size": "100Gi"}))
        self.cache.put(WEIGHTS, self.weights)
        self.pass_over()
        self.first = self.jobs

    def pass_over(self) -> float:
        return cost(lambda: asyncio.run(self.passes.reconcile(KIMI)))

    def add(self, count: int, inputs: Any, **about: Any) -> None:
        record = {"generation": 7, "fetch": "", "claim": "", "inputs": inputs}
        text = json.dumps(record, separators=(",", ":"))
        for number in range(count):
            self.cache.put(JOB, make_job(number, self.weights["metadata"]["uid"], text, **about))

    @property
    def jobs(self) -> list[str]:
        return [name for kind, name in self.cluster.objects if kind == "Job"]


@pytest.mark.parametrize("about", [{}, {"deletionTimestamp": "2026-12-01T00:00:00Z"}, {"prefix": "a"}], ids=str)
@pytest.mark.parametrize("inputs", INPUTS.values(), ids=INPUTS)
def test_a_pass_takes_little_time_whatever_the_records_of_jobs_contain(inputs: Any, about: Manifest) -> None:
    world = World()
    world.add(64, inputs, **about)
    for _ in range(2):
        assert world.pass_over() < MOST_COST


def test_the_job_stays_however_many_newer_jobs_there_are() -> None:
    world = World()
    world.add(64, {})
    world.pass_over()
    assert len(world.first) == 1
    assert world.jobs == world.first
