"""An automatic rollout gives routers their new pods like servers: one after the other, and no other after a bad one."""

from datetime import UTC, datetime

import pytest

from integration.client import REPLICA_SET
from integration.faults import Call, Hold, refuse
from integration.kubelet import HELD, SLOW, held_pod, is_ready, report, report_ready
from integration.namespace import Namespace, Spec
from integration.other_version import is_router_of_other
from integration.processes_under_test import OTHER_ROUTER, OTHER_VERSION, Program
from integration.sandbox import Sandbox
from integration.versions import ONE_GPU, create_servers, go_on_as, has_other_pods, running
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, POD, REVISION, Manifest
from kimi_linear_operator.server.labels import ROUTER_LABEL

_NAMES = ["a", "b", "c"]
_ROUTED: Spec = {"router": {"replicas": 1}}


def _router(namespace: Namespace, name: str) -> Manifest:
    return namespace.existing(DEPLOYMENT, f"{name}-router")


def _is_new(namespace: Namespace, name: str) -> bool:
    return is_router_of_other(_router(namespace, name)["spec"]["template"])


def _serves(namespace: Namespace, name: str) -> bool:
    """Return whether the pod of a server's router serves, and no other pod is left."""
    found = _router(namespace, name)
    status = found.get("status", {})
    is_observed = status.get("observedGeneration") == found["metadata"]["generation"]
    counters = ("replicas", "updatedReplicas", "availableReplicas")
    return is_observed and [status.get(counter) for counter in counters] == [1, 1, 1]


def _replica_sets(namespace: Namespace, name: str) -> list[str]:
    """Return the names of the ReplicaSets of a router. Each rollout makes one."""
    found = namespace.client.list(REPLICA_SET, namespace.name, {"labelSelector": f"{ROUTER_LABEL}={name}"})
    return sorted(item["metadata"]["name"] for item in found)


def _create(namespace: Namespace, names: list[str], spec: Spec = _ROUTED) -> None:
    create_servers(namespace, names, spec)
    for name in names:
        wait_for(lambda name=name: _serves(namespace, name), f"the router of {name} serves")  # type: ignore[misc]


def _roll_out(sandbox: Sandbox, program: Program, pause: int) -> None:
    sandbox.operator.arguments = (*sandbox.operator.arguments, f"--rollout-pause={pause}")
    go_on_as(sandbox, program)


