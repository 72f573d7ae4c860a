"""A suite starts only on the server that the status of its benchmark describes. The watch of the server may be late."""

import asyncio
from collections.abc import Callable
from copy import deepcopy

import pytest

from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, JOB, Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_condition, make_server
from passes import Passes, new_cache
from refusing import running_objects
from unit.benchmark.test_turns_given_back import FIRST, Shown

KIMI = Key("default", "kimi", SERVER)


class LateCluster(Shown):
    """A cluster with a ready server and a benchmark of it. No watch shows the objects in `late`."""

    late: dict[Kind, Manifest | None]

    def __init__(self) -> None:
        super().__init__(new_cache())
        self.late = {}
        self.put(DEPLOYMENT, running_objects()[1])
        self.put(SERVER, ready(make_server()))
        self.put(BENCHMARK, make_benchmark("first", suites=[{"name": "speed-low"}]))
        self.operator = Passes(self, self.cache, now=lambda: self.now)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.late[kind] if kind in self.late else await super().get(kind, namespace, name)

    def change(self, kind: Kind, edit: Callable[[Manifest], object]) -> None:
        """Change the server or its Deployment, without a watch event."""
        changed = deepcopy(self.cache.get(KIMI.of(kind)) or {})
        edit(changed)
        self.late[kind] = changed

    def show(self) -> None:
        """Show everything in the watches."""
        for kind, manifest in self.late.items():
            if manifest:
                self.put(kind, manifest)
        self.late.clear()

    def pass_over(self) -> float | None:
        return asyncio.run(self.operator.reconcile(FIRST))

    @property
    def status(self) -> Manifest:
        return dict((self.cache.get(FIRST.of(BENCHMARK)) or {})["status"])

    @property
    def has_job(self) -> bool:
        return bool(self.cache.children(JOB, FIRST))


def ready(server: Manifest, status: str = "True") -> Manifest:
    """Return a server that is Ready with its generation."""
    generation = server["metadata"]["generation"]
    condition = {**make_condition("Ready", status, "AllReplicasServe", "m"), "observedGeneration": generation}
    return {**server, "status": {"observedGeneration": generation, "image": "i", "conditions": [condition]}}


def new_spec(server: Manifest) -> None:
    server["metadata"]["generation"] = 2


def new_spec_that_serves(server: Manifest) -> None:
    new_spec(server)
    server.update(ready(server))


def broken(server: Manifest) -> None:
    server.update(ready(server, "False"))


def other_pods(deployment: Manifest) -> None:
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "another"


@pytest.mark.parametrize(
    ("kind", "edit"),
    [(SERVER, new_spec), (SERVER, new_spec_that_serves), (SERVER, broken), (DEPLOYMENT, other_pods)],
    ids=["new spec", "new spec that serves", "broken", "other pods"],
)
def test_no_suite_starts_on_a_server_that_has_changed_before_a_watch_shows_it(
    kind: Kind, edit: Callable[[Manifest], object]
) -> None:
    cluster = LateCluster()
    cluster.change(kind, edit)
    assert cluster.pass_over() == 5
    assert not cluster.has_job
    assert find_condition(cluster.status, "TargetReady")["reason"] == "ServerUnready"
    assert "environment" not in cluster.status


def test_no_suite_starts_on_a_server_that_is_deleted() -> None:
    cluster = LateCluster()
    cluster.late[SERVER] = None
    assert cluster.pass_over() == 5
    assert not cluster.has_job
    assert find_condition(cluster.status, "TargetReady")["reason"] == "ServerMissing"


def test_the_suite_starts_when_a_watch_has_shown_the_change() -> None:
    cluster = LateCluster()
    cluster.change(SERVER, new_spec_that_serves)
    cluster.pass_over()
    cluster.show()
    cluster.pass_over()
    assert cluster.has_job
    assert cluster.status["environment"]["serverGeneration"] == 2
