"""A benchmark that waits for ever costs few passes."""

import asyncio
from typing import Any

import pytest

from kimi_linear_operator import clock
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import JOB, Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from make import make_benchmark, stored
from passes import Passes, new_cache

NOW = "2026-11-24T09:00:00Z"
KEY = Key("default", "waits", BENCHMARK)
ADDRESS = {"url": "http://kimi.example.org:1"}
HOUR = 3600.0


class World:
    """A benchmark, and an API server. The cache shows neither Jobs nor Events."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **status: Any) -> None:
        self.cache, self.seconds, self.jobs = new_cache(), 0.0, list[Manifest]()
        self.reads = 0
        monkeypatch.setattr(clock, "seconds", lambda: self.seconds)
        manifest = make_benchmark(KEY.name, endpoint=ADDRESS, suites=[{"name": "a", "accuracy": {}}])
        given = {"namespace": "default", "uid": "waits", "creationTimestamp": NOW, "resourceVersion": "2"}
        self.cache.put(BENCHMARK, stored({**manifest, "metadata": manifest["metadata"] | given, "status": status}))
        self.passes = Passes(self, self.cache, now=lambda: NOW)

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        self.reads += 1
        return add(summary, self.jobs if kind == JOB else [])

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        return {**manifest["metadata"], "resourceVersion": str(int(manifest["metadata"]["resourceVersion"]) + 1)}

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return manifest

    def hour(self) -> int:
        """Return how many passes an hour takes if nothing happens."""
        passes, end = 0, self.seconds + HOUR
        while self.seconds < end:
            again = asyncio.run(self.passes.reconcile(KEY))
            assert again
            self.seconds += again
            passes += 1
        return passes


@pytest.mark.parametrize("since", [NOW, "2099-01-01T00:00:00Z"], ids=["new", "forged"])
def test_a_client_that_never_ends_is_looked_at_less_and_less_often(monkeypatch: pytest.MonkeyPatch, since: str) -> None:
    """Anybody can create a Job with the label of a target, and write any time into a status."""
    condition = {"type": "TargetReady", "status": "False", "reason": "WaitingForTurn", "lastTransitionTime": since}
    world = World(monkeypatch, conditions=[condition | {"message": ""}])
    world.jobs = [{"metadata": {"uid": "made-by-hand"}, "status": {}}]
    assert world.hour() < 40
    assert world.hour() <= 13
    assert world.reads < 2 * 53
