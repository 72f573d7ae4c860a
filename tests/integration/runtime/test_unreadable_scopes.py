"""If a namespace, a role or a CRD is lost, the operator changes nothing there and works elsewhere.

The lost part can come back.
"""

import functools
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

import chart
from control_plane import LocalCluster
from integration.client import NAMESPACE, Client
from integration.client_pods import create_benchmark, running_pod, wait_for_reason
from integration.definitions import without_definition
from integration.faults import Call, Fault, Matches, drop, refuse
from integration.namespace import Namespace
from integration.permissions import KINDS, grant
from integration.sandbox import CURTAILED_ACCOUNTS, Sandbox, Sandboxes
from integration.waiting import stays, wait_for
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, LEASE, POD, SERVICE, Kind
from kimi_linear_operator.runtime.lists import RETRY
from kimi_linear_operator.server.spec import SERVER
from passes import CHILDREN, OPTIONAL, RESOURCES

SPEC = {"tensorParallelism": 1}
SERVERS, BENCHMARKS = (f"{kind.plural}.{kind.group}" for kind in (SERVER, BENCHMARK))
_QUIET_SECONDS = 4.0
# The operator tries to read an unreadable scope again after half a minute at most.
_RETURN_SECONDS = RETRY.longest + 30


@pytest.fixture
def wide(sandboxes: Sandboxes) -> Iterator[Sandbox]:
    """An operator, not started yet, that watches three namespaces, with a Role in each."""
    with sandboxes.open_wide(namespaces=3) as [opened]:
        yield opened


def test_a_role_that_is_missing_at_the_start_affects_only_its_namespace(wide: Sandbox) -> None:
    lost, kept = wide.others[0], (wide.namespace, wide.others[1])
    _take_role(lost)
    for place in (lost, *kept):
        place.create_server("kimi", SPEC)
    wide.operator.start()
    for place in kept:
        place.wait_until_ready("kimi")
    _wait_until_degraded(wide, f"cannot list pods in namespace {lost.name}: 403: ")
    assert f"degraded: not watching pods in namespace {lost.name}" not in wide.operator.ask("/readyz")[1]
    assert _shown(wide, POD, lost) == 1
    assert [_shown(wide, POD, place) for place in kept] == [0, 0]
    assert _writes_in(wide, lost) == []
    assert len(re.findall(f"WARNING.* Cannot list pods in namespace {lost.name}", wide.operator.told())) == 1
    _restore_role(lost)
    lost.wait_until_ready("kimi", _RETURN_SECONDS)
    wait_for(
        lambda: wide.operator.ask("/readyz"),
        "the replica is ready and not degraded",
        lambda answer: answer == (200, "ok\n"),
    )
    assert _shown(wide, POD, lost) == 0


def test_a_role_that_is_removed_affects_only_its_namespace_which_stays_unchanged(wide: Sandbox) -> None:
    lost, kept = wide.others
    _start_with_servers(wide)
    _take_role(lost)
    # Open watches stay open, because the API server checks roles only at the start of a request.
    wide.proxy.cut_watches()
    _wait_until_degraded(wide, f"cannot list deployments in namespace {lost.name}: 403: ")
    before, begin = lost.server("kimi"), len(wide.proxy.calls)
    lost.delete(DEPLOYMENT, "kimi")
    kept.delete(DEPLOYMENT, "kimi")
    wait_for(lambda: kept.find(DEPLOYMENT, "kimi"), "the Deployment in the readable namespace is repaired")
    stays(lambda: _writes_in(wide, lost, begin), "nothing is written", _is_nothing, _QUIET_SECONDS)
    assert lost.server("kimi") == before
    _restore_role(lost)
    wait_for(
        lambda: lost.find(DEPLOYMENT, "kimi"),
        "the Deployment in the other namespace is repaired, too",
        seconds=_RETURN_SECONDS,
    )
    lost.wait_until_ready("kimi")


