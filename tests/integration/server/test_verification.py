"""Servers whose answers are verified: gates, stored results, and wrong answers with Warn, Block and Rollback.

The test plays the kubelet: it says which pods could serve, and with which numbers a benchmark's client has ended.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from integration.client import QUOTA
from integration.client_pods import LOW, create_benchmark, end_suite, running_pod
from integration.gated_pods import address_of, is_open, report
from integration.kubelet import HELD
from integration.namespace import Namespace, Spec
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import BENCHMARK, EVENT, POD, REVISION, Manifest
from kimi_linear_operator.server.labels import SERVER_LABEL

pytestmark = pytest.mark.usefixtures("operator")

_QUESTIONS = 200


def verified_spec(mode: str, **more: Any) -> Spec:
    """A server. Its pods and the pods of its benchmarks wait for the test."""
    options = {"mode": mode, **more.pop("verification", {})}
    return {"verification": options, "inheritedMetadata": {"annotations": {HELD: "true"}}, **more}


def benchmarks(namespace: Namespace) -> list[Manifest]:
    return namespace.client.list(BENCHMARK, namespace.name, {"labelSelector": f"{SERVER_LABEL}=kimi"})


def benchmark(namespace: Namespace) -> Manifest:
    [found] = wait_for(lambda: benchmarks(namespace), "there is one benchmark", lambda found: len(found) == 1)
    return dict(found)


def answer(namespace: Namespace, accuracy: float) -> None:
    """Let the accuracy client of the only benchmark end with this share of right answers."""
    metrics = {"accuracy": accuracy, "invalid": 0.0, "latency": 12.0, "output_throughput": 3000.0}
    counts = {"requested": _QUESTIONS, "completed": _QUESTIONS}
    message = json.dumps({"outcome": "Succeeded", "message": "", **counts, "metrics": metrics})
    end_suite(namespace, benchmark(namespace)["metadata"]["name"], "accuracy", message)


def event_about(namespace: Namespace, reason: str) -> Manifest:
    """The first Event with this reason, which comes after the status."""
    return wait_for(lambda: namespace.events("kimi", reason), f"an Event {reason}")[0]


def living(namespace: Namespace) -> list[Manifest]:
    return [pod for pod in namespace.pods("kimi") if "deletionTimestamp" not in pod["metadata"]]


def pods_on_nodes(namespace: Namespace, number: int) -> list[Manifest]:
    return wait_for(
        lambda: living(namespace),
        f"{number} pods on nodes",
        lambda pods: len(pods) == number and all("nodeName" in pod["spec"] for pod in pods),
    )


def serve(namespace: Namespace, number: int) -> None:
    """Report all pods until all gates are open and the server is Ready."""
    for pod in pods_on_nodes(namespace, number):
        report(namespace, pod)
    wait_for(lambda: living(namespace), "all gates are open", lambda pods: all(map(is_open, pods)))
    for pod in living(namespace):
        report(namespace, pod)
    namespace.wait_until_ready("kimi")


def verify(namespace: Namespace, accuracy: float, replicas: int = 1) -> None:
    for pod in pods_on_nodes(namespace, replicas):
        report(namespace, pod)
    answer(namespace, accuracy)


def test_one_pod_is_verified_and_then_all_pods_with_its_template_serve_at_once(namespace: Namespace) -> None:
    namespace.create_server("kimi", verified_spec("Block", replicas=2))
    pods = pods_on_nodes(namespace, 2)
    stays(lambda: benchmarks(namespace), "there is no benchmark before a pod could serve", lambda found: not found, 2)
    for pod in pods:
        report(namespace, pod)
    made = benchmark(namespace)
    addresses = {f"http://{pod['status']['podIP']}:30000" for pod in living(namespace)}
    assert made["spec"]["endpoint"]["url"] in addresses
    namespace.wait_for_condition("kimi", "Ready", "False", "Verifying")
    assert namespace.condition("kimi", "Verified")["status"] == "Unknown"
    running_pod(namespace, made["metadata"]["name"], "accuracy")
    assert not any(map(is_open, living(namespace)))
    answer(namespace, 0.7)
    serve(namespace, 2)
    verified = namespace.wait_for_condition("kimi", "Verified", "True", "Verified")
    assert made["metadata"]["name"] in verified["message"]
    # Another replica and another operator need no second run.
    namespace.change_server("kimi", {"replicas": 3})
    serve(namespace, 3)
    assert [item["metadata"]["uid"] for item in benchmarks(namespace)] == [made["metadata"]["uid"]]
    event = event_about(namespace, "Verified")
    assert event["type"] == "Normal"


def measure_for_days(guests: Namespace, url: str) -> None:
    """Let a benchmark measure an address for up to seven days."""
    create_benchmark(guests, "guest", serverRef=None, endpoint={"url": url}, suites=LOW, timeoutSeconds=604_800)
    running_pod(guests, "guest", "speed-low")


def test_a_benchmark_of_another_namespace_does_not_block_the_verification_of_a_pod(
    namespace: Namespace, other_namespace: Namespace
) -> None:
    namespace.create_server("kimi", verified_spec("Block"))
    [pod] = pods_on_nodes(namespace, 1)
    measure_for_days(other_namespace, f"http://{address_of(pod)}:30000")
    verify(namespace, 0.7)
    serve(namespace, 1)
    namespace.wait_for_condition("kimi", "Verified", "True", "Verified")


def test_no_benchmark_of_another_namespace_keeps_a_server_from_being_verified(
    namespace: Namespace, other_namespace: Namespace
) -> None:
    namespace.create_server("kimi", verified_spec("Warn"))
    [pod] = pods_on_nodes(namespace, 1)
    measure_for_days(other_namespace, f"http://kimi.{namespace.name}.svc:30000")
    report(namespace, pod)
    answer(namespace, 0.7)
    namespace.wait_for_condition("kimi", "Verified", "True", "Verified")


def test_wrong_answers_keep_the_gates_closed_and_are_reported(namespace: Namespace) -> None:
    namespace.create_server("kimi", verified_spec("Block"))
    verify(namespace, 0.3)
    ready = namespace.wait_for_condition("kimi", "Ready", "False", "VerificationFailed")
    assert "accuracy is 0.3" in ready["message"]
    namespace.wait_for_condition("kimi", "Stalled", "True", "VerificationFailed")
    stays(lambda: living(namespace), "the gate stays closed", lambda pods: not any(map(is_open, pods)), 3)
    event = event_about(namespace, "VerificationFailed")
    assert event["type"] == "Warning"


def test_wrong_answers_roll_back_once_to_the_verified_template(namespace: Namespace) -> None:
    namespace.create_server("kimi", verified_spec("Block", verification={"onFailure": "Rollback"}))
    verify(namespace, 0.7)
    serve(namespace, 1)
    [old] = living(namespace)
    namespace.change_server("kimi", {"engine": {"contextLength": 131072}})
    wait_for(
        lambda: living(namespace), "there is a new pod", lambda pods: pods and pods[0]["metadata"]["uid"] != _uid(old)
    )
    wait_for(lambda: benchmarks(namespace), "the old benchmark is gone", lambda found: not found)
    verify(namespace, 0.3)
    namespace.wait_for_condition("kimi", "TemplateCurrent", "False", "RolledBack")
    label = old["metadata"]["labels"]["kimi-linear.io/template"]

    def has_old_template(pods: list[Manifest]) -> bool:
        return [pod["metadata"]["labels"]["kimi-linear.io/template"] for pod in pods] == [label]

    wait_for(lambda: living(namespace), "there is a pod with the old template", has_old_template)
    # The pod serves without another verification, and the failed template is not tried again.
    serve(namespace, 1)
    assert namespace.condition("kimi", "Verified")["status"] == "False"
    template = namespace.deployment("kimi")["spec"]["template"]
    namespace.edit(POD, living(namespace)[0]["metadata"]["name"], {"metadata": {"labels": {"touched": "yes"}}})
    stays(
        lambda: namespace.deployment("kimi")["spec"]["template"],
        "the pod template stays",
        lambda now: now == template,
        3,
    )
    # Both templates are kept. The next change makes a third template.
    records = namespace.client.list(REVISION, namespace.name, {"labelSelector": f"{SERVER_LABEL}=kimi"})
    assert len(records) == 2
    namespace.change_server("kimi", {"engine": {"contextLength": 65536}})
    wait_for(
        lambda: living(namespace),
        "there is a pod with another template",
        lambda pods: bool(pods) and not has_old_template(pods),
    )
    verify(namespace, 0.7)
    serve(namespace, 1)
    namespace.wait_for_condition("kimi", "TemplateCurrent", "True", "Newest")
    namespace.wait_for_condition("kimi", "Verified", "True", "Verified")


def _uid(pod: Manifest) -> str:
    return str(pod["metadata"]["uid"])


def test_with_warn_the_server_serves_and_only_the_condition_reports_wrong_answers(namespace: Namespace) -> None:
    namespace.create_server("kimi", verified_spec("Warn"))
    [pod] = pods_on_nodes(namespace, 1)
    assert "readinessGates" not in pod["spec"]
    report(namespace, pod)
    namespace.wait_until_ready("kimi")
    assert benchmark(namespace)["spec"]["serverRef"] == {"name": "kimi"}
    answer(namespace, 0.3)
    namespace.wait_for_condition("kimi", "Verified", "False", "VerificationFailed")
    assert namespace.condition("kimi", "Ready")["status"] == "True"
    event = event_about(namespace, "VerificationFailed")
    assert event["type"] == "Warning"
    # Without verification, the benchmark and the condition are removed, and the pod stays.
    namespace.change_server("kimi", {"verification": {"mode": "Off"}})
    wait_for(lambda: benchmarks(namespace), "the benchmark is gone", lambda found: not found)
    wait_for(lambda: namespace.condition("kimi", "Verified"), "the condition is gone", lambda found: not found)
    assert [_uid(item) for item in living(namespace)] == [_uid(pod)]


def delete_benchmark(namespace: Namespace, name: str) -> None:
    namespace.delete(BENCHMARK, name)


def let_an_hour_pass(namespace: Namespace, name: str) -> None:
    """Move the end of a benchmark into the past."""
    namespace.client.patch(
        BENCHMARK, namespace.name, name, {"status": {"completionTime": "2026-11-24T09:30:00Z"}}, "status"
    )


@pytest.mark.parametrize("tried_again", [delete_benchmark, let_an_hour_pass])
def test_an_impossible_verification_is_unknown_and_can_be_tried_again(
    namespace: Namespace, tried_again: Callable[[Namespace, str], None]
) -> None:
    namespace.create_server("kimi", verified_spec("Block"))
    [pod] = pods_on_nodes(namespace, 1)
    report(namespace, pod)
    first = benchmark(namespace)
    said = {"outcome": "Failed", "message": "The dataset is not in the pod.", "requested": _QUESTIONS, "completed": 0}
    for _ in range(2):  # spec.backoffLimit is 1.
        end_suite(namespace, first["metadata"]["name"], "accuracy", json.dumps({**said, "metrics": {}}), exit_code=1)
    verified = namespace.wait_for_condition("kimi", "Verified", "Unknown", "VerificationImpossible", seconds=60)
    assert "The dataset is not in the pod" in verified["message"]
    assert not is_open(living(namespace)[0])
    tried_again(namespace, first["metadata"]["name"])
    again = wait_for(
        lambda: benchmarks(namespace),
        "there is another benchmark",
        lambda found: [_uid(item) for item in found] not in ([], [_uid(first)]),
    )
    assert len(again) == 1
    answer(namespace, 0.7)
    serve(namespace, 1)


@pytest.mark.parametrize("has_ended", [True, False], ids=["the old benchmark had no result", "the old benchmark runs"])
def test_after_a_change_of_the_verification_the_new_questions_are_asked(
    namespace: Namespace, *, has_ended: bool
) -> None:
    namespace.create_server("kimi", verified_spec("Block"))
    [pod] = pods_on_nodes(namespace, 1)
    report(namespace, pod)
    first = benchmark(namespace)
    former = running_pod(namespace, first["metadata"]["name"], "accuracy")
    if has_ended:
        said = {"outcome": "Failed", "message": "The dataset is not in the pod.", "requested": 0, "completed": 0}
        for _ in range(2):  # spec.backoffLimit is 1.
            message = json.dumps({**said, "metrics": {}})
            end_suite(namespace, first["metadata"]["name"], "accuracy", message, exit_code=1)
        namespace.wait_for_condition("kimi", "Verified", "Unknown", "VerificationImpossible", seconds=60)
    namespace.change_server("kimi", {"verification": {"dataset": {"configMap": "questions", "path": "test.jsonl"}}})
    again = wait_for(
        lambda: benchmarks(namespace),
        "there is a benchmark with the new questions",
        lambda found: [_uid(item) for item in found] not in ([], [_uid(first)]),
    )
    [another] = again
    assert another["spec"]["datasets"]["gsm8k"]["configMap"] == "questions"
    # The former client may still be there, because Kubernetes deletes it some time after its benchmark.
    wait_for(
        lambda: _uid(running_pod(namespace, another["metadata"]["name"], "accuracy")),
        "the new benchmark has a client",
        _uid(former).__ne__,
    )
    answer(namespace, 0.7)
    serve(namespace, 1)
    assert [_uid(item) for item in living(namespace)] == [_uid(pod)]


def test_a_benchmark_that_a_quota_refuses_makes_the_verification_unknown(namespace: Namespace) -> None:
    namespace.set_quota("none", {"count/kimilinearbenchmarks.kimi-linear.io": "0"})
    namespace.create_server("kimi", verified_spec("Block"))
    [pod] = pods_on_nodes(namespace, 1)
    report(namespace, pod)
    verified = namespace.wait_for_condition("kimi", "Verified", "Unknown", "VerificationImpossible")
    assert "the benchmark cannot be created: " in verified["message"]
    assert "exceeded quota: none" in verified["message"]
    assert not is_open(living(namespace)[0])
    # It is tried again by itself.
    namespace.delete(QUOTA, "none")
    answer(namespace, 0.7)
    serve(namespace, 1)


def test_a_client_that_does_not_start_makes_the_verification_unknown_with_the_cause(namespace: Namespace) -> None:
    namespace.create_server("kimi", verified_spec("Block"))
    [pod] = pods_on_nodes(namespace, 1)
    report(namespace, pod)
    client = running_pod(namespace, benchmark(namespace)["metadata"]["name"], "accuracy")
    container = {"name": "client", "image": "sglang", "imageID": "", "ready": False, "restartCount": 0}
    pulled = {**container, "state": {"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}}
    status = {"phase": "Pending", "containerStatuses": [pulled]}
    namespace.client.patch(POD, namespace.name, client["metadata"]["name"], {"status": status}, "status")
    verified = wait_for(
        lambda: namespace.condition("kimi", "Verified"),
        "the condition says why the client does not start",
        lambda found: "manifest unknown" in found.get("message", ""),
    )
    assert (verified["status"], verified["reason"]) == ("Unknown", "Verifying")
    assert not is_open(living(namespace)[0])
    # When its image is available, the client continues.
    answer(namespace, 0.7)
    serve(namespace, 1)


def test_a_pod_deleted_during_its_verification_is_replaced_and_the_successor_is_verified(namespace: Namespace) -> None:
    namespace.create_server("kimi", verified_spec("Block"))
    [pod] = pods_on_nodes(namespace, 1)
    report(namespace, pod)
    first = benchmark(namespace)
    namespace.delete(POD, pod["metadata"]["name"])
    wait_for(
        lambda: living(namespace), "the pod has a successor", lambda pods: [_uid(item) for item in pods] != [_uid(pod)]
    )
    [successor] = pods_on_nodes(namespace, 1)
    report(namespace, successor)
    wait_for(
        lambda: benchmarks(namespace),
        "there is a benchmark of the successor",
        lambda found: [item["metadata"]["name"] for item in found] not in ([], [first["metadata"]["name"]]),
    )
    answer(namespace, 0.7)
    serve(namespace, 1)


def test_verifications_cause_few_events(namespace: Namespace) -> None:
    namespace.create_server("kimi", verified_spec("Block"))
    verify(namespace, 0.7)
    serve(namespace, 1)
    event_about(namespace, "Verified")
    query = {"fieldSelector": "involvedObject.kind=KimiLinearServer,involvedObject.name=kimi"}
    reasons = [event["reason"] for event in namespace.client.list(EVENT, namespace.name, query)]
    # A pass creates one Event. So the Event for the result may replace the Event for Ready.
    assert sorted(reasons) in (["AllReplicasServe", "Verified"], ["Verified"])
