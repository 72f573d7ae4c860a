"""The operator is killed before and after each of its writes. A new process always reaches the same final state."""

import functools
import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from integration.end_states import rollouts, without
from integration.faults import Call, Hold
from integration.kubelet import SLOW
from integration.namespace import Namespace, Spec
from integration.processes_under_test import OTHER_VERSION, THIS_VERSION, Program
from integration.sandbox import Sandbox
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, EVENT, POD, REVISION, SERVICE, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import FINGERPRINT_ANNOTATION
from kimi_linear_operator.server.labels import HEADLESS_SUFFIX, SERVER_LABEL
from kimi_linear_operator.server.spec import SERVER

# Slow pods, so that the operator sees every server as new or changed before it is Ready.
_SPEC: Spec = {
    "tensorParallelism": 1,
    "service": {"headless": True},
    "podTemplate": {"metadata": {"annotations": {SLOW: "3s"}}},
}
_CHANGE: Spec = {"toolCallParser": "enabled", "service": {"headless": False, "annotations": {"a": "b"}}}

# How many writes of each kind a new server needs, and how many a change of a server needs. The statuses and events are
# the server's.
_CREATION = {REVISION: 1, SERVICE: 2, DEPLOYMENT: 1, SERVER: 2, EVENT: 1}
_ROLLOUT = {REVISION: 2, SERVICE: 2, DEPLOYMENT: 1, SERVER: 2, EVENT: 2}
# How many Events say that a server is ready (True) or not: after its creation, and after creation and a change.
_TOLD_OF_CREATION = Counter({True: 1})
_TOLD_OF_BOTH = Counter({True: 2, False: 1})

_SECONDS_TO_REACH = 60.0
_UNDISTURBED = "undisturbed-0"

# Fields that are different in each object, or contain a time.
_VOLATILE = {
    "clusterIP",
    "clusterIPs",
    "creationTimestamp",
    "lastTransitionTime",
    "managedFields",
    "resourceVersion",
    # The times of a start, and its pod.
    "startup",
    "uid",
    FINGERPRINT_ANNOTATION,
}


class Boundary(NamedTuple):
    """A crash before or after the nth write of one kind, among all writes for a server."""

    kind: Kind
    nth: int
    is_after: bool

    @property
    def server(self) -> str:
        """Return the name of the server whose write is the moment of the crash."""
        return f"{'after' if self.is_after else 'before'}-{self.kind.plural}-{self.nth}"

    def holds(self, call: Call) -> bool:
        return call.concerns(self.kind) and _is_write_about(call, self.server)


def _is_write_about(call: Call, server: str) -> bool:
    """Return whether a call writes a server, a child, or an Event about the server."""
    return call.is_write and (f"/{server}" in call.path or f'"{server}"'.encode() in call.body)


