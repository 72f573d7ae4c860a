"""The Deployment of a server: its pods, and how they are replaced."""

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, GPU_RESOURCE, Manifest
from kimi_linear_operator.kubernetes.overlay import merge
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER, ContainerOverlay
from kimi_linear_operator.kubernetes.queueing import put_into_queue
from kimi_linear_operator.server import kernels
from kimi_linear_operator.server.gate import gate_seconds, has_gate, with_gate
from kimi_linear_operator.server.gpu_nodes import restrict_to_hardware
from kimi_linear_operator.server.model_location import located
from kimi_linear_operator.server.preflight import with_preflight
from kimi_linear_operator.server.sglang import command_line, entrypoint, environment, probes, sizing
from kimi_linear_operator.server.sglang.images import image_of
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec
from kimi_linear_operator.weights.location import MOUNT, Location

# Seconds between a pod's deletion and SIGTERM. In this time, every node removes the pod from its Services. While SGLang
# drains, it still accepts new requests (tokenizer_manager.py), so no new request may reach it then.
ENDPOINT_PAUSE_SECONDS = 15
# Seconds that a node may need to pull an image of tens of gigabytes. spec.startup.timeoutSeconds does not include this
# time.
IMAGE_PULL_SECONDS = 900

# Names of the volumes. spec.podTemplate replaces a volume by its name.
_SHARED_MEMORY = "dshm"
_CACHE = environment.CACHE_VOLUME
_KERNELS = "kernels"
_API_KEY = "api-key"

_API_KEY_FOLDER = "/etc/kimi-linear"
# Only root can read the file. Files of a Secret belong to root, and the container runs as root.
_API_KEY_MODE = 0o400

_STRATEGIES: dict[str, Manifest] = {
    "InPlace": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
    "Surge": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    "Recreate": {"type": "Recreate"},
}


def build_deployment(server: KimiLinearServer, template: Manifest) -> Manifest:
    """Return the Deployment. It has the name of the server.

    Args:
        server: The server.
        template: Its pod template, new or from a revision.
    """
    spec = server.spec
    deployment = metadata.build_manifest(
        server,
        DEPLOYMENT,
        server.metadata.name,
        spec={
            "replicas": wanted_replicas(spec),
            "selector": {"matchLabels": metadata.selector(server)},
            "strategy": _STRATEGIES[spec.rollout.strategy],
            # A rollout of one replica: the old replica drains, the image is pulled, and the new replica loads.
            "progressDeadlineSeconds": (
                grace_seconds(spec) + IMAGE_PULL_SECONDS + spec.startup.timeout_seconds + gate_seconds(spec)
            ),
            "template": template,
        },
    )
    put_into_queue(deployment, spec.queue_name)
    return deployment


def wanted_replicas(spec: ServerSpec) -> int:
    """Return how many replicas should run."""
    return 0 if spec.suspend else spec.replicas


def build_pod_template(server: KimiLinearServer, location: Location | None = None) -> Manifest:
    """Return the pod template with the user's overlay. The overlay cannot move the pods to nodes with other hardware.

    Args:
        server: The server.
        location: Where its model is, None if it comes from the hub or from a folder that the overlay mounts.
    """
    spec = located(server.spec, location) if location else server.spec
    own = _pod_spec(server, spec)
    own = _with_model(own, location) if location else own
    template: Manifest = {"metadata": metadata.inherited(server), "spec": own}
    if overlay := server.spec.pod_template:
        template = merge(template, overlay.changes())
    pod = _with_proxy_exceptions(restrict_to_hardware(template["spec"], spec))
    template["spec"] = with_preflight(pod, spec)
    return with_gate(template) if has_gate(spec) else template


def _with_model(pod: Manifest, location: Location) -> Manifest:
    """Return the pod's spec with the volume that holds the model. SGLang then needs nothing from the hub."""
    (container,) = pod["containers"]
    mounted = {
        **container,
        "env": [*container["env"], {"name": "HF_HUB_OFFLINE", "value": "1"}],
        "volumeMounts": [*container["volumeMounts"], MOUNT],
    }
    return {**pod, "containers": [mounted], "volumes": [*pod["volumes"], location.volume]}


def _pod_spec(server: KimiLinearServer, spec: ServerSpec) -> Manifest:
    pod: Manifest = {
        "containers": [_container(spec)],
        "terminationGracePeriodSeconds": grace_seconds(spec),
        # As process 1, SGLang would ignore SIGTERM until its first request. With a shared process namespace, process 1
        # is the pod's pause process.
        "shareProcessNamespace": True,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostAliases": [
            {"ip": ip, "hostnames": [command_line.ALL_ADDRESSES]} for ip in command_line.ALL_ADDRESSES_ALIASES
        ],
        "topologySpreadConstraints": [_prefer_separate_nodes(server)],
        "volumes": [
            {"name": _SHARED_MEMORY, "emptyDir": {"medium": "Memory", "sizeLimit": _shared_memory(spec)}},
            {"name": _CACHE, "emptyDir": {}},
            {"name": _KERNELS, "emptyDir": kernels.own_folder(spec)},
            *kernels.volumes(spec),
            *_api_key_volumes(spec),
        ],
    }
    return pod | ({"hostIPC": True} if spec.security.host_ipc else {})


