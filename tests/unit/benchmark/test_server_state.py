"""The state of a server is read in the same way before and after a suite."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from kimi_linear_operator.benchmark import target
from kimi_linear_operator.benchmark.server_state import read_state
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.benchmark.target_state import ServerState, changed_reason
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGED_BY, MANAGER
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.labels import SERVER_LABEL
from kimi_linear_operator.server.spec import SERVER
from make import ODD_STATUSES, make_benchmark, make_pod, make_server

LABELS = {MANAGED_BY: MANAGER, SERVER_LABEL: "kimi"}


@dataclass
class Objects:
    """A cluster with a server and some pods."""

    pods: list[Manifest] = field(default_factory=list)
    server: Manifest = field(default_factory=make_server)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.server if kind.kind == "KimiLinearServer" else None

    async def summarize(self, kind: Kind, namespace: str, selector: str, summary: Any, add: Any) -> Any:
        wanted = dict(part.split("=") for part in selector.split(",")).items()
        return add(summary, [pod for pod in self.pods if wanted <= pod["metadata"]["labels"].items()])

    def state(self) -> str:
        benchmark = KimiLinearBenchmark.model_validate(make_benchmark())
        return asyncio.run(read_state(cast(Cluster, self), benchmark)).snapshot


def pod(name: str, labels: dict[str, str], *, is_own: bool = True) -> Manifest:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "kimi-1", "uid": "1", "controller": True}
    made = make_pod(name)
    made["metadata"] |= {"labels": labels, "ownerReferences": [owner] if is_own else []}
    return made


def test_only_the_servers_own_pods_count() -> None:
    objects = Objects([pod("kimi-1", LABELS)])
    before = objects.state()
    assert target.changes(before, before) == []
    objects.pods.append(pod("gateway", {SERVER_LABEL: "kimi"}))
    objects.pods.append(pod("copy", LABELS, is_own=False))
    assert target.changes(before, objects.state()) == []
    objects.pods.append(pod("kimi-2", LABELS))
    assert target.changes(before, objects.state())


@pytest.mark.parametrize("status", ODD_STATUSES, ids=str)
def test_no_status_of_a_server_lets_a_suite_fail(status: Any) -> None:
    """The API server accepts any status if the definition of another version allows it."""
    live = {**make_server(), "status": status}
    benchmark = KimiLinearBenchmark.model_validate(make_benchmark())
    state = asyncio.run(read_state(cast(Cluster, Objects(server=live)), benchmark))
    assert target.changes(state.snapshot, state.snapshot) == []
    reason = changed_reason(Key("default", "kimi", SERVER), {}, state)
    assert reason
    assert reason.name == "ServerUnready"


def test_an_endpoint_has_no_state() -> None:
    benchmark = KimiLinearBenchmark.model_validate(
        make_benchmark(serverRef=None, endpoint={"url": "http://a", "model": "m"})
    )
    assert asyncio.run(read_state(cast(Cluster, Objects()), benchmark)) == ServerState("{}")