def test_a_crash_during_the_creation_of_a_server_leaves_no_trace(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    namespace.create_server(_UNDISTURBED, _SPEC)
    namespace.wait_until_ready(_UNDISTURBED)
    _assert_costs(sandbox, _CREATION)

    boundaries = _boundaries(_CREATION)
    _crash(sandbox, boundaries, lambda name: namespace.create_server(name, _SPEC))

    _assert_no_trace(sandbox, boundaries, _TOLD_OF_CREATION)
    assert rollouts(namespace, _UNDISTURBED) == {"generation": 1, "revision": "1", "replicaSets": 1}


def test_a_crash_during_a_change_of_a_server_leaves_no_trace(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    boundaries = _boundaries(_ROLLOUT)
    names = [_UNDISTURBED, *(boundary.server for boundary in boundaries)]
    for name in names:
        namespace.create_server(name, _SPEC)
    for name in names:
        namespace.wait_until_ready(name)
    sandbox.proxy.calls.clear()
    namespace.change_server(_UNDISTURBED, _CHANGE)
    namespace.wait_until_ready(_UNDISTURBED)
    _assert_costs(sandbox, _ROLLOUT)

    _crash(sandbox, boundaries, lambda name: namespace.change_server(name, _CHANGE))

    _assert_no_trace(sandbox, boundaries, _TOLD_OF_BOTH)
    assert namespace.find(SERVICE, _UNDISTURBED + HEADLESS_SUFFIX) is None
    assert rollouts(namespace, _UNDISTURBED) == {"generation": 2, "revision": "2", "replicaSets": 2}


def test_another_version_that_continues_a_crashed_creation_rolls_nothing_out(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    boundaries = _boundaries(_CREATION)
    _crash(sandbox, boundaries, lambda name: namespace.create_server(name, _SPEC), OTHER_VERSION)
    for boundary in boundaries:
        namespace.wait_until_ready(boundary.server)
        assert rollouts(namespace, boundary.server) == {"generation": 1, "revision": "1", "replicaSets": 1}


def test_another_version_that_continues_a_crashed_change_rolls_out_once(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    boundaries = _boundaries(_ROLLOUT)
    for boundary in boundaries:
        namespace.create_server(boundary.server, _SPEC)
    for boundary in boundaries:
        namespace.wait_until_ready(boundary.server)
    _crash(sandbox, boundaries, lambda name: namespace.change_server(name, _CHANGE), OTHER_VERSION)
    for boundary in boundaries:
        namespace.wait_until_ready(boundary.server)
        assert rollouts(namespace, boundary.server) == {"generation": 2, "revision": "2", "replicaSets": 2}


def _assert_costs(sandbox: Sandbox, writes: dict[Kind, int]) -> None:
    """Check that the writes are those of this table; only the progress of pods may cost another status."""

    def written() -> Counter[str]:
        calls = [call for call in sandbox.proxy.calls if _is_write_about(call, _UNDISTURBED)]
        return Counter(next((kind.plural for kind in writes if call.concerns(kind)), call.path) for call in calls)

    expected = Counter({kind.plural: count for kind, count in writes.items()})
    # The last event comes after the status that says Ready.
    wait_for(written, f"a server costs the writes {expected}", lambda seen: seen >= expected)
    assert written() - expected <= Counter({SERVER.plural: 3})


def _boundaries(writes: dict[Kind, int]) -> list[Boundary]:
    """Return a crash before and a crash after each write.

    Each has its own server. One kill of the operator is the crash for all of them.
    """
    numbered = [(kind, number + 1) for kind, count in writes.items() for number in range(count)]
    return [Boundary(kind, nth, is_after) for kind, nth in numbered for is_after in (False, True)]


def _crash(
    sandbox: Sandbox, boundaries: list[Boundary], begin: Callable[[str], object], next_program: Program = THIS_VERSION
) -> None:
    """Kill the operator when all writes are at their crash. Then start it again, or start another version of it."""
    holds = {boundary: Hold(boundary.nth, after=boundary.is_after) for boundary in boundaries}
    with ExitStack() as faults:
        for boundary, hold in holds.items():
            faults.enter_context(sandbox.proxy.fault(hold, boundary.holds))
            begin(boundary.server)
        wait_for(
            lambda: [boundary.server for boundary, hold in holds.items() if not hold.reached.is_set()],
            "the operator stands at all boundaries",
            lambda left: not left,
            _SECONDS_TO_REACH,
        )
        sandbox.operator.kill()
    sandbox.operator.program = next_program
    sandbox.restart_after_crash()


def _assert_no_trace(sandbox: Sandbox, boundaries: list[Boundary], told: Counter[bool]) -> None:
    expected = _state(sandbox.namespace, _UNDISTURBED)
    for boundary in boundaries:
        sandbox.namespace.wait_until_ready(boundary.server)
        look = functools.partial(_state, sandbox.namespace, boundary.server)
        wait_for(look, f"{boundary.server} is in the state of an undisturbed server", lambda state: state == expected)
        # A crash may lose an Event, because nothing reads Events to compute a state, but no Event comes twice.
        assert _events(sandbox.namespace, boundary.server) <= told


def _state(namespace: Namespace, server: str) -> Manifest:
    """Return the server and its children without volatile fields, with a placeholder for the server's name."""
    children = {"labelSelector": f"{SERVER_LABEL}={server}"}
    found = {
        "server": namespace.server(server),
        "deployments": [_intent(item) for item in namespace.client.list(DEPLOYMENT, namespace.name, children)],
        "services": [_intent(item) for item in namespace.client.list(SERVICE, namespace.name, children)],
        "revisions": [item["data"] for item in namespace.client.list(REVISION, namespace.name, children)],
        "replicaSets": len(namespace.replica_sets(server)),
        "pods": len(namespace.client.list(POD, namespace.name, children)),
    }
    state: Manifest = json.loads(json.dumps(without(found, _VOLATILE)).replace(server, "NAME"))
    return state


def _intent(manifest: Manifest) -> Manifest:
    return {"metadata": manifest["metadata"], "spec": manifest["spec"]}


def _events(namespace: Namespace, server: str) -> Counter[bool]:
    """Return how many Events say that a server is ready, and how many that it is not."""
    query = {"fieldSelector": f"involvedObject.name={server},involvedObject.kind={SERVER.kind}"}
    return Counter(
        event["reason"] == "AllReplicasServe" for event in namespace.client.list(EVENT, namespace.name, query)
    )
