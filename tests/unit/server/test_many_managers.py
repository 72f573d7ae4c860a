"""Thousands of managers own fields of a server, for example because a pipeline uses another name in each run."""

import pytest

from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster.light import HEAVIEST_MANAGED_FIELDS, light
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, Kind, Manifest
from operated import KEY, World

MANAGERS = 10_000


def entries(owned: Manifest) -> list[Manifest]:
    time = "2026-11-24T05:00:00Z"
    return [{"manager": f"run-{run}", "time": time, "fieldsV1": {"f:spec": owned}} for run in range(MANAGERS)]


def test_a_scale_after_an_upgrade_keeps_the_pods_of_a_server_with_many_managers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next version's CRD has a new default. The managed fields show that nobody has asked for it."""
    world = World(router=None, replicas=1)
    world.owned = {"f:replicas": {}}
    get = world.cluster.get

    async def get_through_the_client(kind: Kind, namespace: str, name: str) -> Manifest | None:
        found = await get(kind, namespace, name)
        if found is None or kind.kind != KEY.kind.kind:
            return found
        about = {**found["metadata"], "managedFields": entries(world.owned)}
        whole = {**found, "apiVersion": KEY.kind.api_version, "metadata": about}
        text = jsontext.encode(whole)
        assert jsontext.weight(text) > HEAVIEST_MANAGED_FIELDS
        return light(whole, text)

    monkeypatch.setattr(world.cluster, "get", get_through_the_client)
    world.report("kimi")
    world.passes(2)
    before = world.cache.get(KEY.of(DEPLOYMENT))
    assert before
    world.spec["engine"] = {"contextLength": 65536}
    world.new_operator()
    world.passes(2)
    world.spec["replicas"] = 2
    world.generation += 1
    world.passes(2)
    after = world.cache.get(KEY.of(DEPLOYMENT))
    assert after
    assert after["spec"]["replicas"] == 2
    assert after["spec"]["template"] == before["spec"]["template"]
