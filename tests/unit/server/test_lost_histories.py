"""Whichever records of pod templates are lost or unreadable, only a request of the owner replaces pods.

The records are those of the replicas (ControllerRevisions) and that of the router (an annotation).
"""

import copy
import itertools
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Kind, Manifest, kind_of
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Options
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.dispatch import make_pass, reconcilers
from kimi_linear_operator.server import deployment, revision, router
from kimi_linear_operator.server.labels import TEMPLATE_ANNOTATION
from kimi_linear_operator.server.spec import SERVER
from operated import KEY
from passes import make_context
from refusing import RefusingCluster
from unit.server import test_changed_defaults as owners
from unit.server.test_replaced_marks import verify

_HISTORIES, _STEPS = 8, 14
_OWNED: Manifest = {"f:tensorParallelism": {}, "f:router": {}, "f:engine": {"f:contextLength": {}}}
_LONG_AGO = "2026-11-20T08:00:00Z"
_LENGTHS = (4096, 8192, 16384)
_VERIFIED: Manifest = {"verification": {"mode": "Block", "onFailure": "Rollback"}}
_COUNTERS = ("replicas", "updatedReplicas", "availableReplicas")
_ROUTER = KEY._replace(name="kimi-router").of(DEPLOYMENT)


@dataclass
class StoringCluster(RefusingCluster):
    """A cluster that shows what it has stored, and refuses a second object of a name."""

    deleted: list[Manifest] = field(default_factory=list)

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        stored = await super().apply(kind, manifest)
        self.live[f"{kind.kind}/{stored['metadata']['name']}"] = stored
        return stored

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        name = f"{kind.kind}/{manifest['metadata']['name']}"
        if name in self.live:
            return self.live[name]
        return await self.apply(kind, manifest)

    async def delete(self, kind: Kind, manifest: Manifest, **_: bool) -> None:
        self.live.pop(f"{kind.kind}/{manifest['metadata']['name']}", None)
        self.deleted.append(manifest)


