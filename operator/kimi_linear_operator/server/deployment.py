"""The Deployment of a server: its pods and how they are replaced."""

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, GPU_RESOURCE, Manifest
from kimi_linear_operator.kubernetes.overlay import merge
from kimi_linear_operator.kubernetes.pod_template import ContainerOverlay
from kimi_linear_operator.server import sglang
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec

# Between a pod's deletion and SIGTERM: long enough for every node to take it out of its Services. SGLang accepts
# new requests while it drains (tokenizer_manager.py), so they have to stay away by themselves.
ENDPOINT_PAUSE_SECONDS = 15
# What a node may need to pull an image of tens of gigabytes, which the start-up time does not count.
IMAGE_PULL_SECONDS = 900

# The names of the volumes, under which podTemplate replaces them.
_SHARED_MEMORY = "dshm"
_CACHE = "cache"
_KERNELS = "kernels"

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
    inputs = spec.model_dump(by_alias=True, exclude_none=True, exclude=_NOT_IN_TEMPLATE)
    # A null in there removes a field.
    return inputs | ({"podTemplate": spec.pod_template.changes()} if spec.pod_template else {})


def given_inputs(spec: ServerSpec) -> Manifest:
    """Return what the spec itself says of this, without the defaults of this version's models."""
    return spec.model_dump(by_alias=True, exclude_unset=True, exclude=_NOT_IN_TEMPLATE)


def build_pod_template(server: KimiLinearServer) -> Manifest:
    """Return the pod template with the user's overlay; the nodes stay those of the hardware, whatever it says."""
    template: Manifest = {"metadata": metadata.inherited(server), "spec": _pod_spec(server)}
    if overlay := server.spec.pod_template:
        template = merge(template, overlay.changes())
    template["spec"] = _reaching_itself(_on_hardware(template["spec"], server.spec))
    return template


def _pod_spec(server: KimiLinearServer) -> Manifest:
    spec = server.spec
    pod: Manifest = {
        "containers": [_container(spec)],
        "terminationGracePeriodSeconds": _grace_seconds(spec),
        # As process 1, SGLang would ignore SIGTERM until its first request; here the pause process is number 1.
        "shareProcessNamespace": True,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostAliases": [{"ip": ip, "hostnames": [sglang.ALL_ADDRESSES]} for ip in sglang.ALL_ADDRESSES_ALIASES],
        "topologySpreadConstraints": [_apart_from_its_like(server)],
        "volumes": [
            {"name": _SHARED_MEMORY, "emptyDir": {"medium": "Memory", "sizeLimit": _shared_memory(spec)}},
            {"name": _CACHE, "emptyDir": {}},
            {"name": _KERNELS, "emptyDir": {}},
        ],
    }
    return pod | ({"hostIPC": True} if spec.security.host_ipc else {})


def _container(spec: ServerSpec) -> Manifest:
    gpus = {GPU_RESOURCE: str(spec.tensor_parallelism)}
    container: Manifest = {
        "name": sglang.CONTAINER,
        "image": sglang.image(spec),
        "args": sglang.arguments(spec),
        "env": sglang.environment(spec),
        "ports": [{"name": sglang.PORT_NAME, "containerPort": sglang.PORT, "protocol": "TCP"}],
        "resources": {"requests": {**gpus, **_requests(spec)}, "limits": gpus},
        **sglang.probes(spec),
        "lifecycle": {"preStop": {"sleep": {"seconds": ENDPOINT_PAUSE_SECONDS}}},
        "securityContext": _security_context(spec),
        # The last log lines of a failed start become the message that the server's status quotes.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": _SHARED_MEMORY, "mountPath": sglang.SHARED_MEMORY_PATH},
            {"name": _CACHE, "mountPath": sglang.CACHE_PATH},
            {"name": _KERNELS, "mountPath": sglang.KERNELS_PATH},
        ],
    }
    # What a killed engine leaves in shared memory would stay until the pod is deleted, and fill it. What a user mounts
    # there is theirs.
    empties = sglang.SHARED_MEMORY_PATH if _has_own_shared_memory(spec) else None
    command = sglang.command(spec.engine.extra_pip_packages, empties=empties)
    return container | ({"command": command} if command else {})


