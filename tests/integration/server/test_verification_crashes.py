"""The operator is killed at each write of a verification: no template is asked twice, and no unverified pod serves."""

import functools
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from integration.client_pods import end_suite, pods_made
from integration.end_states import rollouts, without
from integration.faults import Call, Hold
from integration.gated_pods import is_open, report
from integration.kubelet import HELD
from integration.namespace import Namespace, Spec, condition_of
from integration.sandbox import Sandbox
from integration.waiting import stays, wait_for
from kimi_linear_operator.benchmark.labels import BENCHMARK_LABEL, SUITE_LABEL
from kimi_linear_operator.kubernetes.kinds import (
    BENCHMARK,
    DEPLOYMENT,
    EVENT,
    LEASE,
    POD,
    REVISION,
    Kind,
    Manifest,
)
from kimi_linear_operator.kubernetes.metadata import annotations
from kimi_linear_operator.server.labels import (
    REVISION_ANNOTATION,
    SERVER_LABEL,
    TEMPLATE_LABEL,
    VERIFICATION_ANNOTATION,
)
from kimi_linear_operator.server.spec import SERVER

_SPEC: Spec = {
    "tensorParallelism": 1,
    "verification": {"mode": "Block", "onFailure": "Rollback"},
    "inheritedMetadata": {"annotations": {HELD: "true"}},
}
_CHANGE: Spec = {"engine": {"contextLength": 131072}}
# The accuracy of each revision, by the number of the revision.
_ACCURACY = {"1": 0.7, "2": 0.3}
_UNDISTURBED = "undisturbed"
_PLAYED_SECONDS = 150.0
_QUIET_SECONDS = 6.0


class Step(NamedTuple):
    """A write of a verification: the nth write of a kind whose body contains a text. Spaces do not count."""

    name: str
    method: str
    kind: Kind
    text: str = ""
    nth: int = 1

    def is_made_by(self, call: Call, server: str) -> bool:
        is_about = f"/{server}" in call.path or f'"{server}"'.encode() in call.body
        is_such = self.method in ("", call.method) and call.concerns(self.kind) and self.text in _without_spaces(call)
        return call.is_write and is_about and is_such


def _without_spaces(call: Call) -> str:
    return call.body.decode().replace(" ", "")


_TO_VERIFIED = (
    Step("revision", "", REVISION),
    Step("deployment", "", DEPLOYMENT),
    Step("benchmark", "POST", BENCHMARK),
    Step("verdict", "PATCH", BENCHMARK, "verdict"),
    Step("result", "", REVISION, VERIFICATION_ANNOTATION),
    Step("gate", "PATCH", POD),
    Step("status", "", SERVER, '"reason":"Verified"'),
    Step("event", "POST", EVENT, '"reason":"Verified"'),
)
_TO_ROLLED_BACK = (
    Step("revision", "", REVISION),
    Step("deployment", "", DEPLOYMENT),
    Step("old-gone", "DELETE", BENCHMARK),
    Step("benchmark", "POST", BENCHMARK),
    Step("verdict", "PATCH", BENCHMARK, "verdict"),
    Step("result", "", REVISION, "accuracyis0.3"),
    Step("rollback", "", DEPLOYMENT, nth=2),
    Step("gate", "PATCH", POD),
    Step("status", "", SERVER, "RolledBack"),
    Step("event", "POST", EVENT, "accuracyis0.3"),
)


class Boundary(NamedTuple):
    """A crash before or after a step; each boundary has its own server."""

    side: str
    step: Step

    @property
    def server(self) -> str:
        # The name of a benchmark begins with 20 characters of this name, and no name may be the beginning of another.
        return f"{self.side}-{self.step.name}-0"

    def holds(self, call: Call) -> bool:
        return self.step.is_made_by(call, self.server)


