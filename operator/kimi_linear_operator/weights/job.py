"""The Job that fetches the weights, and the program in its pod."""

import hashlib
import json
from importlib.resources import files

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, JOB, Manifest
from kimi_linear_operator.kubernetes.overlay import merge
from kimi_linear_operator.weights.labels import FETCH_ANNOTATION, PROGRAM_ANNOTATION, WISH_ANNOTATION
from kimi_linear_operator.weights.location import MODELS, MOUNT_PATH, VOLUME, claim_name
from kimi_linear_operator.weights.spec import KimiLinearWeights

CONTAINER = "fetch"
PROGRAM_FOLDER = "/opt/kimi-linear"

_PROGRAM = "fetch.py"
# Four connections and their hashes keep one core busy; the client writes pieces of 1 MB.
_REQUESTS = {"cpu": "1", "memory": "512Mi"}
# Time for the program to give the lock of the volume back after SIGTERM.
_GRACE_SECONDS = 10
# The kubelet starts a failed container again, after five minutes at the most, until what is in its way is gone.
_ATTEMPTS = 1_000_000
# SGLang's images for AMD GPUs exist only for this architecture.
_NODES = {"kubernetes.io/arch": "amd64"}


def program_name(weights: KimiLinearWeights) -> str:
    """Return the name of the ConfigMap with this version's program.

    It follows from the text, so another version makes another ConfigMap, and a Job keeps its program while it runs.
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
    return manifest


def wish(weights: KimiLinearWeights, claim_uid: str = "") -> str:
    """Return a hash of what is fetched, and to which claim. A Job that has done it stays, whatever its pod was like.

    Every value is named here, also one that is a default: a default may be another one in another version, and an
    upgrade must not fetch again.
    """
    source, asked = weights.spec.source, weights.metadata.annotations.get(FETCH_ANNOTATION, "")
    return _hash([weights.metadata.uid, source.variant, source.revision, claim_name(weights), claim_uid, asked])


def job_name(weights: KimiLinearWeights, claim_uid: str = "") -> str:
    """Return the name of the Job for this wish with a pod like this.

    A Job cannot change. So if another image or a proxy is to help a Job that has not ended, it gets another one.
    """
    spec, overlay = weights.spec, weights.spec.pod_template
    token = spec.source.token_secret_ref
    pod = [
        spec.image,
        spec.source.endpoint,
        [token.name, token.key] if token else None,
        overlay.changes() if overlay else None,
    ]
    return f"{weights.metadata.name}-fetch-{_hash([wish(weights, claim_uid), pod])}"


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:6]


def own_pod_templates(weights: KimiLinearWeights) -> list[Manifest]:
    """Return the one pod template, the whole of it: the spec alone determines it."""
    return [_pod_template(weights)]


def _pod_template(weights: KimiLinearWeights) -> Manifest:
    template: Manifest = {"metadata": metadata.inherited(weights), "spec": _pod_spec(weights)}
    overlay = weights.spec.pod_template
    return merge(template, overlay.changes()) if overlay else template


def _pod_spec(weights: KimiLinearWeights) -> Manifest:
    return {
        "containers": [_container(weights)],
        # The same container starts again: it takes its lock back at once, and a corrected Secret takes effect.
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
        # The image's user is root, to whom a new volume belongs.
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        # Without a message of the program, the end of its log says why it ended.
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
