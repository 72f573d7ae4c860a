"""A default of a newer version comes and goes with its CRD. The default replaces no pods, but a user's change does."""

from integration.client import path_of
from integration.namespace import Namespace, server_manifest
from integration.newer_version import FRACTION
from integration.processes_under_test import NEWER_VERSION, THIS_VERSION
from integration.sandbox import Sandbox
from integration.schema import newer_definition
from integration.versions import create_servers, go_on_as, running, scale, wait_for_offer
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, Manifest
from kimi_linear_operator.server.spec import SERVER


def _put_back(namespace: Namespace, name: str) -> None:
    """Read the object and write it back, like `kubectl replace` and many clients."""
    server = namespace.server(name)
    namespace.client.request("PUT", path_of(SERVER, namespace.name, name), server)


def _assert_no_pod_was_replaced(namespace: Namespace, before: dict[str, Manifest]) -> None:
    for name, ran in before.items():
        now = running(namespace, name)
        assert now["replicaSets"] == ran["replicaSets"], name
        assert set(ran["pods"]) <= set(now["pods"]), name


def _owners_of_fraction(namespace: Namespace, name: str) -> list[str]:
    entries = namespace.server(name)["metadata"]["managedFields"]
    return [entry["manager"] for entry in entries if "memoryFractionStatic" in str(entry["fieldsV1"])]


def _fractions(namespace: Namespace, name: str) -> list[str]:
    """Return the values of the flag that the default would set."""
    [container] = namespace.deployment(name)["spec"]["template"]["spec"]["containers"]
    return [argument for argument in container["args"] if str(FRACTION) in argument]


_QUIET_SECONDS = 2.0
_TWO = ["scaled", "untouched"]


def test_a_default_that_comes_and_goes_with_a_version_replaces_no_pod(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    create_servers(namespace, [*_TWO, "scaled-meanwhile"])
    scale(namespace, "scaled", 2)
    before = {name: running(namespace, name) for name in [*_TWO, "scaled-meanwhile"]}
    with newer_definition(namespace.client):
        go_on_as(sandbox, NEWER_VERSION)
        wait_for_offer(namespace, list(before), "False")
        scale(namespace, "scaled-meanwhile", 2)
        sandbox.operator.kill()
    go_on_as(sandbox, THIS_VERSION)
    for name in before:
        scale(namespace, name, 3)
        assert namespace.server(name)["spec"]["engine"]["memoryFractionStatic"] == FRACTION
    go_on_as(sandbox, THIS_VERSION)
    for name in before:
        namespace.wait_until_ready(name)
        assert _fractions(namespace, name) == []
    _assert_no_pod_was_replaced(namespace, before)


def test_under_newer_definitions_only_requested_changes_replace_pods(sandbox: Sandbox) -> None:
    """This is the phase of an upgrade in which the CRDs are new and the replicas are old."""
    namespace = sandbox.namespace
    create_servers(namespace, _TWO)
    scale(namespace, "scaled", 2)
    before = {name: running(namespace, name) for name in _TWO}
    with newer_definition(namespace.client):
        namespace.edit(SERVER, "untouched", {"metadata": {"labels": {"team": "search"}}})
        scale(namespace, "scaled", 3)
        _put_back(namespace, "scaled")
        go_on_as(sandbox, THIS_VERSION)
        for name in _TWO:
            namespace.wait_for_condition(name, "Accepted", "True")
            namespace.wait_until_ready(name)
            assert namespace.server(name)["spec"]["warmUp"] == "enabled"
            assert _owners_of_fraction(namespace, name) == []
        _assert_no_pod_was_replaced(namespace, before)
        requested = server_manifest("scaled", namespace.name, {"engine": {"memoryFractionStatic": FRACTION}})
        namespace.client.apply(SERVER, requested, "somebody")
        # The spec stays the same, but the field now has an owner. So the next pass treats it as the user's own value.
        assert _owners_of_fraction(namespace, "scaled") == ["somebody"]
        scale(namespace, "scaled", 2)
        wait_for(lambda: _fractions(namespace, "scaled"), "the requested change is rolled out")
        assert not _fractions(namespace, "untouched")


def test_a_default_of_another_version_is_never_offered_or_rolled_out(
    sandbox: Sandbox,
) -> None:
    namespace = sandbox.namespace
    create_servers(namespace, [*_TWO, "changing"])
    before = {name: running(namespace, name) for name in _TWO}
    with newer_definition(namespace.client):
        for name in [*_TWO, "changing"]:
            namespace.edit(SERVER, name, {"metadata": {"labels": {"team": "search"}}})
    sandbox.operator.arguments = (*sandbox.operator.arguments, "--rollout-pause=1")
    go_on_as(sandbox, THIS_VERSION)
    requested = server_manifest("changing", namespace.name, {"engine": {"contextLength": 4096}})
    namespace.client.apply(SERVER, requested, "somebody")
    wait_for(
        lambda: "4096" in str(namespace.deployment("changing")["spec"]["template"]),
        "the requested change is rolled out",
    )
    for name in [*_TWO, "changing"]:
        namespace.wait_until_ready(name)
        assert namespace.server(name)["spec"]["engine"]["memoryFractionStatic"] == FRACTION
        namespace.wait_for_condition(name, "TemplateCurrent", "True", "Newest")
        assert _fractions(namespace, name) == []
    stays(
        lambda: {name: running(namespace, name) for name in _TWO},
        "nothing is rolled out",
        before.__eq__,
        _QUIET_SECONDS,
    )


def test_a_field_that_its_owner_leaves_out_of_an_apply_is_removed_from_the_pods(sandbox: Sandbox) -> None:
    """After that, the API server sets the default, and the default has no field manager."""
    namespace = sandbox.namespace
    for size in ({"tensorParallelism": 2}, {}):
        namespace.client.apply(SERVER, server_manifest("kimi", namespace.name, size), "somebody")
        wanted = size.get("tensorParallelism", 4)
        wait_for(lambda: namespace.find(DEPLOYMENT, "kimi"), "the Deployment exists")
        wait_for(lambda: _gpus(namespace), f"the pods have {wanted} GPUs", str(wanted).__eq__)


def _gpus(namespace: Namespace) -> str:
    [container] = namespace.deployment("kimi")["spec"]["template"]["spec"]["containers"]
    return str(container["resources"]["limits"]["amd.com/gpu"])
