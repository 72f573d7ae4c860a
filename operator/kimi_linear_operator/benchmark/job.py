"""The Jobs of a benchmark: one for each suite, with SGLang's own client in it."""

import hashlib
from importlib.resources import files

from kimi_linear_operator.benchmark import commands, load
from kimi_linear_operator.benchmark.labels import SUITE_LABEL, TARGET_ANNOTATION, TARGET_LABEL
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark, Suite
from kimi_linear_operator.benchmark.target import Target
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, Manifest
from kimi_linear_operator.kubernetes.models import DatasetFile
from kimi_linear_operator.kubernetes.overlay import merge
from kimi_linear_operator.kubernetes.queueing import put_into_queue
from kimi_linear_operator.server.sglang import entrypoint, environment
from kimi_linear_operator.weights.location import MOUNT

RESULTS_FOLDER = "/results"

_RUNNER = "runner.py"
# bench_serving uses a whole core. Python needs memory for the 600 MB of ShareGPT.
_REQUESTS = {"cpu": "1", "memory": "2Gi"}
# After SIGTERM, the runner needs this time to write its result.
_GRACE_SECONDS = 30


# SGLang publishes images for AMD GPUs only for this architecture.
_NODES = {"kubernetes.io/arch": "amd64"}
# Kubernetes puts a Job's name into a label of its pods.
_LONGEST_NAME = 63


def name(benchmark: KimiLinearBenchmark, suite: Suite) -> str:
    """Return the name of a suite's Job.

    No other benchmark has used this name, not even a deleted benchmark with the same name.

    Existing Jobs are found by owner and label instead, because earlier builds of the operator used other names.
    """
    return name_of(benchmark.metadata.uid, benchmark.metadata.name, suite.name)


def name_of(uid: str, benchmark: str, suite: str) -> str:
    """Return the name for a suite's Job, given the UID and name of the benchmark and the name of the suite."""
    text = "/".join((uid, benchmark, suite))
    end = f"-{suite}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return benchmark[: _LONGEST_NAME - len(end)] + end


def build_runner(benchmark: KimiLinearBenchmark) -> Manifest:
    """Return the ConfigMap with the program that runs a client.

    It also contains our own client, if a suite needs it.
    """
    needs_tool_calls = any(suite.tool_calls for suite in benchmark.spec.suites)
    names = (_RUNNER, *([commands.TOOL_CALLS] if needs_tool_calls else []))
    folder = files("kimi_linear_operator.benchmark")
    data = {name: folder.joinpath(name).read_text() for name in names}
    return metadata.build_manifest(benchmark, CONFIG_MAP, runner_name(benchmark), data=data)


def build_job(benchmark: KimiLinearBenchmark, suite: Suite, target: Target, snapshot: str = "{}") -> Manifest:
    """Return a suite's Job.

    Args:
        benchmark: The benchmark.
        suite: One of its suites.
        target: The target of the benchmark.
        snapshot: The state of the server before the suite, for an annotation of the Job.
    """
    labels = {SUITE_LABEL: suite.name, TARGET_LABEL: target.label}
    spec = {
        "backoffLimit": benchmark.spec.backoff_limit,
        "activeDeadlineSeconds": benchmark.spec.timeout_seconds,
        # The drain of a node does not count as a failure of the suite.
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [_DISRUPTED]}]},
        "template": _pod_template(benchmark, suite, target, labels),
    }
    job = metadata.build_manifest(benchmark, JOB, name(benchmark, suite), spec=spec)
    job["metadata"]["labels"] |= labels
    put_into_queue(job, benchmark.spec.queue_name)
    metadata.annotate(job, TARGET_ANNOTATION, snapshot)
    return job


_DISRUPTED = {"type": "DisruptionTarget", "status": "True"}