def _requests(spec: ServerSpec) -> dict[str, str]:
    """Return what to reserve beside GPUs, without what the user has requested or limited.

    Kubernetes takes a limit for the request where none is given; ours could be above it, which it refuses.
    """
    disk = {} if _CACHE in _volumes(spec) else sglang.disk_requests(spec)
    resources = [container.resources for container in _overlaid(spec) if container.resources]
    given = {name for item in resources for amounts in (item.requests, item.limits) for name in amounts or ()}
    return {name: amount for name, amount in {**sglang.requests(spec), **disk}.items() if name not in given}


def _has_own_shared_memory(spec: ServerSpec) -> bool:
    """Return whether /dev/shm is the volume that the operator puts there."""
    mounts = {mount.mount_path.rstrip("/") for container in _overlaid(spec) for mount in container.volume_mounts or ()}
    return _SHARED_MEMORY not in _volumes(spec) and sglang.SHARED_MEMORY_PATH not in mounts


def _volumes(spec: ServerSpec) -> set[str]:
    """Return the names of the volumes that the user brings."""
    pod = spec.pod_template and spec.pod_template.spec
    return {volume.name for volume in (pod.volumes if pod else None) or ()}


def _overlaid(spec: ServerSpec) -> list[ContainerOverlay]:
    """Return the user's changes to the engine's container."""
    pod = spec.pod_template and spec.pod_template.spec
    return [one for one in (pod.containers if pod else None) or () if one.name == sglang.CONTAINER]


def _apart_from_its_like(server: KimiLinearServer) -> Manifest:
    """Return the wish that replicas are on different nodes, which a cluster without room for it may overrule."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": metadata.selector(server)},
    }


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
    return f"{sglang.SHARED_MEMORY_GIB_PER_GPU * spec.tensor_parallelism}Gi"


def _hardware(spec: ServerSpec) -> list[Manifest]:
    """Return what a node must be: with GPUs of this model, none of them split, of the architecture of our image.

    Nodes without the label of a partition are taken: AMD's labeller writes it only if it is told to.
    """
    expressions: list[Manifest] = [
        {"key": sglang.DEVICE_ID_LABEL, "operator": "In", "values": list(sglang.DEVICE_IDS[spec.hardware])},
        {"key": sglang.PARTITION_LABEL, "operator": "NotIn", "values": list(sglang.PARTITIONED)},
    ]
    if spec.engine.image is None:
        architecture = [sglang.IMAGE_ARCHITECTURE]
        expressions.append({"key": "kubernetes.io/arch", "operator": "In", "values": architecture})
    return expressions


def _on_hardware(pod: Manifest, spec: ServerSpec) -> Manifest:
    """Return the pod's spec, required to run on nodes with this hardware, in addition to what it requires already.

    Terms are alternatives and expressions in a term hold together, so the hardware goes into every term.
    """
    affinity = pod.get("affinity", {})
    node_affinity = affinity.get("nodeAffinity", {})
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms: list[Manifest] = [
        {**term, "matchExpressions": [*term.get("matchExpressions", ()), *_hardware(spec)]}
        for term in required.get("nodeSelectorTerms") or [{}]
    ]
    required = {**required, "nodeSelectorTerms": terms}
    node_affinity = {**node_affinity, "requiredDuringSchedulingIgnoredDuringExecution": required}
    return {**pod, "affinity": {**affinity, "nodeAffinity": node_affinity}}


def _reaching_itself(pod: Manifest) -> Manifest:
    """Return the pod's spec; the engine reaches itself past a proxy that the user's variables may name."""
    containers = [
        {**container, "env": sglang.reaching_itself(container["env"])}
        if container["name"] == sglang.CONTAINER
        else container
        for container in pod["containers"]
    ]
    return {**pod, "containers": containers}
