"""A start, phase by phase. The tests play the kubelet, and the node that returns the engine's log."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

import chart
from integration.audit import AuditLog
from integration.faults import Call, Forward
from integration.kubelet import HELD_SPEC, held_pod
from integration.namespace import Namespace
from integration.permissions import KINDS
from integration.processes_under_test import USER
from integration.sandbox import Sandbox, Sandboxes
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import POD, Manifest
from kimi_linear_operator.reconcile.log_reads import READ_SECONDS
from kimi_linear_operator.server.spec import SERVER

LOADING = "Loading safetensors checkpoint shards:   0% Completed | 0/20 [00:00<?, ?it/s]"
COMPILING = "[2026-11-28 21:51:38 TP0] Capture cuda graph begin. This can take up to several minutes."
WARMING_UP = "[2026-11-28 21:52:20] INFO:     Uvicorn running on http://0.0.0.0:30000 (Press CTRL+C to quit)"
_SECRET = "api_key='sk-0123456789abcdef0123'"
# A read may wait for other reads, and a status write may wait for more events.
_SECONDS_TO_READ = 3 * READ_SECONDS


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


class EngineLog:
    """A node's answer to a request for the log of an engine."""

    def __init__(self) -> None:
        self.lines = [f"{text(now())} server_args=ServerArgs({_SECRET})"]
        self.asked: list[Call] = []

    def write(self, line: str) -> None:
        self.lines.append(f"{now().isoformat().removesuffix('+00:00')}.123456789Z {line}")

    async def __call__(self, call: Call, _: Forward) -> web.StreamResponse:
        self.asked.append(call)
        return web.Response(text="\n".join(self.lines) + "\n")


def is_log(call: Call) -> bool:
    return call.path.endswith("/log")


class Node:
    """The kubelet of one pod: its reports and their times."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.pod = held_pod(namespace)
        [scheduled] = (item for item in self.pod["status"]["conditions"] if item["type"] == "PodScheduled")
        self.conditions = [scheduled]
        self.container: dict[str, Any] = {}

    def report(self, phase: str, *conditions: str, **container: Any) -> None:
        """Report conditions that are True since now, and the engine's container with these changes."""
        since = text(now())
        self.conditions += [{"type": kind, "status": "True", "lastTransitionTime": since} for kind in conditions]
        self.container |= container
        image = self.pod["spec"]["containers"][0]["image"]
        base = {"name": "sglang", "image": image, "imageID": "", "ready": False, "restartCount": 0}
        status = {
            "phase": phase,
            "conditions": self.conditions,
            "containerStatuses": [{**base, "state": {"waiting": {"reason": "ContainerCreating"}}, **self.container}],
        }
        name = self.pod["metadata"]["name"]
        self.namespace.client.patch(POD, self.namespace.name, name, {"status": status}, "status")


def startup(namespace: Namespace) -> Manifest:
    return dict(namespace.server("kimi").get("status", {}).get("startup", {}))


def wait_for_phase(namespace: Namespace, phase: str) -> Manifest:
    return wait_for(
        lambda: startup(namespace), f"phase {phase}", lambda found: found.get("phase") == phase, _SECONDS_TO_READ
    )


def status_writes(sandbox: Sandbox) -> int:
    return sum(call.is_write and call.path.endswith(f"/{SERVER.plural}/kimi/status") for call in sandbox.proxy.calls)


def begin(sandbox: Sandbox) -> tuple[Node, EngineLog]:
    """Create a server whose pod is on a node; return the node and its log."""
    log = EngineLog()
    sandbox.proxy.begin(log, is_log)
    sandbox.namespace.create_server("kimi", HELD_SPEC)
    return Node(sandbox.namespace), log


def run(node: Node) -> None:
    """Report that the image is pulled and the engine runs."""
    node.report("Pending", "PodReadyToStartContainers")
    wait_for_phase(node.namespace, "image")
    node.report("Running", state={"running": {"startedAt": text(now())}}, started=False)


