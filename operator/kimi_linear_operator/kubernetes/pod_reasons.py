"""Reasons of pods: why pods do not serve, and how a container last failed."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from kimi_linear_operator import foreigntext
from kimi_linear_operator.kubernetes import waits
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.crashes import Crash, history
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.log_quotes import LONGEST_QUOTE
from kimi_linear_operator.kubernetes.metadata import is_being_deleted
from kimi_linear_operator.kubernetes.models import Failure
from kimi_linear_operator.kubernetes.program import Program
from kimi_linear_operator.reasons import ReasonName

# The most helpful first: if several pods do not serve, the status reports the first of these reasons.
BY_SEVERITY: tuple[ReasonName, ...] = (
    "SecretMissing",
    "ContainerConfigInvalid",
    "ImagePullFailed",
    "PreflightFailed",
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
_PULL_REASONS = ("ErrImageNeverPull", "ErrImagePull", "ImageInspectError", "ImagePullBackOff", "InvalidImageName")
_MISSING_SECRET = re.compile("secret .*not found|find key .* in secret", re.IGNORECASE)
_CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
# The reasons that an engine may have when its GPU is gone.
_OF_LOST_DEVICES: tuple[ReasonName, ...] = ("CrashLooping", "NotResponding", "StartupTimedOut")
# A replica has at most eight GPUs. Their ids are PCI addresses of twelve characters.
_MOST_DEVICES = 8
_LONGEST_DEVICE = 64
# How many unready pods are examined. Quoting the log of a pod takes a millisecond, and a server can have hundreds of
# pods.
_MOST_EXAMINED = 16
# The kubelet's reasons for pods of a node that shuts down. Such a pod has drained, as after a deletion.
_NODE_SHUTDOWN = ("NodeShutdown", "Shutdown", "Terminated")


class _End(NamedTuple):
    """The last end of a container that failed.

    Attributes:
        pod: The pod.
        container: The status of the container.
        termination: Its terminated state.
    """

    pod: Manifest
    container: Manifest
    termination: Manifest


def worst_reason(pods: Iterable[Manifest], now: str, program: Program) -> Reason | None:
    """Return the worst reason why a pod does not serve, None if all pods serve.

    Args:
        pods: The pods. Of the pods that do not serve, only the first _MOST_EXAMINED are examined.
        now: The time as RFC 3339. A few reasons appear only after some time: see `waits`.
        program: The program in these pods.
    """
    pods = list(pods)
    kept = [pod for pod in pods if not is_being_deleted(pod)]
    # A failed pod is not removed when it is replaced. So it counts only if there is no other pod.
    current = [pod for pod in kept if pod.get("status", {}).get("phase") != "Failed"] or kept
    reasons = list(islice(filter(None, (_reason(pod, now, program) for pod in current)), _MOST_EXAMINED))
    reasons += [reason for pod in pods if (reason := waits.stuck_termination(pod, now))]
    return min(reasons, key=lambda reason: BY_SEVERITY.index(reason.name), default=None)


def last_failure(pods: Iterable[Manifest], previous: Manifest | None, program: Program) -> Manifest | None:
    """Return the latest failure of a container, from these pods or the previous status."""
    ends = (end for pod in pods for end in _failed_ends(pod))
    latest = max(ends, key=lambda end: str(end.termination["finishedAt"]), default=None)
    if latest is None or (previous and str(previous.get("time", "")) > str(latest.termination["finishedAt"])):
        return previous
    return _failure(latest, program).model_dump(by_alias=True)


def _reason(pod: Manifest, now: str, program: Program) -> Reason | None:
    status = pod.get("status", {})
    name = pod["metadata"]["name"]
    conditions = {item["type"]: item for item in status.get("conditions", ())}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    if status.get("phase") == "Failed":
        cause = status.get("reason", "Failed")
        message = f"pod {name}: {cause}: {foreigntext.one_line(status.get('message', ''))}"
        return Reason("Evicted" if cause == "Evicted" else "PodFailed", message[:LONGEST_QUOTE])
    if reason := waits.for_scheduler(pod, conditions.get("PodScheduled", {}), now):
        return reason
    reasons = (_container_reason(pod, container, program) for container in _containers(status))
    return _with_lost_devices(pod, next(filter(None, reasons), None) or _unready_reason(pod, now, program))


def _with_lost_devices(pod: Manifest, reason: Reason) -> Reason:
    """Return a reason. If a lost device can be the cause, the reason also names the unhealthy devices of the pod.

    Kubelets report unhealthy devices since Kubernetes 1.36. A kubelet does not end such a pod, and does not give it
    other devices.
    """
    lost = _lost_devices(pod) if reason.name in _OF_LOST_DEVICES else ()
    if not lost:
        return reason
    remedy = f"`kubectl delete pod {pod['metadata']['name']}` replaces it by a pod that can get other devices"
    return Reason(reason.name, f"{reason.message}; the node reports as unhealthy: {', '.join(lost)}: {remedy}")


def _lost_devices(pod: Manifest) -> Sequence[str]:
    """Return the devices that the kubelet reports as unhealthy, by resource and id, in a stable order."""
    lost = {
        f"{item['name']} {device['resourceID']}"[:_LONGEST_DEVICE]
        for container in _containers(pod.get("status", {}))
        for item in container.get("allocatedResourcesStatus", ())
        for device in item.get("resources", ())
        if device.get("health") == "Unhealthy"
    }
    return [foreigntext.one_line(device) for device in sorted(lost)[:_MOST_DEVICES]]


def _unready_reason(pod: Manifest, now: str, program: Program) -> Reason:
    """Return why a pod without failed containers is not ready."""
    name = pod["metadata"]["name"]
    containers = pod.get("status", {}).get("containerStatuses", ())
    running = [container for container in containers if "running" in container.get("state", {})]
    unready = [container for container in running if not container.get("ready")]
    loading = [item for item in unready if item["name"] == program.container and not item.get("started")]
    if loading:
        return Reason("ModelLoading", f"pod {name} is loading the model{history(pod, loading[0], program)}")
    if not running or len(running) < len(containers):
        return waits.for_containers(pod, now)
    if unready:
        names = ", ".join(container["name"] for container in unready)
        failures = "".join(history(pod, container, program) for container in unready)
        return Reason("NotResponding", f"pod {name}: {names} runs, but does not answer its readiness probe{failures}")
    return _gate_or_node_reason(pod)


def _gate_or_node_reason(pod: Manifest) -> Reason:
    """Return why a pod is not ready although its containers are ready: a readiness gate, or the pod's node."""
    name, spec = pod["metadata"]["name"], pod.get("spec", {})
    states = {item["type"]: item["status"] for item in pod["status"].get("conditions", ())}
    gates = [gate["conditionType"] for gate in spec.get("readinessGates", ())]
    if closed := [gate for gate in gates if states.get(gate) != "True"]:
        return Reason("ReadinessGateClosed", f"pod {name}: its readiness gate {', '.join(closed)} is not open")
    reasons = {item["type"]: item.get("reason") for item in pod["status"].get("conditions", ())}
    # The kubelet has not noticed yet that the last gate is open.
    if "Ready" not in states or reasons["Ready"] == "ReadinessGatesNotReady":
        return Reason("Starting", f"pod {name} runs, and is about to be ready")
    node = spec.get("nodeName", "unknown")
    return Reason(
        "NodeLost", f"pod {name}: its node {node} does not answer: repair it, or `kubectl delete node {node}`"
    )


