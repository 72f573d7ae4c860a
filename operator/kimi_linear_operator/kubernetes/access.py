"""Access of a pod to its node, and to the API server through a service account.

The operator creates all pods with its own account. So a policy that checks users does not see which user asked for a
pod. Therefore an administrator must allow two things: any access beyond the level `baseline` of the Pod Security
Standards, and any account at the API server.

In the engine's container, two things need no permission, because ROCm requires them: the seccomp profile Unconfined and
the capability SYS_PTRACE. Both are defaults of a server.

The functions here check the pod template, not the spec. So it does not matter which field of the spec caused the
access.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.drift import has_drifted
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.kubernetes.problem import Problem

R = TypeVar("R", bound=Resource)

OPTION = "--allow-node-access"

# https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline
_HOST_NAMESPACES = ("hostIPC", "hostNetwork", "hostPID")
BASELINE_CAPABILITIES = frozenset(
    (
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
)
_SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_syncookies",
    )
)
_SELINUX_TYPES = ("", "container_engine_t", "container_init_t", "container_kvm_t", "container_t")
# Sources of projected volumes that give the pod an account at the API server.
_ACCOUNT_SOURCES = {
    "serviceAccountToken": "the token of a service account",
    "podCertificate": "a pod certificate",
}
_DATA_SOURCES = frozenset(("clusterTrustBundle", "configMap", "downwardAPI", "secret"))
# The annotation that the field appArmorProfile replaced: https://kubernetes.io/docs/tutorials/security/apparmor/
_APP_ARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
_CONFINED = ("runtime/default", "localhost/")
_CONTAINER_LISTS = ("containers", "initContainers", "ephemeralContainers")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_ENGINE_CAPABILITY = "SYS_PTRACE"


def beyond_pod(*templates: Manifest) -> list[str]:
    """Describe every access beyond the pod that pod templates give, without duplicates."""
    return list(dict.fromkeys(access for template in templates for access in _of_template(template)))


def refuse_access(checked: Checked[R], build_templates: Callable[[R], Iterable[Manifest]]) -> Checked[R]:
    """Add an error to a valid resource if one of its pod templates gives access beyond the pod."""
    if checked.resource is None or not checked.is_valid:
        return checked
    beyond = beyond_pod(*build_templates(checked.resource))
    return checked.beside([Problem("error", "spec", refusal(beyond))]) if beyond else checked


def reach(templates: Iterable[Manifest]) -> frozenset[str]:
    """Return all access beyond the pod that any of the pod templates gives."""
    return frozenset(access for template in templates for access in _of_template(template))


def exceeds(template: Manifest, allowed: frozenset[str]) -> bool:
    """Return whether a pod template gives more access beyond the pod than allowed."""
    return not allowed.issuperset(_of_template(template))


def is_within(template: Manifest, allowed: frozenset[str], running: Manifest | None) -> bool:
    """Return whether a recorded template gives pods no more access than allowed, or than the running pods have.

    A template can also give access because it lacks a field. So it is not enough that the running pods have all its
    fields.

    Args:
        template: The recorded template.
        allowed: The allowed access.
        running: The template of the pods that run with the record, None if there are none.
    """
    if not exceeds(template, allowed):
        return True
    if running is None or has_drifted(running, template):
        return False
    return not exceeds(template, allowed | reach([running]))


def refusal(refused: Sequence[str]) -> str:
    """Return the error message for a resource whose pods would get this access."""
    return (
        f"the pods would get access that is not allowed: {', '.join(refused)}. Remove this from podTemplate and "
        f"security, or ask an administrator to run the operator with {OPTION} (the chart's value allowNodeAccess)"
    )


def _of_template(template: Manifest) -> Iterator[str]:
    yield from _unconfined_by_annotation(_object(_object(template, "metadata"), "annotations"))
    yield from _of_pod(_object(template, "spec"))


def _unconfined_by_annotation(annotations: Manifest) -> Iterator[str]:
    """Yield AppArmor profiles set by annotations. The API server copies them to the container's field."""
    for name, profile in annotations.items():
        container = name.removeprefix(_APP_ARMOR_ANNOTATION)
        if container != name and not str(profile).startswith(_CONFINED):
            yield f"the AppArmor profile {profile} in container {container} (annotation {name})"


