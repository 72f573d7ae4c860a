"""Whether what a benchmark measures is ready, and why not."""

from typing import Any, cast

import pytest

from kimi_linear_operator import rules
from kimi_linear_operator.api import Manifest
from kimi_linear_operator.cluster import Cluster
from kimi_linear_operator.reconcile.targets import Aim, Targets
from kimi_linear_operator.resources import SERVER
from kimi_linear_operator.store import Store
from make import make_benchmark, make_condition, make_server


def server(ready: str = "True", generation: int = 1, **spec: Any) -> Manifest:
    condition = {**make_condition("Ready", ready, "Whatever", ""), "observedGeneration": generation}
    return {**make_server(**spec), "status": {"conditions": [condition]}}


def aim(*servers: Manifest, **spec: Any) -> Aim:
    store = Store()
    for manifest in servers:
        store.put(SERVER, manifest)
    benchmark = rules.check(make_benchmark(**spec)).benchmark
    assert benchmark
    # Nothing is asked of the API server before a suite starts.
    return Targets(cast(Cluster, None), store).find(benchmark)


WITH_KEY: dict[str, Any] = {"engine": {"extraArgs": ["--api-key=$(KEY)"]}}


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        ((), "ServerMissing", "there is no KimiLinearServer kimi in namespace default"),
        ((server(ready="False"),), "ServerUnready", "server kimi is not ready: Whatever"),
        ((server(generation=0),), "ServerUnready", "the operator has not seen the latest change of server kimi yet"),
        ((make_server(),), "ServerUnready", "the operator has not seen the latest change of server kimi yet"),
        ((server(**WITH_KEY),), "ApiKeyUnknown", "give its variable a secretKeyRef"),
    ],
)
def test_a_server_that_can_not_be_measured_says_why(found: tuple[Manifest, ...], reason: str, words: str) -> None:
    seen = aim(*found)
    assert (seen.cause.reason, seen.is_ready, words in seen.cause.message) == (reason, False, True)


def test_a_ready_server_is_measured_at_its_service() -> None:
    seen = aim(server(service={"port": 80}))
    assert (seen.cause.reason, seen.is_ready) == ("ServerReady", True)
    assert seen.target
    assert (seen.target.url, seen.target.label) == ("http://kimi.default.svc:80", "kimi.default")


def test_an_endpoint_is_taken_for_ready() -> None:
    seen = aim(endpoint={"url": "http://far:1"})
    assert (seen.cause.reason, seen.is_ready) == ("EndpointGiven", True)