def test_a_deleted_namespace_affects_no_other_and_comes_back_without_a_restart(wide: Sandbox, client: Client) -> None:
    lost, kept = wide.others
    _start_with_servers(wide)
    client.delete(NAMESPACE, None, lost.name)
    wait_for(lambda: client.get(NAMESPACE, None, lost.name), "the namespace is gone", lambda found: not found, 120)
    wide.proxy.cut_watches()
    _wait_until_degraded(wide, f"cannot list kimilinearservers in namespace {lost.name}: 403: ")
    kept.change_server("kimi", {"toolCallParser": "disabled"})
    kept.wait_until_ready("kimi")
    wide.operator.stop()
    wide.operator.start()
    assert wide.operator.ask("/readyz")[0] == 200, "a replica that starts now becomes ready, or no upgrade would end"
    kept.change_server("kimi", {"toolCallParser": "enabled"})
    kept.wait_until_ready("kimi")
    client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": lost.name}})
    _restore_role(lost)
    lost.create_server("kimi", SPEC)
    lost.wait_until_ready("kimi", _RETURN_SECONDS)


def test_a_server_is_left_alone_while_a_kind_that_it_needs_cannot_be_read(sandboxes: Sandboxes) -> None:
    """The operator does not treat it as a server without children. It does not create, delete or report any child."""
    with _open_each(sandboxes, SERVER, DEPLOYMENT, SERVICE, POD) as boxes:
        _stop_with_work_left(*boxes.values())
        before = {kind: sandbox.namespace.server("kimi") for kind, sandbox in boxes.items()}
        begins = {kind: len(sandbox.proxy.calls) for kind, sandbox in boxes.items()}
        for kind, sandbox in boxes.items():
            sandbox.proxy.begin(refuse(403), _reads(kind))
            sandbox.operator.launch()
            create_benchmark(sandbox.namespace, "outside", serverRef=None, endpoint={"url": "http://a.example"})
        for kind, sandbox in boxes.items():
            sandbox.operator.wait_until_leading()
            if kind != POD:
                running_pod(sandbox.namespace, "outside", "speed-low")
            _wait_until_degraded(sandbox, f"cannot list {kind.plural} in namespace {sandbox.namespace.name}: 403: ")
        stays(
            lambda: [write for kind in boxes for write in _writes_about_servers(boxes[kind], begins[kind])],
            "nothing is written",
            _is_nothing,
            _QUIET_SECONDS,
        )
        assert {kind: sandbox.namespace.server("kimi") for kind, sandbox in boxes.items()} == before
        for sandbox in boxes.values():
            sandbox.proxy.heal()
        for sandbox in boxes.values():
            for name in ("kimi", "new"):
                sandbox.namespace.wait_until_ready(name, _RETURN_SECONDS)


def _stop_with_work_left(*boxes: Sandbox) -> None:
    """Start and stop the operators. Afterwards, change a server and create another one."""
    for sandbox in boxes:
        sandbox.operator.launch()
        sandbox.namespace.create_server("kimi", SPEC)
    for sandbox in boxes:
        sandbox.namespace.wait_until_ready("kimi")
        assert sandbox.operator.stop() == 0
        sandbox.namespace.change_server("kimi", {"toolCallParser": "disabled", "replicas": 2})
        sandbox.namespace.create_server("new", SPEC)


@contextmanager
def _open_each(sandboxes: Sandboxes, *kinds: Kind) -> Iterator[dict[Kind, Sandbox]]:
    """Open a sandbox for each unreadable kind. They exist at the same time, each with its own operator."""
    with ExitStack() as opened:
        yield {kind: opened.enter_context(sandboxes.open()) for kind in kinds}


