"""The operator is killed before and after every write that it makes: the next one ends where it would have ended."""

import functools
import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

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

# Slow pods, so that every server is seen to be made or changed before it is Ready.
_SPEC: Spec = {
    "tensorParallelism": 1,
    "service": {"headless": True},
    "podTemplate": {"metadata": {"annotations": {SLOW: "3s"}}},
}
_CHANGE: Spec = {"toolCallParser": "enabled", "service": {"headless": False, "annotations": {"a": "b"}}}

# Which writes a new server costs, and a change of one: how many of each kind. Status and events are of the server.
_CREATION = {REVISION: 1, SERVICE: 2, DEPLOYMENT: 1, SERVER: 2, EVENT: 1}
_ROLLOUT = {REVISION: 2, SERVICE: 2, DEPLOYMENT: 1, SERVER: 2, EVENT: 2}
# How often a server tells that it is ready, and that it is not: when it is made, and when it was changed, too.
_TOLD_OF_CREATION = Counter({True: 1})
_TOLD_OF_BOTH = Counter({True: 2, False: 1})

_SECONDS_TO_REACH = 60.0
_UNDISTURBED = "undisturbed-0"

# What is another one in each object, or tells of a moment.
_VOLATILE = {
    "clusterIP",
    "clusterIPs",
    "creationTimestamp",
    "lastTransitionTime",
    "managedFields",
    "resourceVersion",
    "uid",
    FINGERPRINT_ANNOTATION,
}


class Boundary(NamedTuple):
    """Before or after the nth write to a kind that a server costs."""

    kind: Kind
    nth: int
    is_after: bool

    @property
    def server(self) -> str:
        """Return the name of the server that meets the crash here."""
        return f"{'after' if self.is_after else 'before'}-{self.kind.plural}-{self.nth}"

    def holds(self, call: Call) -> bool:
        return call.concerns(self.kind) and _is_write_about(call, self.server)


def _is_write_about(call: Call, server: str) -> bool:
    """Return whether a call writes a server, its children or, by what it says, its events."""
    return call.is_write and (f"/{server}" in call.path or f'"{server}"'.encode() in call.body)


def test_a_crash_while_a_server_is_made_leaves_no_trace(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    namespace.create_server(_UNDISTURBED, _SPEC)
    namespace.wait_until_ready(_UNDISTURBED)
    _assert_costs(sandbox, _CREATION)

    boundaries = _boundaries(_CREATION)
    _crash(sandbox, boundaries, lambda name: namespace.create_server(name, _SPEC))

    _assert_no_trace(sandbox, boundaries, _TOLD_OF_CREATION)
    assert _rollouts(namespace, _UNDISTURBED) == {"generation": 1, "revision": "1", "replicaSets": 1}


def test_a_crash_while_a_server_is_changed_leaves_no_trace(sandbox: Sandbox) -> None:
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
    assert _rollouts(namespace, _UNDISTURBED) == {"generation": 2, "revision": "2", "replicaSets": 2}


def test_a_crash_while_a_server_is_made_rolls_nothing_out_when_another_version_goes_on(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    boundaries = _boundaries(_CREATION)
    _crash(sandbox, boundaries, lambda name: namespace.create_server(name, _SPEC), OTHER_VERSION)
    for boundary in boundaries:
        namespace.wait_until_ready(boundary.server)
        assert _rollouts(namespace, boundary.server) == {"generation": 1, "revision": "1", "replicaSets": 1}


def test_a_crash_while_a_server_is_changed_rolls_it_out_once_when_another_version_goes_on(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    boundaries = _boundaries(_ROLLOUT)
    for boundary in boundaries:
        namespace.create_server(boundary.server, _SPEC)
    for boundary in boundaries:
        namespace.wait_until_ready(boundary.server)
    _crash(sandbox, boundaries, lambda name: namespace.change_server(name, _CHANGE), OTHER_VERSION)
    for boundary in boundaries:
        namespace.wait_until_ready(boundary.server)
        assert _rollouts(namespace, boundary.server) == {"generation": 2, "revision": "2", "replicaSets": 2}


def _assert_costs(sandbox: Sandbox, writes: dict[Kind, int]) -> None:
    """Check that no write is forgotten here; only the progress of pods may cost another status."""

    def written() -> Counter[str]:
        calls = [call for call in sandbox.proxy.calls if _is_write_about(call, _UNDISTURBED)]
        return Counter(next((kind.plural for kind in writes if call.concerns(kind)), call.path) for call in calls)

    expected = Counter({kind.plural: count for kind, count in writes.items()})
    # The last event comes after the status that says Ready.
    wait_for(written, f"a server costs {expected}", lambda seen: seen >= expected)
    assert written() - expected <= Counter({SERVER.plural: 3})


def _boundaries(writes: dict[Kind, int]) -> list[Boundary]:
    """Return both sides of each write; every one is for a server of its own, and one crash meets them all."""
    numbered = [(kind, number + 1) for kind, count in writes.items() for number in range(count)]
    return [Boundary(kind, nth, is_after) for kind, nth in numbered for is_after in (False, True)]


def _crash(
    sandbox: Sandbox, boundaries: list[Boundary], begin: Callable[[str], object], next_program: Program = THIS_VERSION
) -> None:
    """Kill the operator when it stands at each of the boundaries, and start it, or another version of it, again."""
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
        wait_for(look, f"{boundary.server} is as it would have been", lambda state: state == expected)
        # An event is news, not state: a crash may lose one, but nothing is told twice.
        assert _events(sandbox.namespace, boundary.server) <= told


def _state(namespace: Namespace, server: str) -> Manifest:
    """Return all that lasts of a server and its children, as it would be under any other name."""
    children = {"labelSelector": f"{SERVER_LABEL}={server}"}
    found = {
        "server": namespace.server(server),
        "deployments": [_intent(item) for item in namespace.client.list(DEPLOYMENT, namespace.name, children)],
        "services": [_intent(item) for item in namespace.client.list(SERVICE, namespace.name, children)],
        "revisions": [item["data"] for item in namespace.client.list(REVISION, namespace.name, children)],
        "replicaSets": len(namespace.replica_sets(server)),
        "pods": len(namespace.client.list(POD, namespace.name, children)),
    }
    state: Manifest = json.loads(json.dumps(_lasting(found)).replace(server, "NAME"))
    return state


def _intent(manifest: Manifest) -> Manifest:
    return {"metadata": manifest["metadata"], "spec": manifest["spec"]}


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(item) for key, item in value.items() if key not in _VOLATILE}
    return [_lasting(item) for item in value] if isinstance(value, list) else value


def _rollouts(namespace: Namespace, server: str) -> Manifest:
    metadata = namespace.deployment(server)["metadata"]
    return {
        "generation": metadata["generation"],
        "revision": metadata["annotations"]["deployment.kubernetes.io/revision"],
        "replicaSets": len(namespace.replica_sets(server)),
    }


def _events(namespace: Namespace, server: str) -> Counter[bool]:
    """Return how often it was told that a server is ready, and that it is not, in whatever words."""
    query = {"fieldSelector": f"involvedObject.name={server},involvedObject.kind={SERVER.kind}"}
    return Counter(
        event["reason"] == "AllReplicasServe" for event in namespace.client.list(EVENT, namespace.name, query)
    )