def test_a_start_is_reported_phase_by_phase_with_one_write_each(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    node, log = begin(sandbox)
    wait_for_phase(namespace, "scheduled")
    before = status_writes(sandbox)
    run(node)
    wait_for_phase(namespace, "weights")
    for phase, line in (("loading", LOADING), ("compiling", COMPILING)):
        log.write(line)
        wait_for_phase(namespace, phase)
        ready = namespace.wait_for_condition("kimi", "Ready", "False", "ModelLoading")
        assert f"phase {phase} since " in ready["message"]
    log.write(WARMING_UP)
    node.report("Running", "Ready", "ContainersReady", started=True, ready=True)
    complete = wait_for_phase(namespace, "serving")
    complete = wait_for(
        lambda: startup(namespace),
        "the status has all phases",
        lambda found: len(found["phases"]) == 7,
        _SECONDS_TO_READ,
    )
    names = ["scheduled", "image", "weights", "loading", "compiling", "warm-up", "serving"]
    assert [phase["name"] for phase in complete["phases"]] == names
    assert complete["pod"] == node.pod["metadata"]["name"]
    # Ready and the last phases may come in one write or in two.
    assert status_writes(sandbox) - before <= len(names) + 1
    assert _SECRET not in str(namespace.server("kimi"))
    seen = (status_writes(sandbox), len(log.asked))
    stays(
        lambda: (status_writes(sandbox), len(log.asked)),
        "nothing is written or read at rest",
        lambda found: found == seen,
        READ_SECONDS + 3,
    )
    assert "kimi_linear_server_time_to_serve_seconds_count 1.0" in sandbox.operator.ask("/metrics")[1]


def test_a_restarted_operator_continues_with_the_recorded_phases(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    node, log = begin(sandbox)
    run(node)
    log.write(LOADING)
    before = wait_for_phase(namespace, "loading")
    assert sandbox.operator.stop() == 0
    log.lines.clear()
    log.write(COMPILING)
    sandbox.operator.start()
    after = wait_for_phase(namespace, "compiling")
    assert after["phases"][: len(before["phases"])] == before["phases"]


def test_a_node_that_does_not_answer_leaves_phases_out_and_delays_nothing(sandbox: Sandbox) -> None:
    node, _ = begin(sandbox)
    run(node)
    wait_for_phase(sandbox.namespace, "weights")
    sandbox.proxy.heal()
    node.report("Running", "Ready", "ContainersReady", started=True, ready=True)
    # The API server has only a simulated node behind it, which returns no log.
    sandbox.namespace.wait_until_ready("kimi")
    assert [phase["name"] for phase in startup(sandbox.namespace)["phases"]][-2:] == ["weights", "serving"]


@pytest.fixture
def curtailed(sandboxes: Sandboxes) -> Iterator[Sandbox]:
    """An operator without the permission to read logs."""
    with sandboxes.open_wide(namespaces=1) as [opened]:
        role = opened.namespace.existing(KINDS["Role"], chart.RELEASE)
        rules = [rule for rule in role["rules"] if "pods/log" not in rule["resources"]]
        assert len(rules) == len(role["rules"]) - 1
        opened.namespace.edit(KINDS["Role"], chart.RELEASE, {"rules": rules})
        opened.operator.start()
        yield opened


def test_without_permission_to_read_logs_only_phases_from_logs_are_missing(curtailed: Sandbox) -> None:
    namespace = curtailed.namespace
    namespace.create_server("kimi", HELD_SPEC)
    node = Node(namespace)
    run(node)
    wait_for_phase(namespace, "weights")
    wait_for(lambda: curtailed.proxy.count(is_log), "a log is requested")
    node.report("Running", "Ready", "ContainersReady", started=True, ready=True)
    namespace.wait_until_ready("kimi")
    assert [phase["name"] for phase in startup(namespace)["phases"]] == ["scheduled", "image", "weights", "serving"]
    assert curtailed.operator.told().count("not allowed to read logs (pods/log) in namespace") == 1
    assert curtailed.proxy.count(is_log) == 1


@pytest.mark.usefixtures("operator")
def test_a_slow_phase_names_the_usual_time_and_the_next_step(namespace: Namespace) -> None:
    namespace.create_server("kimi", HELD_SPEC)
    node = Node(namespace)
    since = text(now() - timedelta(hours=1))
    node.report("Running", state={"running": {"startedAt": since}}, started=False)
    ready = namespace.wait_for_condition("kimi", "Ready", "False", "ModelLoading")
    name = node.pod["metadata"]["name"]
    assert (
        f"phase weights since {since}, longer than 30 minutes: a download of 98 GB takes 13 minutes" in ready["message"]
    )
    assert f"`kubectl logs {name} -c sglang`" in ready["message"]


@pytest.mark.usefixtures("operator")
def test_the_log_is_read_with_the_charts_permission(namespace: Namespace, audit_log: AuditLog) -> None:
    mark = audit_log.mark()
    namespace.create_server("kimi", HELD_SPEC)
    Node(namespace).report("Running", state={"running": {"startedAt": text(now())}}, started=False)
    asked = wait_for(
        lambda: [item for item in audit_log.since(mark, USER, namespace.name) if item.resource == "pods/log"],
        "the log is requested",
    )
    assert (asked[0].verb, asked[0].is_forbidden) == ("get", False)