def test_servers_are_reconciled_while_kinds_that_only_benchmarks_need_cannot_be_read(sandboxes: Sandboxes) -> None:
    with _open_each(sandboxes, BENCHMARK, CONFIG_MAP) as boxes:
        for kind, sandbox in boxes.items():
            sandbox.proxy.begin(refuse(403), _reads(kind))
            sandbox.operator.start()
            sandbox.namespace.create_server("kimi", SPEC)
            create_benchmark(sandbox.namespace, "nightly")
        for sandbox in boxes.values():
            sandbox.namespace.wait_until_ready("kimi")
            assert _is_unreported(sandbox.namespace, "nightly")
            sandbox.proxy.heal()
        for sandbox in boxes.values():
            running_pod(sandbox.namespace, "nightly", "speed-low", _RETURN_SECONDS)


def test_servers_and_benchmarks_are_reconciled_without_each_others_definition(
    sandboxes: Sandboxes, client: Client, cluster: LocalCluster
) -> None:
    with sandboxes.open() as sandbox:
        namespace, endpoint = sandbox.namespace, {"serverRef": None, "endpoint": {"url": "http://a.example"}}
        with without_definition(client, cluster, BENCHMARKS):
            sandbox.operator.start()
            namespace.create_server("kimi", SPEC)
            namespace.wait_until_ready("kimi")
            _wait_until_degraded(sandbox, f"cannot list kimilinearbenchmarks in namespace {namespace.name}: 404: ")
        create_benchmark(namespace, "nightly")
        running_pod(namespace, "nightly", "speed-low", _RETURN_SECONDS)
        with without_definition(client, cluster, BENCHMARKS):
            _wait_until_degraded(sandbox, f"cannot list kimilinearbenchmarks in namespace {namespace.name}: 404: ")
            namespace.change_server("kimi", {"toolCallParser": "disabled"})
            namespace.wait_until_ready("kimi")
        with without_definition(client, cluster, SERVERS):
            _wait_until_degraded(sandbox, f"cannot list kimilinearservers in namespace {namespace.name}: 404: ")
            create_benchmark(namespace, "outside", **endpoint)
            running_pod(namespace, "outside", "speed-low", _RETURN_SECONDS)
            sandbox.operator.stop()
            sandbox.operator.start()
            create_benchmark(namespace, "waiting", **endpoint)
            create_benchmark(namespace, "unknown")
            wait_for_reason(namespace, "waiting", "WaitingForTurn")
            assert _is_unreported(namespace, "unknown"), "the benchmark's server may exist"
        namespace.create_server("kimi", SPEC)
        namespace.wait_until_ready("kimi", _RETURN_SECONDS)
        restarts = [line for line in sandbox.operator.told().splitlines() if "Watching ended" in line]
        assert restarts == []


def test_leadership_is_handed_over_although_a_namespace_is_lost(sandboxes: Sandboxes) -> None:
    with sandboxes.open_wide(namespaces=2, replicas=2) as [first, second]:
        [lost] = first.others
        first.namespace.create_server("kimi", SPEC)
        lost.create_server("kimi", SPEC)
        _take_role(lost)
        first.operator.start()
        first.namespace.wait_until_ready("kimi")
        second.operator.launch()
        wait_for(second.operator.told, "the second replica waits", lambda text: "Waiting:" in text)
        assert first.operator.stop() == 0
        second.operator.wait_until_leading()
        first.namespace.change_server("kimi", {"toolCallParser": "disabled"})
        first.namespace.wait_until_ready("kimi")
        assert _writes_in(second, lost) == []
        for account in CURTAILED_ACCOUNTS:
            grant(lost.client, lost.name, account)
        lost.wait_until_ready("kimi", _RETURN_SECONDS)


def test_a_replica_that_can_read_nothing_neither_leads_nor_becomes_ready(wide: Sandbox) -> None:
    for place in (wide.namespace, *wide.others):
        _take_role(place)
    wide.operator.launch()
    kinds = [kind for kind in (*RESOURCES, *CHILDREN) if kind not in OPTIONAL]
    scopes = len(kinds) * len((wide.namespace, *wide.others))
    wait_for(
        lambda: wide.operator.ask("/readyz")[1].count("403"), "all scopes are refused", lambda count: count == scopes
    )
    assert wide.operator.ask("/readyz")[0] == 503
    assert not wide.proxy.count(lambda call: call.is_write and call.concerns(LEASE))
    for place in (wide.namespace, *wide.others):
        _restore_role(place)
    wide.operator.wait_until_leading()
    assert wide.operator.ask("/readyz")[0] == 200


