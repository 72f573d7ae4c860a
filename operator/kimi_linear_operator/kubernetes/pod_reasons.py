"""What pods tell: why a pod does not serve, and how its containers last ended."""

import re
from collections.abc import Iterable, Iterator, Sequence

from kimi_linear_operator import foreigntext
from kimi_linear_operator.kubernetes import crashes, waits
from kimi_linear_operator.kubernetes.conditions import Cause
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Failure
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.reasons import Reason

# Most telling first: with several pods in trouble, the first of these is reported.
BY_SEVERITY: tuple[Reason, ...] = (
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


def worst_cause(pods: Iterable[Manifest], now: str) -> Cause | None:
    """Return why the pod in the worst trouble does not serve, or None if all do.

    Args:
        pods: The pods.
        now: The time as RFC 3339. A few causes are only told after a while: see `waits`.
    """
    everything = list(pods)
    living = [pod for pod in everything if "deletionTimestamp" not in pod["metadata"]]
    # A pod that failed stays for the record; while others are there, they tell how things are.
    current = [pod for pod in living if pod.get("status", {}).get("phase") != "Failed"] or living
    causes = [cause for pod in current if (cause := _cause(pod, now))]
    causes += [cause for pod in everything if (cause := waits.stuck_termination(pod, now))]
    return min(causes, key=lambda cause: BY_SEVERITY.index(cause.reason), default=None)


def last_failure(pods: Iterable[Manifest], previous: Manifest | None) -> Manifest | None:
    """Return how a container last ended with an error, from these pods or as it was known before."""
    failures = [failure.model_dump(by_alias=True) for pod in pods for failure in _failures(pod)]
    known = [previous] if previous else []
    return max([*failures, *known], key=lambda failure: str(failure.get("time", "")), default=None)


def _cause(pod: Manifest, now: str) -> Cause | None:
    status = pod.get("status", {})
    name = pod["metadata"]["name"]
    conditions = {item["type"]: item for item in status.get("conditions", ())}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    if status.get("phase") == "Failed":
        why = status.get("reason", "Failed")
        message = f"pod {name}: {why}: {foreigntext.one_line(status.get('message', ''))}"
        return Cause("Evicted" if why == "Evicted" else "PodFailed", message[: crashes.LONGEST_QUOTE])
    if cause := waits.for_scheduler(pod, conditions.get("PodScheduled", {}), now):
        return cause
    for container in _containers(status):
        if cause := _container_cause(pod, container):
            return cause
    return _unready_cause(pod, now)


def _unready_cause(pod: Manifest, now: str) -> Cause:
    """Return why a pod in which nothing has failed is not ready."""
    name = pod["metadata"]["name"]
    containers = pod.get("status", {}).get("containerStatuses", ())
    running = [container for container in containers if "running" in container.get("state", {})]
    unready = [container for container in running if not container.get("ready")]
    loading = [item for item in unready if item["name"] == ENGINE_CONTAINER and not item.get("started")]
    if loading:
        return Cause("ModelLoading", f"pod {name} is loading the model{crashes.history(pod, loading[0])}")
    if not running or len(running) < len(containers):
        return waits.for_containers(pod, now)
    if unready:
        names = ", ".join(container["name"] for container in unready)
        past = "".join(crashes.history(pod, container) for container in unready)
        return Cause("NotResponding", f"pod {name}: {names} runs, but does not answer its readiness probe{past}")
    return _outside_cause(pod)


def _outside_cause(pod: Manifest) -> Cause:
    """Return why a pod is not ready although its containers are: somebody else says so."""
    name, spec = pod["metadata"]["name"], pod.get("spec", {})
    states = {item["type"]: item["status"] for item in pod["status"].get("conditions", ())}
    gates = [gate["conditionType"] for gate in spec.get("readinessGates", ())]
    if closed := [gate for gate in gates if states.get(gate) != "True"]:
        return Cause("ReadinessGateClosed", f"pod {name}: its readiness gate {', '.join(closed)} is not open")
    if "Ready" not in states:
        return Cause("Starting", f"pod {name} runs, and is about to be ready")
    node = spec.get("nodeName", "unknown")
    return Cause("NodeLost", f"pod {name}: its node {node} does not answer: repair it, or `kubectl delete node {node}`")


def _containers(status: Manifest) -> Sequence[Manifest]:
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def _container_cause(pod: Manifest, container: Manifest) -> Cause | None:
    """Return what keeps a container from running, in words that stay the same while the kubelet tries again."""
    where = f"pod {pod['metadata']['name']}, container {container['name']}"
    waiting = container.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _IMAGE_REASONS:
        # "Back-off pulling image ...: ErrImagePull: DETAIL" and "DETAIL" alternate.
        return Cause("ImagePullFailed", f"{where}: image {container['image']}: {message.split('ErrImagePull: ')[-1]}")
    if reason in _CONFIG_REASONS:
        return Cause(
            "SecretMissing" if _MISSING_SECRET.search(foreigntext.head(message)) else "ContainerConfigInvalid",
            f"{where}: {message}",
        )
    ended = _terminated(container)
    if ended and (reason == "CrashLoopBackOff" or (ended["exitCode"] != 0 and "terminated" in container["state"])):
        return crashes.crash_cause(where, pod, container, ended)
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
