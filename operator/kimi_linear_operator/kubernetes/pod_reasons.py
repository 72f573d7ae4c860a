"""What pods tell: why a pod does not serve, and how its containers last ended."""

import re
from collections.abc import Iterable, Iterator, Sequence

from kimi_linear_operator import foreigntext
from kimi_linear_operator.kubernetes import crashes, waits
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Failure
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.reasons import ReasonName

# Most telling first: with several pods in trouble, the first of these is reported.
BY_SEVERITY: tuple[ReasonName, ...] = (
    "SecretMissing",
    "ContainerConfigInvalid",
    "ImagePullFailed",
    "OutOfMemory",
    "StartupTimedOut",
    "CrashLooping",
    "NodeLost",
    "NotResponding",
    "ReadinessGateClosed",
    "Evicted",
    "PodFailed",
    "VolumeNotMounted",
    "TerminationStuck",
    "NotScheduled",
    "Unschedulable",
    "Queued",
    "Starting",
    "ModelLoading",
)
_IMAGE_REASONS = ("ErrImageNeverPull", "ErrImagePull", "ImageInspectError", "ImagePullBackOff", "InvalidImageName")
_MISSING_SECRET = re.compile("secret .*not found|find key .* in secret", re.IGNORECASE)
_CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
# What the kubelet says of a pod that ended because its node was shut down: the pod has drained as in any deletion.
_NODE_SHUTDOWN = ("NodeShutdown", "Shutdown", "Terminated")


def worst_reason(pods: Iterable[Manifest], now: str) -> Reason | None:
    """Return why the pod in the worst trouble does not serve, or None if all do.

    Args:
        pods: The pods.
        now: The time as RFC 3339. A few causes are only told after a while: see `waits`.
    """
    everything = list(pods)
    living = [pod for pod in everything if "deletionTimestamp" not in pod["metadata"]]
    # A pod that failed stays for the record; while others are there, they tell how things are.
    current = [pod for pod in living if pod.get("status", {}).get("phase") != "Failed"] or living
    reasons = [reason for pod in current if (reason := _reason(pod, now))]
    reasons += [reason for pod in everything if (reason := waits.stuck_termination(pod, now))]
    return min(reasons, key=lambda reason: BY_SEVERITY.index(reason.name), default=None)


def last_failure(pods: Iterable[Manifest], previous: Manifest | None) -> Manifest | None:
    """Return how a container last ended with an error, from these pods or as it was known before."""
    failures = [failure.model_dump(by_alias=True) for pod in pods for failure in _failures(pod)]
    known = [previous] if previous else []
    return max([*failures, *known], key=lambda failure: str(failure.get("time", "")), default=None)


def _reason(pod: Manifest, now: str) -> Reason | None:
    status = pod.get("status", {})
    name = pod["metadata"]["name"]
    conditions = {item["type"]: item for item in status.get("conditions", ())}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    if status.get("phase") == "Failed":
        why = status.get("reason", "Failed")
        message = f"pod {name}: {why}: {foreigntext.one_line(status.get('message', ''))}"
        return Reason("Evicted" if why == "Evicted" else "PodFailed", message[: crashes.LONGEST_QUOTE])
    if reason := waits.for_scheduler(pod, conditions.get("PodScheduled", {}), now):
        return reason
    for container in _containers(status):
        if reason := _container_reason(pod, container):
            return reason
    return _unready_reason(pod, now)


def _unready_reason(pod: Manifest, now: str) -> Reason:
    """Return why a pod in which nothing has failed is not ready."""
    name = pod["metadata"]["name"]
    containers = pod.get("status", {}).get("containerStatuses", ())
    running = [container for container in containers if "running" in container.get("state", {})]
    unready = [container for container in running if not container.get("ready")]
    loading = [item for item in unready if item["name"] == ENGINE_CONTAINER and not item.get("started")]
    if loading:
        return Reason("ModelLoading", f"pod {name} is loading the model{crashes.history(pod, loading[0])}")
    if not running or len(running) < len(containers):
        return waits.for_containers(pod, now)
    if unready:
        names = ", ".join(container["name"] for container in unready)
        past = "".join(crashes.history(pod, container) for container in unready)
        return Reason("NotResponding", f"pod {name}: {names} runs, but does not answer its readiness probe{past}")
    return _outside_reason(pod)


def _outside_reason(pod: Manifest) -> Reason:
    """Return why a pod is not ready although its containers are: somebody else says so."""
    name, spec = pod["metadata"]["name"], pod.get("spec", {})
    states = {item["type"]: item["status"] for item in pod["status"].get("conditions", ())}
    gates = [gate["conditionType"] for gate in spec.get("readinessGates", ())]
    if closed := [gate for gate in gates if states.get(gate) != "True"]:
        return Reason("ReadinessGateClosed", f"pod {name}: its readiness gate {', '.join(closed)} is not open")
    if "Ready" not in states:
        return Reason("Starting", f"pod {name} runs, and is about to be ready")
    node = spec.get("nodeName", "unknown")
    return Reason(
        "NodeLost", f"pod {name}: its node {node} does not answer: repair it, or `kubectl delete node {node}`"
    )


def _containers(status: Manifest) -> Sequence[Manifest]:
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def _container_reason(pod: Manifest, container: Manifest) -> Reason | None:
    """Return what keeps a container from running, in words that stay the same while the kubelet tries again."""
    where = f"pod {pod['metadata']['name']}, container {container['name']}"
    waiting = container.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _IMAGE_REASONS:
        # "Back-off pulling image ...: ErrImagePull: DETAIL" and "DETAIL" alternate.
        return Reason("ImagePullFailed", f"{where}: image {container['image']}: {message.split('ErrImagePull: ')[-1]}")
    if reason in _CONFIG_REASONS:
        return Reason(
            "SecretMissing" if _MISSING_SECRET.search(foreigntext.head(message)) else "ContainerConfigInvalid",
            f"{where}: {message}",
        )
    ended = _terminated(container)
    if ended and (reason == "CrashLoopBackOff" or (ended["exitCode"] != 0 and "terminated" in container["state"])):
        return crashes.crash_reason(where, pod, container, ended)
    return None


def _failures(pod: Manifest) -> Iterator[Failure]:
    """Yield how a pod's containers ended with an error.

    The end of a pod that was deleted, or whose node was shut down, is none: SGLang 0.5.7 kills itself when it has
    drained, and so ends with 137. A node that ends a pod gives its reason in the pod's status.
    """
    status = pod.get("status", {})
    by_node = status.get("reason") if status.get("phase") == "Failed" else None
    if "deletionTimestamp" in pod["metadata"] or by_node in _NODE_SHUTDOWN:
        return
    for container in _containers(status):
        ended = _terminated(container)
        if not ended or ended["exitCode"] == 0 or not ended.get("finishedAt"):
            continue
        words = foreigntext.one_line(status.get("message", ""))[: crashes.LONGEST_QUOTE]
        yield Failure.model_construct(
            pod=pod["metadata"]["name"],
            container=container["name"],
            reason=by_node or ended.get("reason", "Error"),
            exit_code=ended["exitCode"],
            message=words if by_node else crashes.failure_message(pod, container, ended),
            time=ended["finishedAt"],
        )


def _terminated(container: Manifest) -> Manifest | None:
    for state in ("state", "lastState"):
        if ended := container.get(state, {}).get("terminated"):
            return dict(ended)
    return None