class History(owners.World):
    """A server, its owner, an autoscaler, two versions of the operator, and somebody who edits and deletes records."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.random, self.monkeypatch = random.Random(seed), monkeypatch  # noqa: S311 - no secret
        self.build = deployment._pod_spec
        self.length, self.replicas, self.rollout, self.owned, self.is_lost = 4096, 1, "", _OWNED, False
        self.more = self.random.choice([{}, _VERIFIED])
        self.deleted = list[Manifest]()
        super().__init__(StoringCluster({}, deleted=self.deleted), itertools.count(1))
        self.owner_writes()

    def start(self) -> None:
        """Let an operator of one of the two versions take over."""
        grace, cpu = self.random.choice([(77, "2"), (78, "3")])
        build, other = self.build, {"terminationGracePeriodSeconds": grace}
        self.monkeypatch.setattr(deployment, "_pod_spec", lambda *args: {**build(*args), **other})
        self.monkeypatch.setattr(router, "_REQUESTS", {"cpu": cpu, "memory": "512Mi"})
        options = Options(rollout_pause=300.0)
        self.context = make_context(self.cluster, self.cache, options=options, now=lambda: "2026-11-29T23:00:00Z")
        self.operator = self  # type: ignore[assignment]
        self.reconcilers = reconcilers(TYPES, self.context)

    async def reconcile(self, key: Key) -> None:
        """Make a pass, and let the watches show what it has deleted and reported. Sometimes, a write fails."""
        with suppress(ApiError):
            await make_pass(self.reconcilers, key, 0)
        for child in self.deleted:
            self.cache.take(self.cache.reader.read(kind_of(child), child, is_deleted=True))
        self.deleted.clear()
        found = self.cluster.live["KimiLinearServer/kimi"]
        about = {**found["metadata"], "resourceVersion": str(int(found["metadata"]["resourceVersion"]) + 1)}
        shown = {**found, "metadata": about, "status": self.cluster.status}
        self.cluster.live["KimiLinearServer/kimi"] = shown
        self.cache.put(SERVER, shown)

    def owner_writes(self, **how: Any) -> None:
        engine, about = {"contextLength": self.length}, {"replicas": self.replicas, "router": {}, **self.more}
        self.write(self.owned, engine=engine, rollout=self.rollout, **about, **how)

    @property
    def templates(self) -> list[Manifest]:
        found = [self.cache.get(key) for key in (KEY.of(DEPLOYMENT), _ROUTER)]
        return [item["spec"]["template"] for item in found if item]

    @property
    def newest(self) -> int:
        """Return the highest number of a readable record."""
        return max(item.number for item in revision.read_all(self.cache.children(REVISION, KEY)))

    def edit(self, kind: Kind, found: Manifest) -> None:
        """Store an edited object."""
        self.cluster.written.append("an edit")
        found["metadata"]["resourceVersion"] = str(len(self.cluster.written) + 10)
        self.cluster.live[f"{kind.kind}/{found['metadata']['name']}"] = found
        self.cache.put(kind, found)

    def report(self) -> None:
        """Let the Deployment controller report that all pods serve."""
        conditions = [
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "lastUpdateTime": _LONG_AGO},
            {"type": "Available", "status": "True", "lastTransitionTime": _LONG_AGO},
        ]
        for key in (KEY.of(DEPLOYMENT), _ROUTER):
            if found := copy.deepcopy(self.cache.get(key)):
                counters = dict.fromkeys(_COUNTERS, found["spec"]["replicas"])
                found["status"] = {"observedGeneration": 1, **counters, "conditions": conditions}
                self.edit(DEPLOYMENT, found)

    # What happens. Each event says whether the pods may change, and whether they must.

    def owner_changes_the_spec(self) -> tuple[bool, bool]:
        self.length = self.random.choice([length for length in _LENGTHS if length != self.length])
        self.replicas = self.random.choice([self.replicas, 3])
        self.owned = {**_OWNED, "f:replicas": {}}
        self.owner_writes()
        return True, True

    def owner_asks_for_the_newest(self) -> tuple[bool, bool]:
        self.rollout += "x"
        self.generation -= 1
        self.owner_writes()
        return True, False

    def owner_changes_the_service(self) -> tuple[bool, bool]:
        """If the records are lost, the operator cannot know that no pod depends on the change."""
        self.more = {**self.more, "service": {"port": self.random.choice([31000, 32000])}}
        self.owner_writes()
        return self.is_lost, False

    def autoscaler_scales(self) -> tuple[bool, bool]:
        self.replicas = self.random.choice([count for count in (1, 2, 3) if count != self.replicas])
        self.owner_writes(is_scale=True)
        return False, False

    def nothing_happens(self) -> tuple[bool, bool]:
        self.owner_writes(is_same=True)
        return False, False

    def pods_serve(self) -> tuple[bool, bool]:
        self.report()
        self.owner_writes(is_same=True)
        return False, False

    def it_is_the_servers_turn(self) -> tuple[bool, bool]:
        self.report()
        self.owner_writes(is_same=True)
        self.context.about_to_change.add(KEY)
        self.owner_writes(is_same=True)
        return True, False

    def answers_are_wrong(self) -> tuple[bool, bool]:
        """The server gets a template after a verified one, and the answers with the new one are wrong."""
        self.nothing_happens()
        verify(self, self.number)
        self.random.choice([self.owner_changes_the_spec, self.it_is_the_servers_turn])()
        verify(self, self.newest, has_passed=False)
        self.nothing_happens()
        return True, False

    def another_version_starts(self) -> tuple[bool, bool]:
        self.start()
        self.owner_writes(is_same=True)
        return False, False

    def a_write_fails(self) -> tuple[bool, bool]:
        """A write fails for a while, and the operator is killed meanwhile."""
        record = f"ControllerRevision/kimi-{self.number}"
        name = self.random.choice(["Deployment/kimi", "Deployment/kimi-router", record])
        self.cluster.refused[name] = ApiError(500, "try again")
        self.owner_writes(is_same=True)
        self.cluster.refused.clear()
        return self.another_version_starts()

    def lose_records(self) -> None:
        """Delete some records, and make others unreadable."""
        for record in self.cache.children(REVISION, KEY):
            name, fate = record["metadata"]["name"], self.random.random()
            if fate < 0.4:
                self.cache.take(self.cache.reader.read(REVISION, record, is_deleted=True))
                self.cluster.live.pop(f"ControllerRevision/{name}", None)
            elif fate < 0.7:
                self.edit(REVISION, {**copy.deepcopy(record), "data": {"from": "another version"}})
        found = copy.deepcopy(self.cache.get(_ROUTER))
        if found and self.random.random() < 0.2:
            found["metadata"]["annotations"][TEMPLATE_ANNOTATION] = "{}"
            self.edit(DEPLOYMENT, found)

    def go_on(self) -> None:
        """Let something happen, perhaps after records were lost."""
        self.is_lost = self.random.random() < 0.5
        if self.is_lost:
            self.lose_records()
        event: Callable[[], tuple[bool, bool]] = self.random.choice(_EVENTS).__get__(self)
        before = self.templates
        may_change, must_change = event()
        told = f"{event.__name__}{' after records were lost' if self.is_lost else ''}"
        assert may_change or self.templates == before, told
        assert not must_change or f"'{self.length}'" in str(self.templates[0]), told


_EVENTS = (
    History.owner_changes_the_spec,
    History.owner_asks_for_the_newest,
    History.owner_changes_the_service,
    History.autoscaler_scales,
    History.pods_serve,
    History.it_is_the_servers_turn,
    History.answers_are_wrong,
    History.another_version_starts,
    History.another_version_starts,
    History.a_write_fails,
)


@pytest.mark.parametrize("seed", range(_HISTORIES))
def test_only_a_request_replaces_pods_whichever_records_are_lost(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(seed, monkeypatch)
    for _ in range(_STEPS):
        history.go_on()
