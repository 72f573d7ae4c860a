"""The start of a replica in phases: when each phase began, and whether the current phase takes longer than usual."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kimi_linear_operator.kubernetes.goal import Progress
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import is_being_deleted
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.server.deployment import IMAGE_PULL_SECONDS

SERVING = "serving"
PHASES = ("scheduled", "image", "preflight", "weights", "loading", "compiling", "warm-up", SERVING)
"""The phases in the order in which they begin."""

# The init container that checks the pod before the engine starts.
_PREFLIGHT_CONTAINER = "preflight"


@dataclass(frozen=True)
class Expectation:
    """How long a phase usually takes.

    Attributes:
        usual: How long it usually takes, in words, with the source of the number.
        look: What to check if it takes longer. `POD` stands for the name of the pod.
        seconds: After how many seconds the phase is late, None for half of `spec.startup.timeoutSeconds`. A phase of
            the engine is late after this half at the latest. The timeout does not include the phases before the engine
            starts.
        is_before_engine: Whether the phase is over when the engine's container starts.
    """

    usual: str
    look: str
    seconds: int | None = None
    is_before_engine: bool = False

    def limit(self, timeout_seconds: int) -> int:
        """Return after how many seconds the phase is late.

        Args:
            timeout_seconds: `spec.startup.timeoutSeconds`.
        """
        if self.is_before_engine and self.seconds:
            return self.seconds
        half = timeout_seconds // 2
        return min(self.seconds, half) if self.seconds else half


_LOG = f"`kubectl logs POD -c {ENGINE_CONTAINER}`"

# Two phases have no entry: `waits` reports volumes that are not mounted, and the preflight has its own limits.
EXPECTED: Mapping[str, Expectation] = {
    # The size is that of SGLang's images for ROCm.
    "image": Expectation(
        "an image of tens of gigabytes takes up to 15 minutes",
        "`kubectl describe pod POD`, and the connection from the node to the registry",
        IMAGE_PULL_SECONDS,
        is_before_engine=True,
    ),
    # 98 GB of weights need 784 s at 1 Gbit/s. On four H200, SGLang 0.5.17 needed 52 s until it began to load weights
    # from the disk.
    "weights": Expectation(
        "a download of 98 GB takes 13 minutes at 1 Gbit/s; with the weights on a volume, the phase takes about a "
        "minute",
        f"{_LOG}, which shows the progress, and the connection to the model hub; a volume with the name cache keeps "
        "the weights",
    ),
    # 98 GB at 1 GB/s.
    "loading": Expectation(
        "98 GB take 2 minutes from a disk that reads 1 GB/s",
        f"{_LOG}, and the read speed of the volume with the name cache",
    ),
    # 42 s on four H200 with SGLang 0.5.17. SGLang's log says that it can take several minutes (model_runner.py).
    "compiling": Expectation(
        "it took 42 s on four H200, and according to SGLang several minutes are normal",
        f"{_LOG}; a volume named kernels keeps compiled kernels",
        600,
    ),
    # 55 s on four H200 with SGLang 0.5.17. The limit is SGLang's own default for the warm-up (http_server.py).
    "warm-up": Expectation(
        "it took 55 s on four H200; it includes the compilation of kernels that are not in the image",
        f"{_LOG}; a volume named kernels keeps compiled kernels",
        600,
    ),
}


@dataclass(frozen=True)
class LoggedPhases:
    """What the log of an engine shows about a start.

    Attributes:
        pod_uid: The UID of the pod.
        started_at: When the engine's container started, as the kubelet reports it.
        times: When each phase began.
    """

    pod_uid: str
    started_at: str
    times: Mapping[str, str]


def newest_pod(pods: Iterable[Manifest]) -> Manifest | None:
    """Return the pod whose start the status describes: the pod that was created last. None without such a pod.

    Pods that are being deleted do not count. Failed pods do not count either, because Kubernetes does not start them
    again. If pods were created in the same second, the last one by name is returned, so that the choice stays the same.
    """
    kept = [pod for pod in pods if not is_being_deleted(pod) and pod.get("status", {}).get("phase") != "Failed"]
    return max(
        kept, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]), default=None
    )


def engine_of(pod: Manifest) -> Manifest:
    """Return the state of the engine's container, empty if the kubelet has not reported it."""
    return _container(pod, "containerStatuses", ENGINE_CONTAINER)


def running_since(pod: Manifest) -> str | None:
    """Return when the engine's running container started, None if it does not run."""
    started: str | None = engine_of(pod).get("state", {}).get("running", {}).get("startedAt")
    return started


def is_starting(pod: Manifest) -> bool:
    """Return whether the engine runs, but has not served since its container started."""
    return running_since(pod) is not None and not engine_of(pod).get("started")


