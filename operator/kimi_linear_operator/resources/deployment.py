"""The Deployment of a server: its pods and how they are replaced."""

from kimi_linear_operator import engine
from kimi_linear_operator.api import KimiLinearServer, Manifest, ServerSpec
from kimi_linear_operator.resources import metadata
from kimi_linear_operator.resources.kinds import DEPLOYMENT
from kimi_linear_operator.resources.overlay import merge

# Between a pod's deletion and SIGTERM: long enough for every node to take it out of its Services. SGLang accepts
# new requests while it drains (tokenizer_manager.py), so they have to stay away by themselves.
ENDPOINT_PAUSE_SECONDS = 15
# What a node may need to pull an image of tens of gigabytes, which the start-up time does not count.
IMAGE_PULL_SECONDS = 900

_STRATEGIES: dict[str, Manifest] = {
    "InPlace": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
    "Surge": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    "Recreate": {"type": "Recreate"},
}


def build_deployment(server: KimiLinearServer, template: Manifest) -> Manifest:
    """Return the Deployment, named like the server.

    Args:
        server: The server.
        template: Its pod template: a new one, or the one that was kept.
    """
    spec = server.spec
    return metadata.build_manifest(
        server,
        DEPLOYMENT,
        server.metadata.name,
        spec={
            "replicas": wanted_replicas(spec),
            "selector": {"matchLabels": metadata.selector(server)},
            "strategy": _STRATEGIES[spec.rollout.strategy],
            # A rollout may take as long as the old replica drains, the image is pulled and the new replica loads.
            "progressDeadlineSeconds": _grace_seconds(spec) + IMAGE_PULL_SECONDS + spec.startup.timeout_seconds,
            "template": template,
        },
    )


def wanted_replicas(spec: ServerSpec) -> int:
    """Return how many replicas should run."""
    return 0 if spec.suspend else spec.replicas


# What the pod template does not depend on.
_NOT_IN_TEMPLATE = {"replicas", "rollout", "service", "suspend"}


def template_inputs(spec: ServerSpec) -> Manifest:
    """Return the part of the spec that the pod template is built from, with all defaults."""
    return spec.model_dump(by_alias=True, exclude_none=True, exclude=_NOT_IN_TEMPLATE)


def build_pod_template(server: KimiLinearServer) -> Manifest:
    """Return the pod template with the user's overlay; the nodes stay those of the hardware, whatever it says."""
    template: Manifest = {"metadata": metadata.inherited(server), "spec": _pod_spec(server.spec)}
    if overlay := server.spec.pod_template:
        template = merge(template, overlay.model_dump(by_alias=True, exclude_none=True))
    template["spec"] = _on_hardware(template["spec"], server.spec)
    return template


def _pod_spec(spec: ServerSpec) -> Manifest:
    pod: Manifest = {
        "containers": [_container(spec)],
        "terminationGracePeriodSeconds": _grace_seconds(spec),
        # As process 1, SGLang would ignore SIGTERM until its first request; here the pause process is number 1.
        "shareProcessNamespace": True,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "volumes": [
            {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": _shared_memory(spec)}},
            {"name": "cache", "emptyDir": {}},
        ],
    }
    return pod | ({"hostIPC": True} if spec.security.host_ipc else {})


def _container(spec: ServerSpec) -> Manifest:
    gpus = {engine.GPU_RESOURCE: str(spec.tensor_parallelism)}
    container: Manifest = {
        "name": engine.CONTAINER,
        "image": engine.image(spec),
        "args": engine.arguments(spec),
        "env": engine.environment(spec),
        "ports": [{"name": engine.PORT_NAME, "containerPort": engine.PORT, "protocol": "TCP"}],
        "resources": {"requests": gpus, "limits": gpus},
        **engine.probes(spec),
        "lifecycle": {"preStop": {"sleep": {"seconds": ENDPOINT_PAUSE_SECONDS}}},
        "securityContext": _security_context(spec),
        # The last log lines of a failed start become the message that the server's status quotes.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "dshm", "mountPath": "/dev/shm"},  # noqa: S108 - in the container, for NCCL
            {"name": "cache", "mountPath": engine.CACHE_PATH},
        ],
    }
    command = engine.command(spec.engine.extra_pip_packages)
    return container | ({"command": command} if command else {})


def _security_context(spec: ServerSpec) -> Manifest:
    """Return what ROCm needs and no more; the image runs as root, and /dev/kfd belongs to root."""
    added = {"add": list(spec.security.capabilities)} if spec.security.capabilities else {}
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], **added},
        "seccompProfile": {"type": spec.security.seccomp_profile},
    }


def _grace_seconds(spec: ServerSpec) -> int:
    return ENDPOINT_PAUSE_SECONDS + spec.drain.timeout_seconds


def _shared_memory(spec: ServerSpec) -> str:
    return f"{engine.SHARED_MEMORY_GIB_PER_GPU * spec.tensor_parallelism}Gi"


def _on_hardware(pod: Manifest, spec: ServerSpec) -> Manifest:
    """Return the pod's spec, required to run on nodes with this hardware, in addition to what it requires already.

    Terms are alternatives and expressions in a term hold together, so the hardware goes into every term.
    """
    key, device_ids = engine.DEVICE_ID_LABEL, list(engine.DEVICE_IDS[spec.hardware])
    hardware = {"key": key, "operator": "In", "values": device_ids}
    affinity = pod.get("affinity", {})
    node_affinity = affinity.get("nodeAffinity", {})
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms: list[Manifest] = [
        {**term, "matchExpressions": [*term.get("matchExpressions", ()), hardware]}
        for term in required.get("nodeSelectorTerms") or [{}]
    ]
    required = {**required, "nodeSelectorTerms": terms}
    node_affinity = {**node_affinity, "requiredDuringSchedulingIgnoredDuringExecution": required}
    return {**pod, "affinity": {**affinity, "nodeAffinity": node_affinity}}
