"""Users can create thousands of Jobs and pods with any labels. What a benchmark reads of them takes little memory."""

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, cast

import pytest

from kimi_linear_operator import jsontext
from kimi_linear_operator.benchmark import target
from kimi_linear_operator.benchmark.admission import Admission
from kimi_linear_operator.benchmark.live_pods import read_pods
from kimi_linear_operator.benchmark.server_state import read_state
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.pages import Page, Pages
from kimi_linear_operator.cluster.transport import Transport
from kimi_linear_operator.kubernetes.kinds import JOB, POD, Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from make import make_benchmark, make_server, stored
from passes import has_read_all, new_cache

OBJECTS, PAGE = 300, 10
MOST_BYTES = 4 * 2**20
# Python stores a text with a rare character with four bytes for each character.
LONG = "x" * 250 + "\U0001f600"
OWNER = {"apiVersion": "batch/v1", "kind": "Job", "name": LONG, "uid": "job", "controller": True}


def crowded(kind: Kind, number: int) -> Manifest:
    """Return an object of which a look keeps as much as possible: it has not ended, and belongs to everybody."""
    metadata = {
        "name": f"pod-{number}",
        "namespace": "default",
        "uid": f"{number:036}",
        "annotations": {f"kimi-linear.io/{index:02}": LONG for index in range(32)},
        "ownerReferences": [OWNER, *({**OWNER, "uid": f"{LONG}{index}", "controller": False} for index in range(3))],
    }
    state = {"terminated": {"exitCode": 1, "message": LONG * 16}}
    containers = [{"name": "client", "restartCount": 1, "state": state}]
    text = jsontext.encode({"metadata": metadata, "spec": {"note": LONG * 50}})
    # Each object has its own texts, as in an answer of the API server.
    return {"kind": kind.kind, **jsontext.decode(text), "status": {"containerStatuses": containers}}


class Crowded(Pages):
    """An API server with very many objects with the labels that are asked for."""

    async def of(self, kind: Kind, namespace: str | None, selector: str) -> AsyncGenerator[Page, None]:
        for first in range(0, OBJECTS, PAGE):
            yield Page([crowded(kind, number) for number in range(first, first + PAGE)], 1)


class Reading(Cluster):
    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return stored(make_server()) if kind.kind == "KimiLinearServer" else None


CLUSTER = Reading(cast(Transport, None), Crowded(cast(Transport, None)))
MEASURING = KimiLinearBenchmark.model_validate(make_benchmark())


async def look() -> object:
    cache, key = new_cache(), Key("default", "of-host", BENCHMARK)
    manifest = make_benchmark(key.name, endpoint={"url": "http://host.example"})
    manifest["metadata"] |= {"namespace": key.namespace, "resourceVersion": "2"}
    cache.put(BENCHMARK, manifest)
    aim = target.of_endpoint(KimiLinearBenchmark.model_validate(manifest))
    wait = await Admission(CLUSTER, cache, has_read_all).wait(key, aim, "2026-11-24T09:00:00Z")
    assert wait
    assert "still runs" in wait.reason.message
    return wait


async def pods_of_a_suite() -> object:
    job: Any = {"kind": JOB.kind, "metadata": {"name": "a", "namespace": "default", "uid": "job"}}
    found = await read_pods(CLUSTER, MEASURING, MEASURING.spec.suites[0], job)
    assert found
    return found


async def state_of_a_server() -> object:
    return await read_state(CLUSTER, MEASURING)


@pytest.mark.parametrize("read", [look, pods_of_a_suite, state_of_a_server])
def test_what_a_benchmark_reads_of_thousands_of_objects_takes_little_memory(
    read: Callable[[], Awaitable[object]],
) -> None:
    async def measured() -> int:
        # Imports and caches of the first read do not count.
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        kept = await read()
        assert kept
        return tracemalloc.get_traced_memory()[1] - before

    assert crowded(POD, 1)
    tracemalloc.start()
    try:
        assert asyncio.run(measured()) < MOST_BYTES
    finally:
        tracemalloc.stop()