def test_a_start_waits_for_a_kind_that_fails_for_a_while(sandboxes: Sandboxes) -> None:
    """An answer that the API server is busy is not a refusal. No replica leads before the API server has answered."""
    faults: dict[str, Fault] = {"429": refuse(429, {"Retry-After": "1"}), "503": refuse(503), "dropped": drop}
    with ExitStack() as opened:
        boxes = {name: opened.enter_context(sandboxes.open()) for name in faults}
        for name, sandbox in boxes.items():
            sandbox.proxy.begin(faults[name], _reads(POD))
            sandbox.operator.launch()
        for sandbox in boxes.values():
            wait_for(
                functools.partial(sandbox.proxy.count, _reads(POD)),
                "pods were requested several times",
                lambda it: it > 2,
            )
        stays(
            lambda: [name for name, sandbox in boxes.items() if "Leading as" in sandbox.operator.told()],
            "no replica leads",
            _is_nothing,
            8.0,
        )
        for sandbox in boxes.values():
            assert sandbox.operator.ask("/readyz") == (503, "the operator has not read the cluster yet\n")
            sandbox.proxy.heal()
        for sandbox in boxes.values():
            sandbox.operator.wait_until_leading()
            assert sandbox.operator.ask("/readyz") == (200, "ok\n")


def _start_with_servers(wide: Sandbox) -> None:
    wide.operator.start()
    for place in (wide.namespace, *wide.others):
        place.create_server("kimi", SPEC)
    for place in (wide.namespace, *wide.others):
        place.wait_until_ready("kimi")
    wide.wait_for_resync()


def _take_role(place: Namespace) -> None:
    place.delete(KINDS["Role"], chart.RELEASE)


def _restore_role(place: Namespace) -> None:
    grant(place.client, place.name, CURTAILED_ACCOUNTS[0])


def _wait_until_degraded(sandbox: Sandbox, what: str) -> None:
    """Wait until a ready replica reports something that it cannot read."""

    def answer() -> tuple[int, str]:
        return sandbox.operator.ask("/readyz")

    wait_for(answer, f"degraded: {what}", lambda told: told[0] == 200 and f"\ndegraded: {what}" in told[1])


def _is_unreported(namespace: Namespace, name: str) -> bool:
    return "observedGeneration" not in namespace.existing(BENCHMARK, name)["status"]


def _shown(sandbox: Sandbox, kind: Kind, place: Namespace) -> float:
    """Return the value of the metric for a scope."""
    name = f'kimi_linear_operator_scope_unreadable{{resource="{kind.plural}",scope_namespace="{place.name}"}} '
    [line] = [line for line in sandbox.operator.ask("/metrics")[1].splitlines() if line.startswith(name)]
    return float(line.removeprefix(name))


def _reads(kind: Kind) -> Matches:
    """Match lists and watches of a kind, as if the role lacked them."""
    return lambda call: (call.is_list or call.is_watch) and call.concerns(kind)


def _writes_in(sandbox: Sandbox, place: Namespace, begin: int = 0) -> list[str]:
    return [_told(call) for call in sandbox.proxy.calls[begin:] if call.is_write and f"/{place.name}/" in call.path]


def _writes_about_servers(sandbox: Sandbox, begin: int) -> list[str]:
    kinds = (SERVER, DEPLOYMENT, SERVICE)
    writes = [call for call in sandbox.proxy.calls[begin:] if call.is_write and any(map(call.concerns, kinds))]
    return list(map(_told, writes))


def _told(call: Call) -> str:
    return f"{call.method} {call.path}"


def _is_nothing(found: list[str]) -> bool:
    return not found
