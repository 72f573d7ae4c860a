"""Plays the kubelet of a benchmark's pods. They wait until a test says how SGLang's client has ended."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from integration.kubelet import HELD
from integration.namespace import Namespace, Spec, condition_of
from integration.waiting import PATIENCE_SECONDS, wait_for
from kimi_linear_operator.benchmark.labels import BENCHMARK_LABEL, SUITE_LABEL
from kimi_linear_operator.benchmark.recipe import PUBLISHED
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, EVENT, GROUP, JOB, POD, VERSION, Manifest

LOW = [{"name": "speed-low"}]
REQUESTS = {"speed-low": 10, "speed-medium": 80, "speed-high": 500, "gsm8k": 200}


def benchmark_manifest(name: str, namespace: str, spec: object) -> Manifest:
    """A KimiLinearBenchmark as a user writes it."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "KimiLinearBenchmark",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def create_benchmark(namespace: Namespace, name: str, **spec: Any) -> Manifest:
    """Create a benchmark of the server kimi whose pods wait for the test."""
    held: Spec = {"serverRef": {"name": "kimi"}, "podTemplate": {"metadata": {"annotations": {HELD: "true"}}}}
    return namespace.client.create(BENCHMARK, benchmark_manifest(name, namespace.name, held | spec))


def create_for_endpoint(namespace: Namespace, name: str, **spec: Any) -> Manifest:
    """Create a benchmark of an address that no other benchmark measures."""
    address = {"url": f"http://{name}.{namespace.name}.example.com"}
    return create_benchmark(namespace, name, **{"serverRef": None, "endpoint": address, "suites": LOW, **spec})


def change_benchmark(namespace: Namespace, name: str, **spec: Any) -> Manifest:
    return namespace.edit(BENCHMARK, name, {"spec": spec})


def benchmark(namespace: Namespace, name: str) -> Manifest:
    return namespace.existing(BENCHMARK, name)


def jobs(namespace: Namespace, name: str) -> dict[str, str]:
    """The suite and the UID of each Job of a benchmark, in the order of their creation."""
    found = namespace.client.list(JOB, namespace.name, {"labelSelector": f"{BENCHMARK_LABEL}={name}"})
    return {job["metadata"]["labels"][SUITE_LABEL]: job["metadata"]["uid"] for job in found}


def pods_made(namespace: Namespace, name: str) -> int:
    """The number of pods that the Jobs of a benchmark had. Events are counted, because they outlive Jobs and pods."""
    query = {"fieldSelector": "involvedObject.kind=Job,reason=SuccessfulCreate"}
    events = namespace.client.list(EVENT, namespace.name, query)
    return sum(event["involvedObject"]["name"].startswith(f"{name}-") for event in events)


def left_of(namespace: Namespace, name: str) -> set[str]:
    """The names of the Jobs, pods and ConfigMaps of a benchmark; for Jobs and pods, without the hashes."""
    query = {"labelSelector": f"{BENCHMARK_LABEL}={name}"}
    found = [item for kind in (JOB, POD, CONFIG_MAP) for item in namespace.client.list(kind, namespace.name, query)]
    return {item["metadata"]["name"] for item in found}


def wait_for_reason(
    namespace: Namespace, name: str, reason: str, seconds: float = PATIENCE_SECONDS, kind: str = "Succeeded"
) -> Manifest:
    """Wait until a condition has a reason; return the benchmark."""
    return wait_for(
        lambda: benchmark(namespace, name),
        f"{kind} of {name} says {reason}",
        lambda manifest: condition_of(manifest, kind).get("reason") == reason,
        seconds,
    )


def running_pod(namespace: Namespace, name: str, suite: str, seconds: float = PATIENCE_SECONDS) -> Manifest:
    """Wait for a running pod of a suite on a node."""
    selector = f"{BENCHMARK_LABEL}={name},{SUITE_LABEL}={suite}"

    def living() -> list[Manifest]:
        pods = namespace.client.list(POD, namespace.name, {"labelSelector": selector})
        return [
            pod for pod in pods if pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]
        ]

    [pod] = wait_for(
        living, f"a pod of {name} waits in suite {suite}", lambda pods: pods and "nodeName" in pods[0]["spec"], seconds
    )
    return dict(pod)


def end_all(namespace: Namespace) -> None:
    """Let every waiting client succeed, with the recipe's numbers."""
    for pod in namespace.client.list(POD, namespace.name, {"labelSelector": SUITE_LABEL}):
        if pod["status"]["phase"] == "Pending" and "nodeName" in pod["spec"]:
            labels = pod["metadata"]["labels"]
            end_suite(namespace, labels[BENCHMARK_LABEL], labels[SUITE_LABEL])


def result(suite: str, metrics: Mapping[str, float] | None = None, **more: Any) -> str:
    """The runner's message after a suite, with the recipe's numbers unless a test sets others."""
    asked = REQUESTS[suite]
    numbers = dict(PUBLISHED[suite]) if metrics is None else {**PUBLISHED[suite], **metrics}
    if "completed" in numbers and "completed" in more:
        numbers["completed"] = more["completed"]
    good = {"outcome": "Succeeded", "message": "", "requested": asked, "completed": asked, "metrics": numbers}
    return json.dumps(good | more)


def end_suite(namespace: Namespace, name: str, suite: str, message: str | None = None, exit_code: int = 0) -> None:
    """Let a suite's client end, with a message in place of the recipe's result."""
    pod = running_pod(namespace, name, suite)
    ended = ended_client(suite, message, exit_code)
    status = {"phase": "Failed" if exit_code else "Succeeded", "containerStatuses": [ended]}
    report(namespace, pod, status)


def report(namespace: Namespace, pod: Manifest, status: Manifest) -> None:
    """Report a pod's status as its kubelet would."""
    namespace.client.patch(POD, namespace.name, pod["metadata"]["name"], {"status": status}, "status")


def ended_client(suite: str, message: str | None = None, exit_code: int = 0) -> Manifest:
    """The status of a client's container that has ended."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = {
        "exitCode": exit_code,
        "reason": "Error" if exit_code else "Completed",
        "message": result(suite) if message is None else message,
        "startedAt": now,
        "finishedAt": now,
    }
    container = {"name": "client", "image": "sglang", "imageID": "", "ready": False, "restartCount": 0}
    return {**container, "state": {"terminated": ended}}