def _of_pod(pod: Manifest) -> Iterator[str]:
    yield from (f"{name}: true" for name in _HOST_NAMESPACES if pod.get(name))
    yield from _account(pod)
    for volume in _items(pod, "volumes"):
        yield from _volume(volume)
    yield from _profiles("the pod", _object(pod, "securityContext"), allows_unconfined=False)
    sysctls = [str(item.get("name")) for item in _items(_object(pod, "securityContext"), "sysctls")]
    yield from (f"the sysctl {name}" for name in sysctls if name not in _SYSCTLS)
    for group in _CONTAINER_LISTS:
        for container in _items(pod, group):
            is_engine = group == "containers" and container.get("name") == ENGINE_CONTAINER
            yield from _container(container, is_engine=is_engine)


def _account(pod: Manifest) -> Iterator[str]:
    names = {str(pod[key]) for key in ("serviceAccount", "serviceAccountName") if pod.get(key)} - {"default"}
    yield from (f"the service account {name}" for name in sorted(names))
    if pod.get("automountServiceAccountToken") is not False:
        yield "the token of a service account (automountServiceAccountToken)"


def _volume(volume: Manifest) -> Iterator[str]:
    name = volume.get("name")
    if volume.get("hostPath") is not None:
        yield f"the node's files (hostPath of volume {name})"
    sources = _items(_object(volume, "projected"), "sources")
    kinds = {kind for source in sources for kind, content in source.items() if content is not None}
    for kind in sorted(kinds - _DATA_SOURCES):
        description = _ACCOUNT_SOURCES.get(kind, f"a volume source that this operator does not know, {kind}")
        yield f"{description} (volume {name})"


def _container(container: Manifest, *, is_engine: bool) -> Iterator[str]:
    where, context = f"container {container.get('name')}", _object(container, "securityContext")
    if context.get("privileged"):
        yield f"privileged: true in {where}"
    capabilities: Any = _object(context, "capabilities").get("add")
    added = set(map(str, capabilities)) if isinstance(capabilities, list) else set()
    allowed = BASELINE_CAPABILITIES | ({_ENGINE_CAPABILITY} if is_engine else set())
    yield from (f"the capability {name} in {where}" for name in sorted(added - allowed))
    if context.get("procMount") not in (None, "Default"):
        yield f"procMount: {context['procMount']} in {where}"
    yield from (
        f"port {port['hostPort']} of the node for {where}"
        for port in _items(container, "ports")
        if port.get("hostPort")
    )
    yield from _profiles(where, context, allows_unconfined=is_engine)
    yield from (f"{host} (host of a probe or hook) from {where}" for host in _probed_hosts(container))


def _profiles(where: str, context: Manifest, *, allows_unconfined: bool) -> Iterator[str]:
    """Yield the node's protections that a security context turns off."""
    if _object(context, "seccompProfile").get("type") == "Unconfined" and not allows_unconfined:
        yield f"the seccomp profile Unconfined in {where}"
    if _object(context, "appArmorProfile").get("type") == "Unconfined":
        yield f"the AppArmor profile Unconfined in {where}"
    if _object(context, "windowsOptions").get("hostProcess"):
        yield f"hostProcess: true in {where}"
    selinux = _object(context, "seLinuxOptions")
    if selinux.get("user") or selinux.get("role") or selinux.get("type", "") not in _SELINUX_TYPES:
        yield f"seLinuxOptions in {where}"


def _probed_hosts(container: Manifest) -> Iterator[str]:
    lifecycle = _object(container, "lifecycle")
    probes = [*(_object(container, name) for name in _PROBES), *(_object(lifecycle, hook) for hook in lifecycle)]
    handlers = (_object(probe, kind) for probe in probes for kind in ("httpGet", "tcpSocket"))
    return (str(handler["host"]) for handler in handlers if handler.get("host"))


def _object(value: Manifest, key: str) -> Manifest:
    """Return the object in a field, empty if the field is missing. The API server refuses other types."""
    content: Any = value.get(key)
    return content if isinstance(content, dict) else {}


def _items(value: Manifest, key: str) -> list[Manifest]:
    """Return the objects in the list of a field, empty if there is no list."""
    content: Any = value.get(key)
    return [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []
