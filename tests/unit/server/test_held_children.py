"""Passes over servers with children that are being deleted, but that finalizers hold."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.conditions import find_condition, ready_condition
from kimi_linear_operator.kubernetes.deletion import LONG_PATIENCE_SECONDS, PATIENCE_SECONDS
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest, kind_of
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.manifests import build_companions
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from make import make_server, stored
from passes import Passes, new_cache
from refusing import RefusingCluster, running_objects

KEY = Key("default", "kimi", SERVER)
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
EVERYTHING: dict[str, Any] = {
    "replicas": 2,
    "tensorParallelism": 4,
    "service": {"headless": True},
    "router": {"replicas": 2},
    "autoscaling": {"minReplicas": 2, "maxReplicas": 4},
    "networkPolicy": {},
    "monitoring": {},
    "ingress": {"hosts": ["kimi.example.com"]},
    "httpRoute": {"parentRefs": [{"name": "public"}]},
}


def children(**spec: Any) -> list[Manifest]:
    """Return the children of a server with this spec, without its Deployment and its record."""
    return [stored(child) for child in build_companions(KimiLinearServer.model_validate(make_server(**spec)))]


def going(child: Manifest, *finalizers: str, seconds: float = 60.0) -> Manifest:
    """Return a child whose deletion began this long ago, and that these finalizers hold."""
    about = {"deletionTimestamp": (NOW - timedelta(seconds=seconds)).isoformat(), "finalizers": list(finalizers)}
    return {**child, "metadata": {**child["metadata"], **about}}


def one_pass(*known: Manifest, unread: Kind | None = None, **spec: Any) -> tuple[RefusingCluster, float | None]:
    """Make a pass over a server; return the cluster, and when the next pass is due."""
    cluster, cache, server = RefusingCluster({}), new_cache(), make_server(**spec)
    cluster.live["KimiLinearServer/kimi"] = server
    for manifest in (server, *known):
        cache.put(SERVER if manifest["kind"] == SERVER.kind else kind_of(manifest), manifest)
    passes = Passes(
        cluster, cache, now=lambda: NOW.isoformat(), has_read=lambda _, kinds: unread is None or unread not in kinds
    )
    return cluster, asyncio.run(passes.reconcile(KEY))


def synced(*known: Manifest, **spec: Any) -> tuple[str, str, str]:
    cluster, _ = one_pass(*known, **spec)
    told = find_condition(cluster.status, "Synced")
    return told["status"], told["reason"], told["message"]


@pytest.mark.parametrize("is_wanted", [True, False], ids=["wanted", "no longer wanted"])
@pytest.mark.parametrize(
    "held", children(**EVERYTHING), ids=lambda child: f"{child['kind']} {child['metadata']['name']}"
)
def test_every_child_that_a_finalizer_holds_is_named_with_its_finalizer_and_the_remedy(
    held: Manifest, *, is_wanted: bool
) -> None:
    spec = EVERYTHING if is_wanted else {}
    cluster, _ = one_pass(*running_objects(**spec), going(held, "example.com/hold"), **spec)
    told, name = find_condition(cluster.status, "Synced"), held["metadata"]["name"]
    assert (told["status"], told["reason"]) == ("False", "DeletionBlocked")
    assert f"{held['kind']} {name} (example.com/hold)" in told["message"]
    assert f"`kubectl edit {held['kind'].lower()}/{name}`" in told["message"]
    assert f"{held['kind']}/{name}" not in cluster.written
    assert f"-{held['kind']}/{name}" not in cluster.written


def test_all_held_children_are_in_one_message() -> None:
    service, headless = children(service={"headless": True})
    told = synced(*running_objects(), going(headless, "b.example.com/x", "a.example.com/y"), going(service, "c.com/z"))
    assert told == (
        "False",
        "DeletionBlocked",
        "Finalizers hold objects that are being deleted: Service kimi (c.com/z), Service kimi-headless "
        "(b.example.com/x, a.example.com/y). Until an object is gone, the operator neither changes it nor creates it "
        "again. Start the programs that remove these finalizers. If they no longer exist, remove the finalizers: "
        "`kubectl edit service/kimi service/kimi-headless`",
    )


def test_a_program_gets_some_seconds_to_remove_its_finalizer() -> None:
    service, _ = children(service={"headless": True})
    cluster, again = one_pass(*running_objects(), going(service, "c.com/z", seconds=PATIENCE_SECONDS - 4))
    assert find_condition(cluster.status, "Synced")["status"] == "True"
    assert again == 4


OF_CLOUDS = {
    "service.kubernetes.io/load-balancer-cleanup": "Service",
    "service.k8s.aws/resources": "Service",
    "gke.networking.io/l4-netlb-v1": "Service",
    "ingress.k8s.aws/resources": "Ingress",
    "group.ingress.k8s.aws/public": "Ingress",
    "networking.gke.io/ingress-finalizer-V2": "Ingress",
}


@pytest.mark.parametrize("finalizer", ["service.kubernetes.io/load-balancer-cleanup", "example.com/hold"])
def test_a_server_with_a_child_that_a_finalizer_holds_is_reconciling_from_the_first_second(finalizer: str) -> None:
    """The operator must create the child again, so a tool that waits for the server has to wait for that."""
    [service] = children()
    cluster, _ = one_pass(*running_objects(), going(service, finalizer, seconds=0.0))
    told = find_condition(cluster.status, "Reconciling")
    assert (told["status"], told["reason"]) == ("True", "DeletionBlocked")
    assert f"Service kimi ({finalizer})" in told["message"]
    assert "emove" in told["message"], "it says what to do about the finalizer"
    assert ready_condition(cluster.status)["status"] == "True"


def test_a_server_whose_children_exist_is_settled() -> None:
    cluster, _ = one_pass(*running_objects(), *children())
    assert find_condition(cluster.status, "Reconciling")["reason"] == "Settled"


def test_a_server_with_a_refused_spec_waits_for_its_owner_and_not_for_a_finalizer() -> None:
    [service] = children()
    cluster, _ = one_pass(*running_objects(), going(service, "example.com/hold"), tensorParallelism=3)
    assert find_condition(cluster.status, "Stalled")["reason"] == "InvalidSpec"
    assert find_condition(cluster.status, "Reconciling")["status"] == "False"


@pytest.mark.parametrize("finalizer", OF_CLOUDS)
def test_a_cloud_gets_minutes_to_delete_a_load_balancer_and_nobody_is_told_to_leak_it(finalizer: str) -> None:
    balanced = next(child for child in children(**EVERYTHING) if child["kind"] == OF_CLOUDS[finalizer])
    left = 60.0
    held = going(balanced, finalizer, seconds=LONG_PATIENCE_SECONDS - left)
    cluster, again = one_pass(*running_objects(**EVERYTHING), held, **EVERYTHING)
    assert "DeletionBlocked" not in find_condition(cluster.status, "Synced")["reason"]
    assert again is not None
    assert again <= left
    late = going(balanced, finalizer, seconds=LONG_PATIENCE_SECONDS)
    _, reason, message = synced(*running_objects(**EVERYTHING), late, **EVERYTHING)
    name = f"{balanced['kind'].lower()}/{balanced['metadata']['name']}"
    assert reason == "DeletionBlocked"
    assert f"The cloud removes the finalizers of {name} when it has deleted the load balancer. Do not" in message
    assert "kubectl edit" not in message


def test_a_finalizer_of_a_program_beside_that_of_a_cloud_is_named_after_seconds() -> None:
    service, _ = children(service={"headless": True})
    held = going(service, "c.com/z", "service.kubernetes.io/load-balancer-cleanup", seconds=PATIENCE_SECONDS)
    _, reason, message = synced(*running_objects(), held)
    assert reason == "DeletionBlocked"
    assert "`kubectl edit service/kimi`. The cloud removes" in message


@pytest.mark.parametrize("finalizer", ["example.kubernetes.io.com/x", "mykubernetes.io/x", "hold"])
def test_a_finalizer_of_another_domain_is_no_finalizer_of_a_cloud(finalizer: str) -> None:
    service, _ = children(service={"headless": True})
    assert "kubectl edit" in synced(*running_objects(), going(service, finalizer, seconds=PATIENCE_SECONDS))[2]


@pytest.mark.parametrize("finalizer", ["foregroundDeletion", "orphan"])
def test_a_child_that_the_garbage_collector_deletes_is_not_held(finalizer: str) -> None:
    record, deployment = running_objects()
    assert synced(record, going(deployment, finalizer))[0] == "True"


def test_a_child_that_belongs_to_somebody_else_is_not_named() -> None:
    service, _ = children(service={"headless": True})
    other = {**service["metadata"], "name": "other", "ownerReferences": [{"kind": "X", "name": "x", "uid": "x"}]}
    assert synced(*running_objects(), going({**service, "metadata": other}, "c.com/z"))[0] == "True"


def test_a_child_whose_kind_can_no_longer_be_read_may_be_gone() -> None:
    [ingress] = [child for child in children(**EVERYTHING) if child["kind"] == "Ingress"]
    cluster, _ = one_pass(*running_objects(), going(ingress, "c.com/z"), unread=kind_of(ingress))
    assert find_condition(cluster.status, "Synced")["status"] == "True"


def test_a_held_deployment_serves_but_does_not_count_as_changed() -> None:
    record, deployment = running_objects()
    held = going(deployment, "example.com/hold")
    cluster, _ = one_pass(record, held)
    assert ready_condition(cluster.status)["status"] == "True"
    cluster, _ = one_pass(record, held, podTemplate={"spec": {"priorityClassName": "high"}})
    told = ready_condition(cluster.status)
    assert (told["status"], told["reason"]) == ("False", "DeletionBlocked")
    assert "Deployment kimi (example.com/hold)" in told["message"]
    assert find_condition(cluster.status, "Available")["status"] == "True"


def test_a_server_whose_held_deployment_still_runs_does_not_say_that_nothing_runs() -> None:
    record, deployment = running_objects()
    cluster, _ = one_pass(record, going(deployment, "example.com/hold"), suspend=True)
    assert ready_condition(cluster.status)["reason"] == "DeletionBlocked"
    assert cluster.scaled == []


def test_a_held_router_is_named_although_its_pods_are_no_cause() -> None:
    spec: dict[str, Any] = {"router": {}}
    [router] = [child for child in children(**spec) if child["kind"] == "Deployment"]
    cluster, _ = one_pass(*running_objects(**spec), going(router, "example.com/hold"), **spec)
    told = ready_condition(cluster.status)
    assert told["reason"] == "RouterUnavailable"
    assert "because its pods have not ended" not in told["message"]
    assert "Finalizers hold it: example.com/hold" in told["message"]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"ownerReferences": [{"uid": "former"}]}, "Service kimi of a deleted KimiLinearServer of this name"),
        ({"ownerReferences": [], "annotations": {}}, "Service kimi, which does not belong to this server,"),
    ],
    ids=["of a former server", "of somebody else"],
)
def test_a_held_object_of_somebody_else_that_has_the_name_of_a_child_is_named(metadata: Manifest, words: str) -> None:
    [service] = children()
    references = [{**service["metadata"]["ownerReferences"][0], **item} for item in metadata["ownerReferences"]]
    about = {**service["metadata"], **metadata, "ownerReferences": references}
    cluster, _ = one_pass(*running_objects(), going({**service, "metadata": about}, "example.com/hold"))
    told = ready_condition(cluster.status)
    assert (told["status"], told["reason"]) == ("False", "Replacing")
    assert told["message"].startswith(f"1 of 1 replicas serve; {words} is still being removed. Finalizers hold it: ")
    assert told["message"].endswith(
        "example.com/hold. Start the programs that remove these finalizers. If they no "
        "longer exist, remove the finalizers: `kubectl edit service/kimi`"
    )


def test_a_message_with_many_finalizers_stays_short() -> None:
    many = [going(child, *(f"example.com/{number}" for number in range(60))) for child in children(**EVERYTHING)]
    message = synced(*running_objects(**EVERYTHING), *many, **EVERYTHING)[2]
    assert "example.com/3, and more" in message
    assert message.endswith("`"), "the remedy is not cut"


def test_a_child_of_which_only_the_essence_is_cached_is_named() -> None:
    service, _ = children(service={"headless": True})
    many = [f"example.com/{number}" for number in range(60_000)]
    assert "Service kimi (example.com/0, example.com/1," in synced(*running_objects(), going(service, *many))[2]
