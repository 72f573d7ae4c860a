"""A server with an operator that has applied its spec, and the reports of the Deployment controller."""

import asyncio
import copy
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Options
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.dispatch import reconcilers
from kimi_linear_operator.server import deployment
from kimi_linear_operator.server.labels import TEMPLATE_ANNOTATION
from kimi_linear_operator.server.spec import SERVER
from make import make_server
from passes import make_context, new_cache
from refusing import DefaultingCluster

KEY = Key("default", "kimi", SERVER)
ROUTER = Key("default", "kimi-router", DEPLOYMENT)
NOW = "2026-11-24T09:00:00Z"


class World:
    """A server with a router, and an operator that has applied its spec."""

    def __init__(self, **spec: Any) -> None:
        self.cluster, self.cache = DefaultingCluster({}), new_cache()
        self.spec: Manifest = {"router": {"policy": "LeastLoad"}, **spec}
        self.generation, self.version = 1, 100
        self.annotations: dict[str, str] = {}
        self.owned: Manifest = {"f:router": {"f:policy": {}}}
        self.pause: float | None = None
        self.new_operator()
        self.passes(2)

    def new_operator(self) -> None:
        options = Options(rollout_pause=self.pause)
        self.context = make_context(self.cluster, self.cache, options=options, now=lambda: NOW)
        self.reconciler = reconcilers(TYPES, self.context)[SERVER]

    def passes(self, number: int = 1, *, failures: int = 0) -> None:
        """Make passes over the server as it is now, after this many failures in a row."""
        for _ in range(number):
            self.version += 100
            manifest = make_server(**self.spec)
            about: Manifest = {"generation": self.generation, "resourceVersion": str(self.version)}
            manifest["metadata"] |= {**about, "annotations": self.annotations}
            manifest["status"] = self.cluster.status
            owner = {"manager": "me", "time": "2026-11-29T05:00:00Z", "fieldsV1": {"f:spec": self.owned}}
            live = {**manifest, "metadata": {**manifest["metadata"], "managedFields": [owner]}}
            self.cluster.live["KimiLinearServer/kimi"] = live
            self.cache.put(SERVER, live)
            self.retry = asyncio.run(self.reconciler.reconcile(KEY, failures))

    def last_retry(self) -> float | None:
        """Make a pass; return the seconds until the next one."""
        self.passes()
        return self.retry

    def change(self, **spec: Any) -> None:
        """Store another spec, and make passes over it."""
        self.spec, self.generation = {**self.spec, **spec}, self.generation + 1
        self.passes(2)

    def roll_out_other_replicas(self, monkeypatch: pytest.MonkeyPatch, grace: int = 77) -> None:
        """Let a version go on that builds other pods of the replicas, and rolls them out. The pause is five minutes.

        Args:
            monkeypatch: Makes this version.
            grace: The grace period that shows the pods of this version.
        """
        build = deployment._pod_spec
        other = {"terminationGracePeriodSeconds": grace}
        monkeypatch.setattr(deployment, "_pod_spec", lambda *args: {**build(*args), **other})
        self.pause = 300.0
        self.new_operator()
        self.passes(2)
        self.context.about_to_change.add(KEY)
        self.passes()

    def report(self, name: str, since: str = "2026-11-24T08:00:00Z", **status: Any) -> None:
        """Let the Deployment controller report that all pods serve, or another status."""
        found = self.cache.get(Key("default", name, DEPLOYMENT))
        assert found
        self.cluster.written.append("a report")
        complete = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
        available = {"type": "Available", "status": "True", "lastTransitionTime": "2026-11-24T08:00:00Z"}
        counters = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), found["spec"]["replicas"])
        conditions = [{**complete, "lastUpdateTime": since}, available]
        reported = {"observedGeneration": 2, **counters, "conditions": conditions, **status}
        about = {**found["metadata"], "resourceVersion": str(len(self.cluster.written) + 10), "generation": 2}
        live = {**found, "metadata": about, "status": reported}
        self.cluster.live[f"Deployment/{name}"] = live
        self.cache.put(DEPLOYMENT, live)

    def record(self, number: int) -> Manifest:
        found = self.cache.get(Key("default", f"kimi-{number}", REVISION))
        assert found
        return found

    def delete(self, name: str) -> None:
        """Delete a Deployment, as a user does."""
        found = self.cache.get(Key("default", name, DEPLOYMENT))
        assert found
        self.cache.take(self.cache.reader.read(DEPLOYMENT, found, is_deleted=True))
        self.cluster.live.pop(f"Deployment/{name}", None)

    def lose_records(self) -> None:
        """Lose the records of the replicas. The API server still has the Deployments."""
        for record in self.cache.children(REVISION, KEY):
            self.cache.take(self.cache.reader.read(REVISION, record, is_deleted=True))
        for name in ("kimi", "kimi-router"):
            found = self.cache.get(Key("default", name, DEPLOYMENT))
            assert found
            self.cluster.live[f"Deployment/{name}"] = found

    @property
    def router(self) -> Manifest:
        found = self.cache.get(ROUTER)
        assert found
        return found

    @property
    def pods(self) -> Manifest:
        return dict(self.router["spec"]["template"])

    @property
    def writes(self) -> list[str]:
        return [name for name in self.cluster.written if name == "Deployment/kimi-router"]

    def edit(self, template: Manifest | None = None, annotation: str | None = None) -> None:
        """Edit the router's Deployment like a user; an empty annotation removes it."""
        edited = copy.deepcopy(self.router)
        self.cluster.written.append("an edit")
        edited["metadata"]["resourceVersion"] = str(len(self.cluster.written) + 10)
        if template:
            edited["spec"]["template"] = template
        if annotation is not None:
            edited["metadata"]["annotations"][TEMPLATE_ANNOTATION] = annotation
        self.cluster.live["Deployment/kimi-router"] = edited
        self.cache.put(DEPLOYMENT, edited)

    def condition(self) -> Manifest:
        return find_condition(self.cluster.status, "TemplateCurrent")