def startup_status(pods: Iterable[Manifest], logged: LoggedPhases | None, previous: Manifest | None) -> Manifest | None:
    """Return `status.startup`, None before the newest pod has a node.

    A recorded time does not change. So a phase stays when it is no longer in the log, and nothing is written twice.
    Without pods, the last start stays if it was complete.

    Args:
        pods: The server's pods.
        logged: What the log of the newest pod says, None if it was not read.
        previous: The stored `status.startup`, None if there is none.
    """
    pod = newest_pod(pods)
    if pod is None:
        return previous if previous and previous["phase"] == SERVING else None
    began = _started_at(pod)
    recorded = _times(previous) if previous and previous["pod"] == pod["metadata"]["name"] else {}
    is_first = not engine_of(pod).get("restartCount")
    is_same_start = recorded.get("weights") == began or (is_first and "weights" not in recorded)
    told = _logged_times(pod, began, logged)
    times = {**_reported_times(pod, began), **told, **(recorded if is_same_start else {})}
    phases = [{"name": name, "time": times[name]} for name in PHASES if times.get(name)]
    return {"pod": pod["metadata"]["name"], "phase": phases[-1]["name"], "phases": phases} if phases else None


def seconds_to_serve(previous: Manifest | None, current: Manifest | None) -> float | None:
    """Return how long a start took if it has just become complete, None otherwise.

    The time counts from the first phase. For a new pod, this is the time when it got its node. For a restarted
    container, it is the start of the container.
    """
    if not previous or not current or current["phase"] != SERVING or previous["phase"] == SERVING:
        return None
    is_same_start = previous["pod"] == current["pod"] and previous["phases"][:1] == current["phases"][:1]
    times = [phase["time"] for phase in current["phases"]]
    return seconds_between(times[0], times[-1]) if is_same_start else None


def describe(startup: Manifest, timeout_seconds: int, now: str) -> str:
    """Return the current phase of a start in words. For a late phase, add how long it usually takes, and what to check.

    Args:
        startup: The start, as in the status.
        timeout_seconds: `spec.startup.timeoutSeconds`.
        now: The time as RFC 3339. The words change only once, when the phase becomes late.
    """
    began = startup["phases"][-1]["time"]
    text = f"phase {startup['phase']} since {began}"
    expected = EXPECTED.get(startup["phase"])
    if expected is None or (seconds_between(began, now) or 0.0) < expected.limit(timeout_seconds):
        return text
    look = expected.look.replace("POD", startup["pod"])
    return f"{text}, longer than {_in_words(expected.limit(timeout_seconds))}: {expected.usual}. Look at {look}"


def seconds_until_late(startup: Manifest | None, timeout_seconds: int, now: str) -> float | None:
    """Return the seconds until the current phase is late, None if it is already late or has no limit."""
    expected = EXPECTED.get(startup["phase"]) if startup else None
    if not startup or not expected:
        return None
    passed = seconds_between(startup["phases"][-1]["time"], now) or 0.0
    left = expected.limit(timeout_seconds) - passed
    return left if left > 0 else None


def progress(status: Manifest) -> Progress | None:
    """Return the progress of the start in a server's status, None without a start."""
    startup = status.get("startup")
    if not startup:
        return None
    # Another version may know more phases.
    name = startup["phase"] if startup["phase"] in PHASES else PHASES[0]
    return Progress(PHASES.index(name), len(PHASES) - 1, startup["phase"])


def _reported_times(pod: Manifest, began: str | None) -> dict[str, str | None]:
    """Return the times of the phases that the kubelet reports.

    The phases before the start of the engine belong only to the first start of a pod.
    """
    status = pod.get("status", {})
    preflight = _container(pod, "initContainerStatuses", _PREFLIGHT_CONTAINER)
    before = {
        "scheduled": _true_since(status, "PodScheduled"),
        "image": _true_since(status, "PodReadyToStartContainers"),
        "preflight": _container_start(preflight),
    }
    ready = _true_since(status, "Ready") if running_since(pod) else None
    is_current = ready is not None and (began is None or (seconds_between(began, ready) or 0.0) >= 0)
    return {
        **({} if engine_of(pod).get("restartCount") else before),
        "weights": began,
        SERVING: ready if is_current else None,
    }


def _logged_times(pod: Manifest, began: str | None, logged: LoggedPhases | None) -> Mapping[str, str]:
    """Return the times of the phases that the log of this start shows."""
    if logged is None or (logged.pod_uid, logged.started_at) != (pod["metadata"]["uid"], began):
        return {}
    return {name: time for name, time in logged.times.items() if (seconds_between(began, time) or 0.0) >= 0}


def _times(startup: Manifest) -> dict[str, str]:
    return {phase["name"]: phase["time"] for phase in startup["phases"]}


def _started_at(pod: Manifest) -> str | None:
    """Return when the engine's container started last, None if it has never started."""
    return _container_start(engine_of(pod))


def _container_start(container: Manifest) -> str | None:
    states: Sequence[Manifest] = (container.get("state", {}), container.get("lastState", {}))
    starts = (state.get(name, {}).get("startedAt") for state in states for name in ("running", "terminated"))
    return next((start for start in starts if start), None)


def _container(pod: Manifest, group: str, name: str) -> Manifest:
    return next((dict(item) for item in pod.get("status", {}).get(group, ()) if item["name"] == name), {})


def _true_since(status: Manifest, condition: str) -> str | None:
    """Return the time since which a condition of a pod is True, None if it is not True."""
    times = (
        item.get("lastTransitionTime")
        for item in status.get("conditions", ())
        if (item["type"], item["status"]) == (condition, "True")
    )
    return next(times, None)


def _in_words(seconds: int) -> str:
    return f"{seconds // 60} minutes" if seconds >= 120 else f"{seconds} s"
