"""Upgrades and rollbacks replace no pod of a router. A change of `spec.router`, or the annotation, does."""

from integration.client import REPLICA_SET
from integration.namespace import Namespace, server_manifest
from integration.other_version import MARK, is_router_of_other
from integration.processes_under_test import OTHER_VERSION, THIS_VERSION
from integration.sandbox import Sandbox
from integration.schema import ROUTER_CPU, definition_of_routers
from integration.versions import create_servers, go_on_as, has_other_pods, running, scale, wait_for_offer
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Manifest
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION, ROUTER_LABEL, TEMPLATE_ANNOTATION
from kimi_linear_operator.server.spec import SERVER

_QUIET_SECONDS = 2.0
_NAMES = ["changing", "annotated", "quiet"]
_ROUTED: Manifest = {"router": {"replicas": 1}}


def _template(namespace: Namespace, name: str) -> Manifest:
    return dict(namespace.existing(DEPLOYMENT, f"{name}-router")["spec"]["template"])


def _routers(namespace: Namespace, name: str) -> list[str]:
    """Return the names of the ReplicaSets of a router. Each rollout makes one."""
    found = namespace.client.list(REPLICA_SET, namespace.name, {"labelSelector": f"{ROUTER_LABEL}={name}"})
    return sorted(item["metadata"]["name"] for item in found)


def _has_other_router(namespace: Namespace, name: str) -> bool:
    return is_router_of_other(_template(namespace, name))


