"""What a pass does when the world moves under it."""

import asyncio
from dataclasses import dataclass
from typing import cast

from kimi_linear_operator.api import Manifest
from kimi_linear_operator.cluster import Cluster
from kimi_linear_operator.reconcile import Reconciler
from kimi_linear_operator.resources import SERVER, Kind
from kimi_linear_operator.store import Key, Store
from make import make_server, stored


@dataclass
class ChangingCluster:
    """A cluster in which somebody changes the spec just before the status is written."""

    change: bool

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return the server as it is now: no child exists yet."""
        return make_server() if kind == SERVER else None

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        return stored({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "2"}})

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest) -> Manifest:
        return {**manifest["metadata"], "resourceVersion": "12", "generation": 2 if self.change else 1}


def _due_again(change: bool) -> float | None:
    store = Store()
    store.put(SERVER, make_server())
    reconciler = Reconciler(cast(Cluster, ChangingCluster(change)), store)
    return asyncio.run(reconciler.reconcile(Key("default", "kimi")))


def test_a_spec_that_changed_during_a_pass_is_looked_at_again() -> None:
    assert _due_again(change=True) == 0


def test_a_spec_that_did_not_change_is_not() -> None:
    assert _due_again(change=False) is None