def _container(spec: ServerSpec) -> Manifest:
    gpus = {GPU_RESOURCE: str(spec.tensor_parallelism)}
    container: Manifest = {
        "name": ENGINE_CONTAINER,
        "image": image_of(spec),
        "args": command_line.arguments(spec),
        "env": [*environment.variables(spec), *kernels.variables(spec)],
        "ports": [{"name": command_line.PORT_NAME, "containerPort": command_line.PORT, "protocol": "TCP"}],
        "resources": {"requests": {**gpus, **_requests(spec)}, "limits": gpus},
        **probes.build_probes(spec),
        "lifecycle": {"preStop": {"sleep": {"seconds": ENDPOINT_PAUSE_SECONDS}}},
        "securityContext": _security_context(spec),
        # The last log lines of a failed start become the termination message, which the server's status quotes.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": _SHARED_MEMORY, "mountPath": sizing.SHARED_MEMORY_PATH},
            {"name": _CACHE, "mountPath": environment.CACHE_PATH},
            {"name": _KERNELS, "mountPath": environment.KERNELS_PATH},
            *kernels.mounts(spec),
            *_api_key_mounts(spec),
        ],
    }
    # Files of a killed engine would stay in shared memory until the pod is deleted, and fill the memory. A volume that
    # the user mounts at /dev/shm is not emptied.
    emptied = sizing.SHARED_MEMORY_PATH if _has_own_shared_memory(spec) else None
    key_file = f"{_API_KEY_FOLDER}/{_API_KEY}" if spec.auth.api_key_secret_ref else None
    command = entrypoint.command(spec.engine.extra_pip_packages, emptied=emptied, key_file=key_file)
    return container | ({"command": command} if command else {})


def _api_key_volumes(spec: ServerSpec) -> list[Manifest]:
    """Return the volume with the API key.

    The key is in a file, because other processes can read environment variables more easily.
    """
    if not (reference := spec.auth.api_key_secret_ref):
        return []
    items = [{"key": reference.key, "path": _API_KEY}]
    source = {"secretName": reference.name, "defaultMode": _API_KEY_MODE, "items": items}
    return [{"name": _API_KEY, "secret": source}]


def _api_key_mounts(spec: ServerSpec) -> list[Manifest]:
    mount = {"name": _API_KEY, "mountPath": _API_KEY_FOLDER, "readOnly": True}
    return [mount] if spec.auth.api_key_secret_ref else []


def _requests(spec: ServerSpec) -> dict[str, str]:
    """Return the requests other than GPUs. Resources that the user requests or limits are left out.

    If the user sets only a limit, Kubernetes uses it as the request. Kubernetes would refuse a higher request of ours.
    """
    disk = {} if _CACHE in _volumes(spec) else sizing.disk_requests(spec)
    resources = [container.resources for container in _overlaid(spec) if container.resources]
    set_by_user = {name for item in resources for amounts in (item.requests, item.limits) for name in amounts or ()}
    return {name: amount for name, amount in {**sizing.requests(spec), **disk}.items() if name not in set_by_user}


def _has_own_shared_memory(spec: ServerSpec) -> bool:
    """Return whether the operator's own volume is mounted at /dev/shm."""
    mounts = {mount.mount_path.rstrip("/") for container in _overlaid(spec) for mount in container.volume_mounts or ()}
    return _SHARED_MEMORY not in _volumes(spec) and sizing.SHARED_MEMORY_PATH not in mounts


def _volumes(spec: ServerSpec) -> set[str]:
    """Return the names of the volumes in the user's overlay."""
    pod = spec.pod_template and spec.pod_template.spec
    return {volume.name for volume in (pod.volumes if pod else None) or ()}


def _overlaid(spec: ServerSpec) -> list[ContainerOverlay]:
    """Return the user's overlays of the engine's container, at most one."""
    pod = spec.pod_template and spec.pod_template.spec
    return [container for container in (pod.containers if pod else None) or () if container.name == ENGINE_CONTAINER]


def _prefer_separate_nodes(server: KimiLinearServer) -> Manifest:
    """Return a constraint that spreads replicas over nodes, if there are enough nodes."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": metadata.selector(server)},
    }


def _security_context(spec: ServerSpec) -> Manifest:
    """Return the smallest set of permissions that ROCm needs.

    The image runs as root, because /dev/kfd belongs to root.
    """
    added = {"add": list(spec.security.capabilities)} if spec.security.capabilities else {}
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], **added},
        "seccompProfile": {"type": spec.security.seccomp_profile},
    }


def grace_seconds(spec: ServerSpec) -> int:
    """Return the grace period of a pod that gets requests."""
    return ENDPOINT_PAUSE_SECONDS + spec.drain.timeout_seconds


def _shared_memory(spec: ServerSpec) -> str:
    return f"{sizing.SHARED_MEMORY_GIB_PER_GPU * spec.tensor_parallelism}Gi"


def _with_proxy_exceptions(pod: Manifest) -> Manifest:
    """Return the pod's spec with the engine's own addresses as exceptions of any proxy that the user has set."""
    containers = [
        {**container, "env": environment.with_proxy_exceptions(container["env"])}
        if container["name"] == ENGINE_CONTAINER
        else container
        for container in pod["containers"]
    ]
    return {**pod, "containers": containers}
