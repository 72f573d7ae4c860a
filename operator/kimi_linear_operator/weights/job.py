"""The Job that fetches the weights, and the program in its pod."""

import hashlib
import json
from importlib.resources import files

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, Manifest
from kimi_linear_operator.kubernetes.overlay import merge
from kimi_linear_operator.weights import job_inputs
from kimi_linear_operator.weights.labels import INPUTS_ANNOTATION, PROGRAM_ANNOTATION, WISH_ANNOTATION
from kimi_linear_operator.weights.location import MODELS, MOUNT_PATH, VOLUME, claim_name
from kimi_linear_operator.weights.spec import KimiLinearWeights

CONTAINER = "fetch"
PROGRAM_FOLDER = "/opt/kimi-linear"

_PROGRAM = "fetch.py"
# Four downloads use one core, including the computation of their hashes. The client writes pieces of 1 MB.
_REQUESTS = {"cpu": "1", "memory": "512Mi"}
# After SIGTERM, the program needs this time to give back the lock of the volume.
_GRACE_SECONDS = 10
# The kubelet restarts a failed container, with pauses of at most five minutes, until it succeeds.
_ATTEMPTS = 1_000_000
# SGLang publishes images for AMD GPUs only for this architecture.
_NODES = {"kubernetes.io/arch": "amd64"}


def program_name(weights: KimiLinearWeights) -> str:
    """Return the name of the ConfigMap with this version's program.

    The name contains a hash of the program. So another version creates another ConfigMap, and a running Job keeps its
    program.
    """
    return f"{weights.metadata.name}-fetch-{_hash(_program())}"


def build_program(weights: KimiLinearWeights) -> Manifest:
    """Return the ConfigMap with the program that fetches."""
    return metadata.build_manifest(weights, CONFIG_MAP, program_name(weights), data={_PROGRAM: _program()})


def _program() -> str:
    return files("kimi_linear_operator.weights").joinpath(_PROGRAM).read_text()


def build_job(weights: KimiLinearWeights, claim_uid: str = "") -> Manifest:
    """Return the Job that fetches.

    Args:
        weights: The weights.
        claim_uid: The UID of the claim that the operator has made, empty if there is none yet.
    """
    spec = {"backoffLimit": _ATTEMPTS, "template": _pod_template(weights)}
    manifest = metadata.build_manifest(weights, JOB, job_name(weights, claim_uid), spec=spec)
    metadata.annotate(manifest, WISH_ANNOTATION, wish(weights, claim_uid))
    metadata.annotate(manifest, PROGRAM_ANNOTATION, program_name(weights))
    if text := job_inputs.record(weights, claim_uid):
        metadata.annotate(manifest, INPUTS_ANNOTATION, text)
    return manifest


def wish(weights: KimiLinearWeights, claim_uid: str = "") -> str:
    """Return a hash of what is fetched, and to which claim.

    A Job with the same wish that has succeeded stays, even if its pod was different.

    The hash contains defaults, too. Otherwise a version with other defaults would fetch again after an upgrade.
    """
    source, asked = weights.spec.source, job_inputs.fetch_of(weights)
    return _hash([weights.metadata.uid, source.variant, source.revision, claim_name(weights), claim_uid, asked])


def job_name(weights: KimiLinearWeights, claim_uid: str = "") -> str:
    """Return the name of the Job for this wish and this pod.

    The pod template of a Job cannot change. So after a change of the image or the proxy, there is a new Job if the old
    Job has not ended.
    """
    spec, overlay = weights.spec, weights.spec.pod_template
    token = spec.source.token_secret_ref
    pod = [
        spec.image,
        spec.source.endpoint,
        [token.name, token.key] if token else None,
        overlay.changes() if overlay else None,
    ]
    return f"{name_prefix(weights)}{_hash([wish(weights, claim_uid), pod])}"


def name_prefix(weights: KimiLinearWeights) -> str:
    """Return the beginning of the names of all Jobs of these weights."""
    return f"{weights.metadata.name}-fetch-"


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:6]


def own_pod_templates(weights: KimiLinearWeights) -> list[Manifest]:
    """Return the only pod template. The spec alone determines it."""
    return [_pod_template(weights)]


def _pod_template(weights: KimiLinearWeights) -> Manifest:
    template: Manifest = {"metadata": metadata.inherited(weights), "spec": _pod_spec(weights)}
    overlay = weights.spec.pod_template
    return merge(template, overlay.changes()) if overlay else template


def _pod_spec(weights: KimiLinearWeights) -> Manifest:
    return {
        "containers": [_container(weights)],
        # A restarted container of the same pod takes its lock back immediately, and gets a corrected Secret.
        "restartPolicy": "OnFailure",
        "nodeSelector": _NODES,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [
            {"name": "program", "configMap": {"name": program_name(weights)}},
            {"name": VOLUME, "persistentVolumeClaim": {"claimName": claim_name(weights)}},
        ],
    }


def _container(weights: KimiLinearWeights) -> Manifest:
    return {
        "name": CONTAINER,
        "image": weights.spec.image,
        "command": ["python3", f"{PROGRAM_FOLDER}/{_PROGRAM}"],
        "args": _arguments(weights),
        "env": _environment(weights),
        "resources": {"requests": _REQUESTS},
        # The image's user is root. A new volume belongs to root.
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        # If the program leaves no message, the end of its log says why it ended.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "program", "mountPath": PROGRAM_FOLDER, "readOnly": True},
            {"name": VOLUME, "mountPath": MOUNT_PATH},
        ],
    }


def _arguments(weights: KimiLinearWeights) -> list[str]:
    source = weights.spec.source
    options = {
        "--model": MODELS[source.variant],
        "--revision": source.revision,
        "--folder": MOUNT_PATH,
        # A restarted container of the same pod has the same holder.
        "--holder": "$(POD_NAME)/$(POD_UID)",
    }
    return [word for option in options.items() for word in option]


def _environment(weights: KimiLinearWeights) -> list[Manifest]:
    source = weights.spec.source
    variables: list[Manifest] = [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "HF_HOME", "value": "/tmp/huggingface"},  # noqa: S108 - in the container, for nothing but settings
    ]
    if source.endpoint:
        variables.append({"name": "HF_ENDPOINT", "value": source.endpoint})
    if token := source.token_secret_ref:
        reference = {"name": token.name, "key": token.key}
        variables.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}})
    return variables