@dataclass
class Play:
    """Plays the kubelets of servers and clients, and checks that an open gate stays open."""

    namespace: Namespace
    opened: set[str] = field(default_factory=set)
    answered: dict[tuple[str, str], float] = field(default_factory=dict)
    """When a server's pods first answered, by server and revision."""

    def until(self, left: Callable[[], list[str]], expected: str) -> None:
        """Play until nothing is left to happen."""

        def look() -> list[str]:
            self._serve()
            self._answer()
            return left()

        wait_for(look, expected, lambda found: not found, _PLAYED_SECONDS)

    def _serve(self) -> None:
        for pod in self.namespace.client.list(POD, self.namespace.name, {"labelSelector": SERVER_LABEL}):
            about = pod["metadata"]
            if is_open(pod):
                self.opened.add(about["uid"])
            assert is_open(pod) == (about["uid"] in self.opened), f"the gate of {about['name']} was closed again"
            is_told = condition_of(pod, "Ready").get("status") == str(is_open(pod)) and "podIP" in pod["status"]
            if "deletionTimestamp" not in about and "nodeName" in pod["spec"] and not is_told:
                report(self.namespace, pod)

    def _answer(self) -> None:
        for pod in self.namespace.client.list(POD, self.namespace.name, {"labelSelector": SUITE_LABEL}):
            labels = pod["metadata"]["labels"]
            benchmark = self.namespace.find(BENCHMARK, labels[BENCHMARK_LABEL])
            is_waiting = pod["status"]["phase"] == "Pending" and "nodeName" in pod["spec"]
            if benchmark and is_waiting and "deletionTimestamp" not in pod["metadata"]:
                number = annotations(benchmark)[REVISION_ANNOTATION]
                [owner] = benchmark["metadata"]["ownerReferences"]
                self.answered.setdefault((owner["name"], number), time.monotonic())
                end_suite(self.namespace, labels[BENCHMARK_LABEL], labels[SUITE_LABEL], _told(_ACCURACY[number]))


def _told(accuracy: float) -> str:
    metrics = {"accuracy": accuracy, "invalid": 0.0, "latency": 12.0, "output_throughput": 3000.0}
    return json.dumps({"outcome": "Succeeded", "message": "", "requested": 200, "completed": 200, "metrics": metrics})


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_crash_before_the_first_traffic_leaves_no_trace(sandbox: Sandbox, side: str) -> None:
    namespace, play = sandbox.namespace, Play(sandbox.namespace)
    boundaries = [Boundary(side, step) for step in _TO_VERIFIED]
    namespace.create_server(_UNDISTURBED, _SPEC)
    play.until(lambda: _unverified(namespace, [_UNDISTURBED]), "the undisturbed server serves")
    _crash(sandbox, play, boundaries, lambda name: namespace.create_server(name, _SPEC))
    play.until(lambda: _unverified(namespace, [boundary.server for boundary in boundaries]), "all servers serve")
    _assert_no_trace(sandbox, play, boundaries, asked=1)
    assert rollouts(namespace, _UNDISTURBED) == {"generation": 1, "revision": "1", "replicaSets": 1}


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_crash_during_a_rollback_leaves_no_trace_and_the_rollback_happens_once(sandbox: Sandbox, side: str) -> None:
    namespace, play = sandbox.namespace, Play(sandbox.namespace)
    boundaries = [Boundary(side, step) for step in _TO_ROLLED_BACK]
    names = [_UNDISTURBED, *(boundary.server for boundary in boundaries)]
    for name in names:
        namespace.create_server(name, _SPEC)
    play.until(lambda: _unverified(namespace, names), "all servers serve")
    namespace.change_server(_UNDISTURBED, _CHANGE)
    play.until(lambda: _not_rolled_back(namespace, [_UNDISTURBED]), "the undisturbed server has rolled back")
    _crash(sandbox, play, boundaries, lambda name: namespace.change_server(name, _CHANGE))
    play.until(
        lambda: _not_rolled_back(namespace, [boundary.server for boundary in boundaries]),
        "all servers have rolled back",
    )
    _assert_no_trace(sandbox, play, boundaries, asked=2)
    assert rollouts(namespace, _UNDISTURBED) == {"generation": 3, "revision": "3", "replicaSets": 2}


def _unverified(namespace: Namespace, servers: list[str]) -> list[str]:
    return [server for server in servers if not _holds(namespace.server(server), "Ready", "Verified")]


def _not_rolled_back(namespace: Namespace, servers: list[str]) -> list[str]:
    return [server for server in servers if not _is_back(namespace.server(server))]


def _is_back(server: Manifest) -> bool:
    return condition_of(server, "TemplateCurrent").get("reason") == "RolledBack" and _holds(server, "Ready")


def _holds(server: Manifest, *kinds: str) -> bool:
    """Whether conditions of the current generation are True."""
    found = [condition_of(server, kind) for kind in kinds]
    generation = server["metadata"]["generation"]
    return all(item.get("status") == "True" and item["observedGeneration"] == generation for item in found)


