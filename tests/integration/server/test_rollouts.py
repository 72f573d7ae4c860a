"""If configured, the operator makes an automatic rollout: one server after the other, and no server twice."""

import itertools
from datetime import UTC, datetime

import pytest

from integration.client_pods import create_benchmark, jobs, running_pod
from integration.faults import Call, Hold, refuse
from integration.kubelet import HELD_SPEC, crashing, held_pod, report, report_ready
from integration.namespace import Namespace, Spec, condition_of
from integration.processes_under_test import OTHER_VERSION, THIS_VERSION
from integration.sandbox import Sandbox, Sandboxes
from integration.versions import ONE_GPU, create_servers, go_on_as, has_other_pods, running
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Manifest
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION
from kimi_linear_operator.server.spec import SERVER

_QUIET_SECONDS = 2.0
_ROLLED = ["a", "b", "c", "d"]
# KEDA may scale such a server to zero. KEDA does not run here, and a test plays it.
_SLEEPING: Spec = {
    **ONE_GPU,
    "autoscaling": {
        "minReplicas": 0,
        "maxReplicas": 2,
        "keda": {"prometheusAddress": "http://prometheus:9090", "wakeQuery": "vector(0)"},
    },
}


def _roll_out(sandbox: Sandbox, pause: int = 1) -> None:
    sandbox.operator.arguments = (*sandbox.operator.arguments, f"--rollout-pause={pause}")
    go_on_as(sandbox, OTHER_VERSION)


