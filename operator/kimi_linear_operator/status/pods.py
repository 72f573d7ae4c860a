"""What pods tell: why a pod does not serve, and how its containers last ended."""

import re
from collections.abc import Iterable, Iterator, Sequence

from kimi_linear_operator import engine
from kimi_linear_operator.api import Manifest
from kimi_linear_operator.api.server import Failure
from kimi_linear_operator.status.conditions import Cause

# Most telling first: with several pods in trouble, the first of these is reported.
BY_SEVERITY = (
    "SecretMissing",
    "ContainerConfigInvalid",
    "ImagePullFailed",
    "OutOfMemory",
    "CrashLooping",
    "NotResponding",
    "PodFailed",
    "Unschedulable",
    "Starting",
    "ModelLoading",
)
_IMAGE_REASONS = ("ErrImageNeverPull", "ErrImagePull", "ImageInspectError", "ImagePullBackOff", "InvalidImageName")
_MISSING_SECRET = re.compile("secret .*not found|find key .* in secret", re.IGNORECASE)
_CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
# What PyTorch says when GPU memory runs out at work, and SGLang (model_runner.py) when the weights leave none.
_GPU_REMEDIES = {
    re.compile("(HIP|CUDA) out of memory"): "lower engine.memoryFractionStatic or raise tensorParallelism",
    re.compile("Not enough memory"): "raise engine.memoryFractionStatic or tensorParallelism",
}
_SECRETS = re.compile(
    r"()hf_[A-Za-z0-9]{8,}|(bearer )\S+"
    r"|((?:api[_-]?key|token|password)[\"']?\s*[=:]\s*[\"']?|--[a-z-]*(?:key|token|password)\s+)[^\s\"',)]+",
    re.IGNORECASE,
)
_LONGEST_QUOTE = 400


def worst_cause(pods: Iterable[Manifest]) -> Cause | None:
    """Return why the pod in the worst trouble does not serve, or None if all do."""
    living = list(_living(pods))
    # A pod that failed stays for the record; while others are there, they tell how things are.
    current = [pod for pod in living if pod.get("status", {}).get("phase") != "Failed"] or living
    causes = [cause for pod in current if (cause := _cause(pod))]
    return min(causes, key=lambda cause: BY_SEVERITY.index(cause.reason), default=None)


def last_failure(pods: Iterable[Manifest], previous: Manifest | None) -> Manifest | None:
    """Return how a container last ended with an error, from these pods or as it was known before."""
    failures = [failure.model_dump(by_alias=True) for pod in _living(pods) for failure in _failures(pod)]
    known = [previous] if previous else []
    return max([*failures, *known], key=lambda failure: str(failure.get("time", "")), default=None)


def _living(pods: Iterable[Manifest]) -> Iterator[Manifest]:
    """Leave out pods that are being deleted: how those end says nothing about the server."""
    return (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])


def _cause(pod: Manifest) -> Cause | None:
    status = pod.get("status", {})
    name = pod["metadata"]["name"]
    conditions = {item["type"]: item for item in status.get("conditions", ())}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    if status.get("phase") == "Failed":
        return Cause("PodFailed", f"pod {name}: {status.get('reason', 'Failed')}: {_quoted(status.get('message', ''))}")
    if conditions.get("PodScheduled", {}).get("reason") == "Unschedulable":
        # What follows is about preemption, which only matters to those who use priorities.
        message = conditions["PodScheduled"].get("message", "").split(" preemption: ")[0]
        return Cause("Unschedulable", f"pod {name}: {message}")
    for container in _containers(status):
        if cause := _container_cause(name, container):
            return cause
    return _unready_cause(name, status.get("containerStatuses", ()))


def _unready_cause(pod: str, containers: Sequence[Manifest]) -> Cause:
    """Return why a pod in which nothing is wrong is not ready."""
    running = [container for container in containers if "running" in container.get("state", {})]
    unready = [container["name"] for container in running if not container.get("ready")]
    started = [container["name"] for container in running if container.get("started")]
    if engine.CONTAINER in unready and engine.CONTAINER not in started:
        return Cause("ModelLoading", f"pod {pod} is loading the model")
    if len(running) == len(containers) and unready:
        return Cause("NotResponding", f"pod {pod}: {', '.join(unready)} runs, but does not answer its readiness probe")
    return Cause("Starting", f"pod {pod} is being started: its image is pulled and its volumes are mounted")


def _containers(status: Manifest) -> Sequence[Manifest]:
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def _container_cause(pod: str, container: Manifest) -> Cause | None:
    """Return what keeps a container from running, in words that stay the same while the kubelet tries again."""
    where = f"pod {pod}, container {container['name']}"
    waiting = container.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _IMAGE_REASONS:
        # "Back-off pulling image ...: ErrImagePull: DETAIL" and "DETAIL" alternate.
        return Cause("ImagePullFailed", f"{where}: image {container['image']}: {message.split('ErrImagePull: ')[-1]}")
    if reason in _CONFIG_REASONS:
        return Cause(
            "SecretMissing" if _MISSING_SECRET.search(message) else "ContainerConfigInvalid", f"{where}: {message}"
        )
    ended = _terminated(container)
    if ended and (reason == "CrashLoopBackOff" or (ended["exitCode"] != 0 and "terminated" in container["state"])):
        return _crash_cause(where, ended)
    return None


def _crash_cause(where: str, ended: Manifest) -> Cause:
    if ended.get("reason") == "OOMKilled":
        remedy = "raise its memory limit with podTemplate, or use nodes with more memory"
        return Cause("OutOfMemory", f"{where}: killed for its use of memory (OOMKilled): {remedy}")
    message = ended.get("message", "")
    for pattern, remedy in _GPU_REMEDIES.items():
        if found := pattern.search(message):
            quote = redacted(message[found.start() :])[:_LONGEST_QUOTE]
            return Cause("OutOfMemory", f"{where}: out of GPU memory; {remedy}: {quote}")
    return Cause("CrashLooping", f"{where}: exit code {ended['exitCode']} ({ended.get('reason')}): {_quoted(message)}")


def _failures(pod: Manifest) -> Iterator[Failure]:
    for container in _containers(pod.get("status", {})):
        ended = _terminated(container)
        if ended and ended["exitCode"] != 0 and ended.get("finishedAt"):
            yield Failure.model_construct(
                pod=pod["metadata"]["name"],
                container=container["name"],
                reason=ended.get("reason", "Error"),
                exit_code=ended["exitCode"],
                message=_quoted(ended.get("message", "")),
                time=ended["finishedAt"],
            )


def _terminated(container: Manifest) -> Manifest | None:
    for state in ("state", "lastState"):
        if ended := container.get(state, {}).get("terminated"):
            return dict(ended)
    return None


def _quoted(text: str) -> str:
    """Return the end of a log, where the cause mostly is."""
    return redacted(text)[-_LONGEST_QUOTE:]


def redacted(text: str) -> str:
    """Return a log as one line without what looks like a secret: a status is read by many."""
    line = " | ".join(part.strip() for part in text.splitlines() if part.strip())
    return _SECRETS.sub(lambda found: f"{found[1] or found[2] or found[3] or ''}[redacted]", line)