def test_an_upgrade_and_a_rollback_replace_no_router_until_somebody_asks(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    create_servers(namespace, _NAMES, _ROUTED)
    before = {name: _routers(namespace, name) for name in _NAMES}
    replicas = running(namespace, "changing")["replicaSets"]

    def seen() -> dict[str, list[str]]:
        return {name: _routers(namespace, name) for name in _NAMES}

    go_on_as(sandbox, OTHER_VERSION)
    wait_for_offer(namespace, _NAMES, "False")
    scale(namespace, "quiet", 2)
    stays(seen, "no router is replaced", before.__eq__, _QUIET_SECONDS)
    offer = namespace.wait_for_condition("quiet", "TemplateCurrent", "False", "NewTemplateAvailable")
    assert f"spec.containers[router].env[{MARK}] of the router" in offer["message"]

    namespace.change_server("changing", {"router": {"policy": "RoundRobin"}})
    wait_for(lambda: _has_other_router(namespace, "changing"), "the requested change is rolled out")
    assert running(namespace, "changing")["replicaSets"] == replicas
    assert not has_other_pods(namespace, "changing")

    namespace.edit(SERVER, "annotated", {"metadata": {"annotations": {ROLLOUT_ANNOTATION: "now"}}})
    wait_for(lambda: _has_other_router(namespace, "annotated"), "the annotation takes the newest template")
    namespace.wait_for_condition("annotated", "TemplateCurrent", "True", "Newest")

    go_on_as(sandbox, THIS_VERSION)
    wait_for_offer(namespace, ["changing", "annotated"], "False")
    wait_for_offer(namespace, ["quiet"], "True")
    assert [_has_other_router(namespace, name) for name in _NAMES] == [True, True, False]
    assert _routers(namespace, "quiet") == before["quiet"]


def test_an_automatic_rollout_gives_routers_the_newest_template(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    create_servers(namespace, ["kimi"], _ROUTED)
    sandbox.operator.arguments = (*sandbox.operator.arguments, "--rollout-pause=1")
    go_on_as(sandbox, OTHER_VERSION)
    wait_for(lambda: _has_other_router(namespace, "kimi"), "the router has the newest template")
    namespace.wait_for_condition("kimi", "TemplateCurrent", "True", "Newest")


def test_a_router_without_a_record_keeps_the_pods_that_run(sandbox: Sandbox) -> None:
    """A version without records made it."""
    namespace = sandbox.namespace
    create_servers(namespace, ["kimi"], _ROUTED)
    before = _routers(namespace, "kimi")
    sandbox.operator.kill()
    namespace.edit(DEPLOYMENT, "kimi-router", {"metadata": {"annotations": {TEMPLATE_ANNOTATION: None}}})
    sandbox.operator.program = OTHER_VERSION
    sandbox.restart_after_crash()

    def record() -> str:
        annotations = namespace.existing(DEPLOYMENT, "kimi-router")["metadata"]["annotations"]
        return str(annotations.get(TEMPLATE_ANNOTATION, ""))

    recorded = wait_for(record, "the running template is recorded")
    assert MARK not in recorded
    wait_for_offer(namespace, ["kimi"], "False")
    assert _routers(namespace, "kimi") == before


def test_of_lost_records_one_scale_replaces_no_pod_but_a_change_of_the_owner_does(sandbox: Sandbox) -> None:
    """All this happens while no operator runs."""
    namespace, scaled, changed = sandbox.namespace, ["applied", "created"], ["changed", "both"]
    # Who creates a server also owns its default replicas. After an apply without replicas, nobody owns them.
    for name in ("applied", *changed):
        namespace.client.apply(SERVER, _server(namespace, name, {"replicas": 1}), "gitops")
    create_servers(namespace, ["created"], _ROUTED)
    for name in ("applied", *changed):
        namespace.wait_until_ready(name)

    def seen() -> Manifest:
        return {name: (_routers(namespace, name), running(namespace, name)["replicaSets"]) for name in scaled}

    before = seen()
    sandbox.operator.kill()
    for name in scaled:
        namespace.client.patch(SERVER, namespace.name, name, {"spec": {"replicas": 2}}, "scale")
        _lose_records(namespace, name)
    for name, more in (("changed", {}), ("both", {"replicas": 2})):
        spec = {**_server(namespace, name, {"replicas": 1})["spec"], "engine": {"contextLength": 4096}, **more}
        namespace.client.apply(SERVER, server_manifest(name, namespace.name, spec), "gitops")
        _lose_records(namespace, name)
    sandbox.operator.program = OTHER_VERSION
    sandbox.restart_after_crash()
    for name in scaled:
        wait_for(lambda name=name: len(namespace.pods(name)), "the scale is applied", (2).__eq__)  # type: ignore[misc]
        namespace.wait_for_condition(name, "TemplateCurrent", "False", "NewTemplateAvailable")
    for name in changed:
        wait_for(lambda name=name: has_other_pods(namespace, name), f"{name} has new pods")  # type: ignore[misc]
        assert "4096" in str(namespace.deployment(name)["spec"]["template"])
    stays(seen, "no pod is replaced", before.__eq__, _QUIET_SECONDS)


def _lose_records(namespace: Namespace, name: str) -> None:
    namespace.delete(REVISION, f"{name}-1")
    namespace.edit(DEPLOYMENT, f"{name}-router", {"metadata": {"annotations": {TEMPLATE_ANNOTATION: None}}})


def test_a_default_of_another_version_replaces_no_router_but_the_same_value_of_its_owner_does(
    sandbox: Sandbox,
) -> None:
    namespace = sandbox.namespace
    names = ["labelled", "scaled", "empty"]
    for name in names:
        router: Manifest = {} if name == "empty" else {"replicas": 1}
        namespace.client.apply(SERVER, _server(namespace, name, router), "gitops")
    for name in names:
        namespace.wait_until_ready(name)
    before = {name: _routers(namespace, name) for name in names}
    with definition_of_routers(namespace.client):
        namespace.edit(SERVER, "labelled", {"metadata": {"labels": {"team": "search"}}})
        scale(namespace, "scaled", 2)
        namespace.edit(SERVER, "empty", {"metadata": {"labels": {"team": "search"}}})
        for _ in range(2):
            for name in names:
                assert ROUTER_CPU in str(namespace.server(name)["spec"]["router"])
                namespace.wait_until_ready(name)
                namespace.wait_for_condition(name, "TemplateCurrent", "True", "Newest")
            stays(
                lambda: {name: _routers(namespace, name) for name in names},
                "no router is replaced",
                before.__eq__,
                _QUIET_SECONDS,
            )
            go_on_as(sandbox, THIS_VERSION)
        asked = {"replicas": 1, "resources": {"requests": {"cpu": ROUTER_CPU}}}
        namespace.client.apply(SERVER, _server(namespace, "labelled", asked, port=31000), "gitops")
        wait_for(lambda: ROUTER_CPU in str(_template(namespace, "labelled")), "the requested value is rolled out")
    assert _routers(namespace, "scaled") == before["scaled"]


def _server(namespace: Namespace, name: str, router: Manifest, port: int = 30000) -> Manifest:
    return server_manifest(name, namespace.name, {"tensorParallelism": 1, "router": router, "service": {"port": port}})
