"""A client that keeps changing a child is a rival, even if it also changes other fields.

No resource takes a child of another resource.
"""

import asyncio
import copy
from typing import cast

import pytest

from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import SERVICE, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import ADOPT_ANNOTATION, FINGERPRINT_ANNOTATION, MANAGED_BY
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.children import Children
from kimi_linear_operator.reconcile.errors import NameTakenError
from kimi_linear_operator.reconcile.repairs import QUICK_REPAIRS
from kimi_linear_operator.server.manifests import build_companions
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from make import make_server, stored
from passes import new_cache, tell_nobody


class Store:
    """A cluster that stores objects, and counts the applies of existing objects."""

    def __init__(self) -> None:
        self.objects: dict[Key, Manifest] = {}
        self.version = 10
        self.applies = 0

    def put(self, kind: Kind, manifest: Manifest) -> Manifest:
        self.version += 1
        kept = copy.deepcopy(stored(manifest))
        kept["metadata"]["resourceVersion"] = str(self.version)
        self.objects[Key("default", manifest["metadata"]["name"], kind)] = kept
        return copy.deepcopy(kept)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return copy.deepcopy(self.objects.get(Key(namespace, name, kind)))

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        self.applies += 1
        return self.put(kind, manifest)

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        if Key("default", manifest["metadata"]["name"], kind) in self.objects:
            raise ApiError(409, "it exists")
        return self.put(kind, manifest)


def make(name: str, **spec: object) -> KimiLinearServer:
    manifest = make_server(name, **spec)
    manifest["metadata"]["uid"] = f"uid-of-{name}"
    return KimiLinearServer.model_validate(manifest)


def service_of(server: KimiLinearServer, name: str) -> Manifest:
    [service] = [
        child for child in build_companions(server) if (child["kind"], child["metadata"]["name"]) == ("Service", name)
    ]
    return service


class Fight:
    """A Service that a rival changes again and again."""

    def __init__(self) -> None:
        self.store, self.cache, self.now = Store(), new_cache(), 0.0
        self.children = Children(cast(Cluster, self.store), self.cache, tell_nobody, lambda: self.now)
        self.owner = make("kimi")
        self.wanted = service_of(self.owner, "kimi")
        self.key = Key("default", "kimi", SERVICE)
        self.apply()

    def apply(self) -> None:
        asyncio.run(self.children.apply(self.owner, self.wanted))

    def rival_changes(self, annotation: str, *, is_hidden: bool = False) -> None:
        """Change the selector and an annotation. Without its label, the Service is not in any watch."""
        live = copy.deepcopy(self.store.objects[self.key])
        live["spec"]["selector"] = {"stolen": "yes"}
        live["metadata"]["annotations"][annotation] = "x"
        if is_hidden:
            live["metadata"]["labels"].pop(MANAGED_BY, None)
        changed = self.store.put(SERVICE, live)
        self.cache.take(self.cache.reader.read(SERVICE, changed, is_deleted=is_hidden))

    def contested(self) -> list[str]:
        return self.children.contested(self.owner, [self.wanted])


@pytest.mark.parametrize("annotation", ["unrelated", FINGERPRINT_ANNOTATION])
@pytest.mark.parametrize("is_hidden", [False, True], ids=["in sight", "out of sight"])
def test_a_child_that_a_rival_keeps_changing_is_repaired_less_and_less_often(annotation: str, is_hidden: bool) -> None:
    fight = Fight()
    for _ in range(200):
        fight.rival_changes(annotation, is_hidden=is_hidden)
        fight.apply()
    assert QUICK_REPAIRS <= fight.store.applies <= QUICK_REPAIRS + 1
    [told] = fight.contested()
    assert "keeps changing" in told
    assert "spec.selector.stolen" not in told
    fight.now += 31
    fight.apply()
    assert fight.store.objects[fight.key]["spec"] == fight.wanted["spec"], "the wait is over"


def test_changes_of_the_spec_do_not_count_as_repairs() -> None:
    fight = Fight()
    for number in range(20):
        fight.owner = make("kimi", service={"port": 8000 + number})
        fight.wanted = service_of(fight.owner, "kimi")
        fight.apply()
    assert fight.store.applies == 20
    assert fight.contested() == []


def test_a_deleted_server_is_no_longer_remembered() -> None:
    fight = Fight()
    for _ in range(QUICK_REPAIRS + 1):
        fight.rival_changes("unrelated")
        fight.apply()
    assert fight.contested()
    fight.children.forget(Key("default", "kimi", SERVER))
    assert fight.contested() == []


class Robbery:
    """Two servers want the same Service, and a user has annotated it for adoption."""

    def __init__(self) -> None:
        self.store, self.cache = Store(), new_cache()
        self.children = Children(cast(Cluster, self.store), self.cache, tell_nobody)
        self.victim, self.robber = make("a", service={"headless": True}), make("a-headless")
        for name in ("a", "a-headless"):
            self.store.put(SERVER, make_server(name) | {"metadata": {"name": name, "uid": f"uid-of-{name}"}})
        service = service_of(self.victim, "a-headless")
        service["metadata"]["annotations"][ADOPT_ANNOTATION] = "true"
        self.store.put(SERVICE, service)

    def rob(self) -> None:
        asyncio.run(self.children.apply(self.robber, service_of(self.robber, "a-headless")))

    def owners(self) -> list[str]:
        live = self.store.objects[Key("default", "a-headless", SERVICE)]
        return [reference["name"] for reference in live["metadata"]["ownerReferences"]]


@pytest.mark.parametrize("is_cached", [False, True])
def test_a_child_of_another_existing_server_is_not_adopted(is_cached: bool) -> None:
    robbery = Robbery()
    if is_cached:
        robbery.cache.put(SERVICE, robbery.store.objects[Key("default", "a-headless", SERVICE)])
    with pytest.raises(NameTakenError, match="Service a-headless belongs to KimiLinearServer a: rename this server"):
        robbery.rob()
    assert robbery.owners() == ["a"]


@pytest.mark.parametrize("uid", [None, "uid-of-its-successor"], ids=["deleted", "replaced by a server of its name"])
def test_a_child_left_by_a_deleted_server_is_adopted(uid: str | None) -> None:
    robbery = Robbery()
    del robbery.store.objects[Key("default", "a", SERVER)]
    if uid:
        robbery.store.put(SERVER, make_server("a") | {"metadata": {"name": "a", "uid": uid}})
    robbery.rob()
    assert robbery.owners() == ["a-headless"]