def _crash(sandbox: Sandbox, play: Play, boundaries: list[Boundary], begin: Callable[[str], object]) -> None:
    """Kill the operator when every boundary is reached, then start it again."""
    holds = {boundary: Hold(boundary.step.nth, after=boundary.side == "after") for boundary in boundaries}
    with ExitStack() as faults:
        for boundary, hold in holds.items():
            faults.enter_context(sandbox.proxy.fault(hold, boundary.holds))
            begin(boundary.server)
        play.until(
            lambda: [boundary.server for boundary, hold in holds.items() if not hold.reached.is_set()],
            "the operator stands at all boundaries",
        )
        sandbox.operator.kill()
    sandbox.restart_after_crash()


def _assert_no_trace(sandbox: Sandbox, play: Play, boundaries: list[Boundary], asked: int) -> None:
    namespace = sandbox.namespace
    expected = _state(namespace, _UNDISTURBED)
    for server in (_UNDISTURBED, *(boundary.server for boundary in boundaries)):
        look = functools.partial(_state, namespace, server)
        wait_for(look, f"{server} is in the state of an undisturbed server", lambda state: state == expected)
        assert pods_made(namespace, f"{server}-verify") == asked, f"{server} was asked again"
        assert rollouts(namespace, server) == rollouts(namespace, _UNDISTURBED)
        # A crash may lose an Event, but none comes twice.
        assert max(_events(namespace, server).values(), default=0) <= 1
        _assert_only_verified_gates_were_opened(sandbox, play, server)
    _assert_writes_end(sandbox)


def _assert_only_verified_gates_were_opened(sandbox: Sandbox, play: Play, server: str) -> None:
    """Check that each write of a gate opens the gate of a pod whose template has given right answers before."""
    label = _revision(sandbox.namespace, server, "1")["data"]["template"]["metadata"]["labels"][TEMPLATE_LABEL]
    sets = sandbox.namespace.replica_sets(server)
    verified = [item for item in sets if item["spec"]["template"]["metadata"]["labels"][TEMPLATE_LABEL] == label]
    prefixes = tuple(f"{item['metadata']['name']}-" for item in verified)
    gates = [call for call in sandbox.proxy.calls if call.is_write and f"/pods/{server}-" in call.path]
    assert gates
    for call in gates:
        [condition] = json.loads(call.body)["status"]["conditions"]
        assert condition["status"] == "True"
        assert call.path.split("/")[-2].startswith(prefixes), f"{call.path} has a template that was not verified"
        assert call.began > play.answered[server, "1"]


def _revision(namespace: Namespace, server: str, number: str) -> Manifest:
    return namespace.existing(REVISION, f"{server}-{number}")


def _assert_writes_end(sandbox: Sandbox) -> None:
    def writes() -> int:
        return sandbox.proxy.count(lambda call: call.is_write and not call.concerns(LEASE))

    last: tuple[float, int] = (time.monotonic(), writes())

    def seconds_without() -> float:
        nonlocal last
        count = writes()
        last = last if count == last[1] else (time.monotonic(), count)
        return time.monotonic() - last[0]

    wait_for(seconds_without, "the operator writes nothing more", lambda seconds: seconds > _QUIET_SECONDS)
    end = writes()
    stays(writes, "nothing is written at rest", lambda count: count == end, _QUIET_SECONDS)


def _state(namespace: Namespace, server: str) -> Manifest:
    """Return the final state of a server, without names and times."""
    query = {"labelSelector": f"{SERVER_LABEL}={server}"}
    found = {
        "status": namespace.server(server)["status"]["conditions"],
        "template": namespace.deployment(server)["spec"]["template"]["spec"],
        "revisions": [
            (item["revision"], item["data"]["template"]["spec"], annotations(item).get(VERIFICATION_ANNOTATION))
            for item in namespace.client.list(REVISION, namespace.name, query)
        ],
        "gates": [(is_open(pod), condition_of(pod, "Ready").get("status")) for pod in namespace.pods(server)],
        "benchmarks": [
            (annotations(item)[REVISION_ANNOTATION], item["spec"]["suites"], item.get("status", {}).get("verdict"))
            for item in namespace.client.list(BENCHMARK, namespace.name, query)
        ],
    }
    text = json.dumps(without(found, ["lastTransitionTime"])).replace(server, "NAME")
    state: Manifest = json.loads(re.sub(r"NAME-verify-[0-9a-f]{10}", "NAME-verify", text))
    return state


def _events(namespace: Namespace, server: str) -> Counter[str]:
    """Return the number of Events about each result of a verification."""
    query = {"fieldSelector": f"involvedObject.name={server},involvedObject.kind={SERVER.kind}"}
    found = (event["message"] for event in namespace.client.list(EVENT, namespace.name, query))
    return Counter(
        re.sub(r"-verify-\S+", "", message).replace(server, "") for message in found if "benchmark " in message
    )