def test_an_automatic_rollout_gives_all_servers_the_new_pods_one_after_the_other(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    create_servers(namespace, _ROLLED, {"podTemplate": {"metadata": {"annotations": {"tests/slow": "1500ms"}}}})
    namespace.create_server("idle", {**ONE_GPU, "replicas": 0})
    namespace.wait_for_condition("idle", "Ready", "False", "NoReplicas")
    namespace.create_server("sleeps", {**_SLEEPING, "replicas": 0})
    namespace.wait_for_condition("sleeps", "Ready", "False", "ScaledToZero")
    _roll_out(sandbox)
    seen: list[list[str]] = []

    def unready() -> list[str]:
        manifests = namespace.client.list(SERVER, namespace.name)
        seen.append([item["metadata"]["name"] for item in manifests if not _serves(item)])
        return [name for name in [*_ROLLED, "idle", "sleeps"] if not has_other_pods(namespace, name)] + seen[-1]

    wait_for(unready, "all servers serve with the new pods", lambda left: not left, 90)
    assert max(map(len, seen)) == 1, seen
    order = [names[0] for names, _ in itertools.groupby(names for names in seen if names)]
    assert order == _ROLLED
    # This restarts the operator in the middle of a rollout. At the end, no server is marked.
    wait_for(
        lambda: [
            item for item in namespace.client.list(REVISION, namespace.name) if "automatic" in str(item["metadata"])
        ],
        "no rollout is under way",
        lambda marked: not marked,
    )


def _serves(server: Manifest) -> bool:
    ready = condition_of(server, "Ready")
    return ready["status"] == "True" or ready["reason"] in ("NoReplicas", "ScaledToZero", "Suspended")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _begin_with_a_held_pod(sandbox: Sandbox, pause: int = 1, spec: Spec = ONE_GPU) -> Manifest:
    """Begin to roll out to servers a and b; return the new pod of the first one, which does not become Ready."""
    namespace = sandbox.namespace
    namespace.create_server("a", {**spec, **HELD_SPEC})
    report_ready(namespace, held_pod(namespace, "a"))
    namespace.wait_until_ready("a")
    create_servers(namespace, ["b"])
    _roll_out(sandbox, pause)
    wait_for(lambda: has_other_pods(namespace, "a"), "server a gets the new pods")
    return held_pod(namespace, "a")


def test_a_server_that_does_not_become_ready_stops_the_rollout_even_after_a_restart(
    sandbox: Sandbox,
) -> None:
    namespace, pod = sandbox.namespace, _begin_with_a_held_pod(sandbox)
    stays(lambda: has_other_pods(namespace, "b"), "server b keeps its pods", lambda has: not has, 4)
    go_on_as(sandbox, OTHER_VERSION)
    stays(lambda: has_other_pods(namespace, "b"), "server b keeps its pods after a restart", lambda has: not has, 4)
    report_ready(namespace, pod)
    wait_for(lambda: has_other_pods(namespace, "b"), "then server b gets the new pods, too")


def test_a_server_that_fails_soon_after_it_became_ready_stops_the_rollout(sandbox: Sandbox) -> None:
    namespace, pod = sandbox.namespace, _begin_with_a_held_pod(sandbox, pause=6)
    report_ready(namespace, pod, since=_now())
    namespace.wait_until_ready("a")
    stays(lambda: has_other_pods(namespace, "b"), "server b waits", lambda has: not has, _QUIET_SECONDS)
    report(namespace, pod, "Running", crashing(137, "OOMKilled", ""), since=_now())
    stays(lambda: has_other_pods(namespace, "b"), "server b keeps its pods", lambda has: not has, 10)
    report_ready(namespace, pod)
    wait_for(lambda: has_other_pods(namespace, "b"), "then server b gets the new pods, too")


def test_a_step_to_zero_does_not_end_the_halt_of_a_rollout(sandbox: Sandbox) -> None:
    namespace = _halted_and_asleep(sandbox)
    stays(lambda: has_other_pods(namespace, "b"), "server b keeps its pods", lambda has: not has, 4)
    go_on_as(sandbox, OTHER_VERSION)
    stays(lambda: has_other_pods(namespace, "b"), "server b keeps its pods after a restart", lambda has: not has, 4)
    _scale_like_keda(namespace, "a", 1)
    pod = held_pod(namespace, "a")
    stays(lambda: has_other_pods(namespace, "b"), "server b keeps its pods", lambda has: not has, 4)
    report_ready(namespace, pod)
    wait_for(lambda: has_other_pods(namespace, "b"), "then server b gets the new pods, too")


def test_a_suspend_ends_the_halt_at_a_server_that_was_scaled_to_zero(sandbox: Sandbox) -> None:
    namespace = _halted_and_asleep(sandbox)
    namespace.change_server("a", {"suspend": True})
    wait_for(lambda: has_other_pods(namespace, "b"), "server b gets the new pods")


def _halted_and_asleep(sandbox: Sandbox) -> Namespace:
    """Let a rollout stop at server a, and scale this server to zero as KEDA does."""
    _begin_with_a_held_pod(sandbox, spec=_SLEEPING)
    _scale_like_keda(sandbox.namespace, "a", 0)
    sandbox.namespace.wait_for_condition("a", "Ready", "False", "ScaledToZero")
    return sandbox.namespace


def _scale_like_keda(namespace: Namespace, name: str, replicas: int) -> None:
    namespace.client.patch(SERVER, namespace.name, name, {"spec": {"replicas": replicas}}, "scale")
    wait_for(lambda: len(namespace.pods(name)), f"{name} has {replicas} pods", replicas.__eq__)


def test_a_spec_that_is_refused_during_a_rollout_does_not_stop_the_rollout(sandbox: Sandbox) -> None:
    namespace, pod = sandbox.namespace, _begin_with_a_held_pod(sandbox)
    namespace.change_server("a", {"security": {"hostIPC": True}})
    namespace.wait_for_condition("a", "Ready", "False", "InvalidSpec")
    stays(lambda: has_other_pods(namespace, "b"), "server b waits", lambda has: not has, _QUIET_SECONDS)
    report_ready(namespace, pod)
    wait_for(lambda: has_other_pods(namespace, "b"), "then server b gets the new pods, too")


def test_another_spec_of_a_failed_server_ends_the_halt_only_when_its_pods_serve(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    _begin_with_a_held_pod(sandbox)
    namespace.change_server("a", {"engine": {"contextLength": 4096}})
    wait_for(lambda: namespace.find(REVISION, "a-3"), "server a gets pods for its new spec")
    stays(lambda: has_other_pods(namespace, "b"), "server b keeps its pods", lambda has: not has, 6)
    report_ready(namespace, held_pod(namespace, "a"))
    wait_for(lambda: has_other_pods(namespace, "b"), "then server b gets the new pods, too")


def test_an_annotation_that_changes_no_pod_does_not_end_the_wait_in_a_rollout(sandbox: Sandbox) -> None:
    namespace, pod = sandbox.namespace, _begin_with_a_held_pod(sandbox)
    for value in ("by hand", "by GitOps"):
        namespace.edit(SERVER, "a", {"metadata": {"annotations": {ROLLOUT_ANNOTATION: value}}})
        stays(lambda: has_other_pods(namespace, "b"), "server b keeps its pods", lambda has: not has, 4)
    assert held_pod(namespace, "a")["metadata"]["uid"] == pod["metadata"]["uid"]
    report_ready(namespace, pod)
    wait_for(lambda: has_other_pods(namespace, "b"), "then server b gets the new pods, too")


def test_a_leader_that_cannot_read_all_records_starts_no_second_rollout_and_says_so(sandboxes: Sandboxes) -> None:
    with sandboxes.open_wide(namespaces=3) as [sandbox]:
        first, second = sorted(sandbox.others, key=lambda place: place.name)
        sandbox.operator.start()
        first.create_server("a", {**ONE_GPU, **HELD_SPEC})
        report_ready(first, held_pod(first, "a"))
        first.wait_until_ready("a")
        create_servers(second, ["b"])
        _roll_out(sandbox)
        wait_for(lambda: has_other_pods(first, "a"), "server a gets the new pods")
        with sandbox.proxy.fault(refuse(403), lambda call: _reads_records_of(first.name, call)):
            go_on_as(sandbox, OTHER_VERSION)
            told = f"cannot read controllerrevisions in namespace {first.name}"
            wait_for(sandbox.operator.told, "the log says why no server is chosen", lambda text: told in text)
            stays(lambda: has_other_pods(second, "b"), "server b keeps its pods", lambda has: not has, 4)
        report_ready(first, held_pod(first, "a"))
        wait_for(lambda: has_other_pods(second, "b"), "then server b gets the new pods, too", seconds=60)


def _reads_records_of(namespace: str, call: Call) -> bool:
    return not call.is_write and call.concerns(REVISION) and f"/{namespace}/" in call.path


def test_no_suite_starts_on_a_chosen_server_before_its_new_pods_serve(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    create_servers(namespace, ["kimi"])
    with sandbox.proxy.fault(refuse(429, {"Retry-After": "10"}), _writes_second_record):
        _roll_out(sandbox)
        wait_for(lambda: sandbox.proxy.count(_writes_second_record), "the server is chosen, and its record refused")
        create_benchmark(namespace, "nightly", suites=[{"name": "speed-low"}])
        stays(lambda: jobs(namespace, "nightly"), "no suite starts before the new pods", lambda found: not found, 4)
    wait_for(lambda: has_other_pods(namespace, "kimi"), "the server gets the new pods")
    running_pod(namespace, "nightly", "speed-low")
    assert condition_of(namespace.server("kimi"), "Ready")["status"] == "True"


def _writes_second_record(call: Call) -> bool:
    return call.is_write and call.concerns(REVISION, "kimi-2")


def test_a_leader_change_starts_no_second_rollout(sandboxes: Sandboxes) -> None:
    with sandboxes.open_pair() as (one, other):
        namespace = one.namespace
        one.operator.start()
        namespace.create_server("a", {**ONE_GPU, **HELD_SPEC})
        report_ready(namespace, held_pod(namespace, "a"))
        namespace.wait_until_ready("a")
        create_servers(namespace, ["b"])
        for sandbox in (one, other):
            sandbox.operator.arguments = (*sandbox.operator.arguments, "--rollout-pause=1")
        go_on_as(one, OTHER_VERSION)
        wait_for(lambda: has_other_pods(namespace, "a"), "server a gets the new pods")
        other.operator.program = OTHER_VERSION
        other.operator.launch()
        assert one.operator.stop() == 0
        other.operator.wait_until_leading()
        stays(lambda: has_other_pods(namespace, "b"), "server b keeps its pods", lambda has: not has, 4)


@pytest.mark.parametrize("is_refused", [False, True], ids=["killed before the Deployment", "the Deployment refused"])
def test_a_rollout_that_another_version_began_by_itself_is_not_continued(sandbox: Sandbox, *, is_refused: bool) -> None:
    namespace = sandbox.namespace
    create_servers(namespace, ["a", "b"])
    before = {name: running(namespace, name) for name in "ab"}
    arguments = sandbox.operator.arguments
    hold = Hold(1, after=False)
    with sandbox.proxy.fault(refuse(422) if is_refused else hold, _writes_deployment_a):
        _roll_out(sandbox)
        if is_refused:
            namespace.wait_for_condition("a", "Ready", "False", "ApplyFailed")
        else:
            assert hold.reached.wait(30)
        assert namespace.find(REVISION, "a-2")
        sandbox.operator.kill()
    sandbox.operator.arguments = arguments
    go_on_as(sandbox, THIS_VERSION)
    wait_for(lambda: namespace.find(REVISION, "a-2"), "the record is gone", lambda found: not found)
    for name in "ab":
        namespace.wait_until_ready(name)
    assert {name: running(namespace, name) for name in "ab"} == before


def _writes_deployment_a(call: Call) -> bool:
    return call.is_write and call.concerns(DEPLOYMENT, "a")