def _containers(status: Manifest) -> Sequence[Manifest]:
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def _container_reason(pod: Manifest, container: Manifest, program: Program) -> Reason | None:
    """Return why a container does not run. The message stays the same while the kubelet retries."""
    where = f"pod {pod['metadata']['name']}, container {container['name']}"
    waiting = container.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _PULL_REASONS:
        # "Back-off pulling image ...: ErrImagePull: DETAIL" and "DETAIL" alternate.
        return Reason("ImagePullFailed", f"{where}: image {container['image']}: {message.split('ErrImagePull: ')[-1]}")
    if reason in _CONFIG_REASONS:
        return Reason(
            "SecretMissing" if _MISSING_SECRET.search(foreigntext.head(message)) else "ContainerConfigInvalid",
            f"{where}: {message}",
        )
    termination = _last_termination(container)
    if termination and (reason == "CrashLoopBackOff" or _has_failed_now(container, termination)):
        return Crash(pod, container, termination, program).reason(where)
    return None


def _has_failed_now(container: Manifest, termination: Manifest) -> bool:
    return termination["exitCode"] != 0 and "terminated" in container["state"]


def _failed_ends(pod: Manifest) -> Iterator[_End]:
    """Yield the last end of each container that failed.

    A deleted pod has not failed. A pod whose node was shut down has not failed, either. SGLang 0.5.7, for example,
    kills itself after it has drained, and so ends with exit code 137. If the node ended the pod, the reason is in the
    pod's status.
    """
    if is_being_deleted(pod) or _node_reason(pod) in _NODE_SHUTDOWN:
        return
    for container in _containers(pod.get("status", {})):
        termination = _last_termination(container)
        if termination and termination["exitCode"] != 0 and termination.get("finishedAt"):
            yield _End(pod, container, termination)


def _node_reason(pod: Manifest) -> str | None:
    """Return why the node ended a pod, None if it did not."""
    status = pod.get("status", {})
    return status.get("reason") if status.get("phase") == "Failed" else None


def _failure(end: _End, program: Program) -> Failure:
    pod, container, termination = end
    node_reason = _node_reason(pod)
    if node_reason:
        message = foreigntext.one_line(pod["status"].get("message", ""))[:LONGEST_QUOTE]
    else:
        message = Crash(pod, container, termination, program).message()
    return Failure.model_construct(
        pod=pod["metadata"]["name"],
        container=container["name"],
        reason=node_reason or termination.get("reason", "Error"),
        exit_code=termination["exitCode"],
        message=message,
        time=termination["finishedAt"],
    )


def _last_termination(container: Manifest) -> Manifest | None:
    for state in ("state", "lastState"):
        if termination := container.get(state, {}).get("terminated"):
            return dict(termination)
    return None