def test_servers_get_the_new_router_one_after_the_other_and_keep_their_replicas(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    _create(namespace, _NAMES, {**_ROUTED, "inheritedMetadata": {"annotations": {SLOW: "1500ms"}}})
    before = {name: running(namespace, name) for name in _NAMES}
    _roll_out(sandbox, OTHER_ROUTER, 2)
    order: list[str] = []

    def left() -> list[str]:
        busy = [name for name in _NAMES if _is_new(namespace, name) and not _serves(namespace, name)]
        assert len(busy) <= 1, busy
        order.extend(name for name in _NAMES if _is_new(namespace, name) and name not in order)
        return [name for name in _NAMES if name not in order] + busy

    wait_for(left, "all servers have the new router", lambda names: not names, 60)
    assert order == _NAMES
    wait_for(lambda: _marked(namespace), "no rollout is under way", lambda names: not names)
    for name in _NAMES:
        namespace.wait_for_condition(name, "TemplateCurrent", "True", "Newest")
        found = running(namespace, name)
        assert [found[part] for part in ("template", "replicaSets", "pods")] == [
            before[name][part] for part in ("template", "replicaSets", "pods")
        ]


def _marked(namespace: Namespace) -> list[str]:
    records = namespace.client.list(REVISION, namespace.name)
    return [item["metadata"]["name"] for item in records if "automatic" in str(item["metadata"])]


def _begin_with_a_held_router(sandbox: Sandbox, program: Program, pause: int) -> Manifest:
    """Begin to roll out to servers a and b; return the new pod of the first router, which does not become Ready."""
    namespace = sandbox.namespace
    held: Spec = {**ONE_GPU, **_ROUTED, "inheritedMetadata": {"annotations": {HELD: "true"}}}
    namespace.create_server("a", held)
    report_ready(namespace, held_pod(namespace, "a"))
    report_ready(namespace, _held_router(namespace))
    namespace.wait_until_ready("a")
    _create(namespace, ["b"])
    _roll_out(sandbox, program, pause)
    wait_for(lambda: _is_new(namespace, "a"), "the router of a gets the new pods")
    if program == OTHER_VERSION:
        wait_for(lambda: has_other_pods(namespace, "a"), "server a gets the new pods")
        report_ready(namespace, held_pod(namespace, "a"))
    return _held_router(namespace)


def _held_router(namespace: Namespace) -> Manifest:
    """Wait until the router of server a has exactly one pod that is on a node and not Ready. Return the pod."""
    [pod] = wait_for(
        lambda: [
            pod
            for pod in namespace.client.list(POD, namespace.name, {"labelSelector": f"{ROUTER_LABEL}=a"})
            if "deletionTimestamp" not in pod["metadata"] and not is_ready(pod)
        ],
        "one pod of the router is on a node",
        lambda pods: len(pods) == 1 and "nodeName" in pods[0]["spec"],
    )
    return dict(pod)


def _has_halted(sandbox: Sandbox) -> None:
    told = f"{sandbox.namespace.name}/a has not settled with the newest pod template (RouterUnavailable)"
    # A server may be unready for a minute after its replicas serve.
    wait_for(sandbox.operator.told, "the log says what halts the rollout", lambda text: told in text, 90)


_PROGRAMS = pytest.mark.parametrize("program", [OTHER_ROUTER, OTHER_VERSION], ids=["only the router", "also replicas"])


@_PROGRAMS
def test_a_router_that_does_not_become_ready_stops_the_rollout_even_after_a_restart(
    sandbox: Sandbox, program: Program
) -> None:
    namespace, pod = sandbox.namespace, _begin_with_a_held_router(sandbox, program, pause=1)
    stays(lambda: _is_new(namespace, "b"), "the router of b stays", lambda is_new: not is_new, 4)
    namespace.edit(DEPLOYMENT, "a-router", {"spec": {"progressDeadlineSeconds": 2}})
    ready = namespace.wait_for_condition("a", "Ready", "False", "RouterUnavailable")
    assert "the router's new pods do not serve after 2 s; the former ones serve" in ready["message"]
    namespace.wait_for_condition("a", "TemplateCurrent", "True", "RollingOutByItself")
    _has_halted(sandbox)
    go_on_as(sandbox, program)
    _has_halted(sandbox)
    stays(lambda: _is_new(namespace, "b"), "the router of b stays after a restart", lambda is_new: not is_new, 4)
    report_ready(namespace, pod)
    wait_for(lambda: _is_new(namespace, "b"), "then the router of b gets the new pods, too")


@_PROGRAMS
def test_a_router_that_fails_soon_after_it_became_ready_stops_the_rollout(sandbox: Sandbox, program: Program) -> None:
    namespace, pod = sandbox.namespace, _begin_with_a_held_router(sandbox, program, pause=6)
    since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    report_ready(namespace, pod, since=since)
    wait_for(lambda: _serves(namespace, "a"), "the new router serves")
    stays(lambda: _is_new(namespace, "b"), "the router of b stays", lambda is_new: not is_new, 2)
    report(namespace, pod, "Running", {"state": {"running": {"startedAt": since}}})
    namespace.wait_for_condition("a", "Ready", "False", "RouterUnavailable")
    _has_halted(sandbox)
    stays(lambda: _is_new(namespace, "b"), "the router of b still stays", lambda is_new: not is_new, 10)
    report_ready(namespace, pod, since=since)
    wait_for(lambda: _is_new(namespace, "b"), "then the router of b gets the new pods, too")


def test_a_deleted_router_has_to_serve_again_before_the_rollout_goes_on(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    _begin_with_a_held_router(sandbox, OTHER_ROUTER, pause=1)
    uid = _router(namespace, "a")["metadata"]["uid"]
    namespace.delete(DEPLOYMENT, "a-router")
    wait_for(
        lambda: namespace.find(DEPLOYMENT, "a-router"),
        "there is another Deployment of the router",
        lambda found: found is not None and found["metadata"]["uid"] != uid,
    )
    stays(lambda: _is_new(namespace, "b"), "the router of b stays", lambda is_new: not is_new, 6)
    assert _marked(namespace) == ["a-2"]
    report_ready(namespace, _held_router(namespace))
    wait_for(lambda: _is_new(namespace, "b"), "then the router of b gets the new pods, too")


def test_a_refused_spec_without_a_router_does_not_end_the_halt_of_a_rollout(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    _begin_with_a_held_router(sandbox, OTHER_ROUTER, pause=1)
    namespace.change_server("a", {"router": None, "security": {"hostIPC": True}})
    namespace.wait_for_condition("a", "Accepted", "False", "InvalidSpec")
    stays(lambda: _is_new(namespace, "b"), "the router of b stays", lambda is_new: not is_new, 6)


def test_an_older_version_repairs_a_server_whose_router_the_newer_version_left_unready(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    before = sandbox.operator.program
    _begin_with_a_held_router(sandbox, OTHER_ROUTER, pause=1)
    namespace.edit(DEPLOYMENT, "a-router", {"spec": {"progressDeadlineSeconds": 2}})
    namespace.wait_for_condition("a", "Ready", "False", "RouterUnavailable")
    go_on_as(sandbox, before)
    wait_for(
        lambda: _is_new(namespace, "a"), "the router of a has its former template again", lambda is_new: not is_new
    )
    wait_for(lambda: _serves(namespace, "a"), "the former router serves")
    namespace.wait_until_ready("a")
    wait_for(lambda: _marked(namespace), "no rollout is under way", lambda names: not names)


@pytest.mark.parametrize("is_killed", [False, True], ids=["refused", "killed"])
def test_lost_records_and_a_router_that_cannot_be_written_at_first_replace_no_pod(
    sandbox: Sandbox, *, is_killed: bool
) -> None:
    namespace = sandbox.namespace
    _create(namespace, ["a"])
    before = _replica_sets(namespace, "a"), running(namespace, "a")["replicaSets"]
    sandbox.operator.kill()
    for record in namespace.client.list(REVISION, namespace.name):
        namespace.client.delete(REVISION, namespace.name, record["metadata"]["name"])
    # Without this difference, the operator would not write the router.
    namespace.edit(DEPLOYMENT, "a-router", {"spec": {"replicas": 2}})
    hold = Hold(1, after=False)
    with sandbox.proxy.fault(hold if is_killed else refuse(500), _writes_router):
        sandbox.operator.program = OTHER_VERSION
        sandbox.restart_after_crash()
        wait_for(lambda: namespace.client.list(REVISION, namespace.name), "there is a record again")
        wait_for(lambda: sandbox.proxy.count(_writes_router), "the router could not be written")
        if is_killed:
            assert hold.reached.wait(30)
            sandbox.operator.kill()
    if is_killed:
        sandbox.restart_after_crash()
    namespace.wait_for_condition("a", "TemplateCurrent", "False", "NewTemplateAvailable")
    namespace.wait_until_ready("a")
    stays(
        lambda: (_replica_sets(namespace, "a"), running(namespace, "a")["replicaSets"]),
        "the pods stay",
        before.__eq__,
        4,
    )


def _writes_router(call: Call) -> bool:
    return call.is_write and call.concerns(DEPLOYMENT, "a-router")
