"""The init container that checks a server's pod before SGLang loads the model. Loading can take an hour."""

from kimi_linear_operator.kubernetes.access import BASELINE_CAPABILITIES
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.server.sglang import environment, inline, sizing
from kimi_linear_operator.server.sglang.images import GPU_ARCHITECTURES
from kimi_linear_operator.server.sglang.program import PREFLIGHT
from kimi_linear_operator.server.spec import ServerSpec

POD_CHECK = inline.program("pod_check")
# Fields that the check takes from the engine's container. They decide which devices a container can open.
_IDENTITY = ("runAsUser", "runAsGroup", "runAsNonRoot", "seLinuxOptions")
# Flags with which SGLang may download its weights to another place, or not at all.
_OTHER_WEIGHTS = ("--download", "--load-format")
_OTHER_WEIGHTS_VARIABLES = ("HF_", "HUGGINGFACE_", "SGLANG_USE_MODELSCOPE")


def with_preflight(pod: Manifest, spec: ServerSpec) -> Manifest:
    """Return a pod's spec with the check as its first init container, if the spec asks for it.

    If the user has an init container with this name, it stays and replaces the check.

    Args:
        pod: The pod's spec, with the user's overlay.
        spec: The server's spec.
    """
    others = pod.get("initContainers") or []
    if spec.preflight == "disabled" or any(item.get("name") == PREFLIGHT for item in others):
        return pod
    [engine] = [container for container in pod["containers"] if container["name"] == ENGINE_CONTAINER]
    return {**pod, "initContainers": [_container(pod, engine, spec), *others]}


def _container(pod: Manifest, engine: Manifest, spec: ServerSpec) -> Manifest:
    """Return the init container. It has the engine's image, so that nothing else is pulled.

    It also has the engine's resources. A pod reserves the maximum of the requests of its init containers and of its
    other containers, and the kubelet reuses the devices of an init container for later containers. So the check needs
    no additional GPU. A quota may require requests and limits for each container, so this container has them.
    """
    mounts = [mount for mount in engine["volumeMounts"] if mount["mountPath"].rstrip("/") in _checked_paths(engine)]
    policy = {"imagePullPolicy": engine["imagePullPolicy"]} if "imagePullPolicy" in engine else {}
    return {
        "name": PREFLIGHT,
        "image": engine["image"],
        **policy,
        "command": ["python3", "-c", POD_CHECK],
        "args": _arguments(pod, engine, spec),
        "resources": engine["resources"],
        "securityContext": _security_context(engine, spec),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _checked_paths(engine: Manifest) -> tuple[str, ...]:
    """Return the mounts of the engine's volumes that the check needs.

    Mounts whose path depends on variables are left out.
    """
    paths = (sizing.SHARED_MEMORY_PATH, environment.CACHE_PATH)
    by_variable = {mount["mountPath"].rstrip("/") for mount in engine["volumeMounts"] if mount.get("subPathExpr")}
    return tuple(path for path in paths if path not in by_variable)


def _arguments(pod: Manifest, engine: Manifest, spec: ServerSpec) -> list[str]:
    arguments = [
        f"--gpus={spec.tensor_parallelism}",
        f"--architecture={GPU_ARCHITECTURES[spec.hardware]}",
        f"--shared-memory-mib={sizing.DEFAULT_SHARED_MEMORY_MIB}",
    ]
    if _downloads_to_disk(pod, engine, spec):
        arguments += [f"--weights={environment.CACHE_PATH}", f"--weights-gib={sizing.LEAST_WEIGHTS_GIB}"]
    return arguments


def _downloads_to_disk(pod: Manifest, engine: Manifest, spec: ServerSpec) -> bool:
    """Return whether SGLang is certain to download the weights to the node's disk, below the folder of the cache."""
    is_downloaded = bool(sizing.disk_requests(spec)) and not _has_other_weights(engine, spec)
    return is_downloaded and _is_cache_on_disk(pod, engine)


def _has_other_weights(engine: Manifest, spec: ServerSpec) -> bool:
    ours = environment.variables(spec)
    variables = [item for item in engine["env"] if item["name"].startswith(_OTHER_WEIGHTS_VARIABLES)]
    arguments = [argument for argument in spec.engine.extra_args if argument.startswith(_OTHER_WEIGHTS)]
    return bool(arguments or engine.get("envFrom") or any(item not in ours for item in variables))


def _is_cache_on_disk(pod: Manifest, engine: Manifest) -> bool:
    volumes = [volume for volume in pod["volumes"] if volume["name"] == environment.CACHE_VOLUME]
    below = f"{environment.CACHE_PATH}/"
    has_other_mounts = any(mount["mountPath"].startswith(below) for mount in engine["volumeMounts"])
    is_mounted = {"name": environment.CACHE_VOLUME, "mountPath": environment.CACHE_PATH} in engine["volumeMounts"]
    is_on_disk = volumes == [{"name": environment.CACHE_VOLUME, "emptyDir": {}}]
    return is_on_disk and is_mounted and not has_other_mounts


def _security_context(engine: Manifest, spec: ServerSpec) -> Manifest:
    """Return a security context with the user of the engine.

    It has only those of the engine's capabilities that Pod Security's level baseline allows.
    """
    given = engine.get("securityContext") or {}
    added = [name for name in spec.security.capabilities if name in BASELINE_CAPABILITIES]
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], **({"add": added} if added else {})},
        "seccompProfile": {"type": "RuntimeDefault"},
        **{name: given[name] for name in _IDENTITY if name in given},
    }