def own_pod_templates(benchmark: KimiLinearBenchmark) -> list[Manifest]:
    """Return the part of the pod template that does not depend on the target."""
    own: Manifest = {"metadata": metadata.inherited(benchmark), "spec": {"automountServiceAccountToken": False}}
    overlay = benchmark.spec.pod_template
    return [merge(own, overlay.changes() if overlay else {})]


def runner_name(benchmark: KimiLinearBenchmark) -> str:
    """Return the name of the ConfigMap with the runner."""
    return f"{benchmark.metadata.name}-runner"


def _pod_template(benchmark: KimiLinearBenchmark, suite: Suite, target: Target, labels: dict[str, str]) -> Manifest:
    template: Manifest = {"metadata": metadata.inherited(benchmark), "spec": _pod_spec(benchmark, suite, target)}
    template["metadata"]["labels"] |= labels
    overlay = benchmark.spec.pod_template
    return merge(template, overlay.changes()) if overlay else template


def _pod_spec(benchmark: KimiLinearBenchmark, suite: Suite, target: Target) -> Manifest:
    datasets = _datasets(benchmark)
    mounts = [*map(_dataset_mount, datasets), *([MOUNT] if target.location else [])]
    return {
        "containers": [_container(benchmark, suite, target, mounts)],
        "restartPolicy": "Never",
        "nodeSelector": _NODES,
        **target.pod,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [
            {"name": "runner", "configMap": {"name": runner_name(benchmark)}},
            {"name": "results", "emptyDir": {}},
            {"name": "cache", "emptyDir": {}},
            *({"name": f"dataset-{folder}", **_source(file)} for folder, file in datasets.items()),
            *([target.location.volume] if target.location else []),
        ],
    }


def _container(benchmark: KimiLinearBenchmark, suite: Suite, target: Target, mounts: list[Manifest]) -> Manifest:
    container: Manifest = {
        "name": commands.CONTAINER,
        "image": target.image,
        "args": _arguments(benchmark, suite, target),
        "workingDir": RESULTS_FOLDER,
        "env": [{"name": "HF_HOME", "value": f"{environment.CACHE_PATH}/huggingface"}, *target.environment],
        "resources": {"requests": _REQUESTS},
        # The image's user is root, and the Python packages are installed as root.
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "runner", "mountPath": commands.PROGRAM_FOLDER, "readOnly": True},
            {"name": "results", "mountPath": RESULTS_FOLDER},
            {"name": "cache", "mountPath": environment.CACHE_PATH},
            *mounts,
        ],
    }
    command = entrypoint.command(target.packages)
    return container | ({"command": command} if command else {})


def _arguments(benchmark: KimiLinearBenchmark, suite: Suite, target: Target) -> list[str]:
    options = {
        "--suite": suite.name,
        "--kind": load.kind(suite),
        "--requests": str(load.requests(suite)),
        "--url": target.url,
        "--output-folder": RESULTS_FOLDER,
        **({"--revision": target.revision} if target.revision else {}),
    }
    words = [word for option in options.items() for word in option]
    return [
        "python3",
        f"{commands.PROGRAM_FOLDER}/{_RUNNER}",
        *words,
        "--",
        *commands.build_command(benchmark.spec, suite, target.model),
    ]


def _datasets(benchmark: KimiLinearBenchmark) -> dict[str, DatasetFile]:
    """Return the datasets in the spec, by folder."""
    datasets = {"sharegpt": benchmark.spec.datasets.share_gpt, "gsm8k": benchmark.spec.datasets.gsm8k}
    return {folder: file for folder, file in datasets.items() if file}


def _dataset_mount(folder: str) -> Manifest:
    return {"name": f"dataset-{folder}", "mountPath": f"{commands.DATASET_FOLDER}/{folder}", "readOnly": True}


def _source(file: DatasetFile) -> Manifest:
    if file.config_map:
        return {"configMap": {"name": file.config_map}}
    return {"persistentVolumeClaim": {"claimName": file.persistent_volume_claim, "readOnly": True}}
