"""What a pod can reach beyond itself: its node, and the API server as somebody else.

The operator creates all pods with its own account, so a policy that looks at users does not see who asked for them.
What goes beyond the level `baseline` of the Pod Security Standards, or gives a pod an account at the API server,
therefore needs the permission of the administrator. What ROCm needs in the container of the engine, and a server has by
default, does not: the seccomp profile Unconfined and the capability SYS_PTRACE.

The pod template is checked, not the spec: it does not matter which field led to it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.kubernetes.problem import Problem

OPTION = "--allow-node-access"

# https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline
_HOST_NAMESPACES = ("hostIPC", "hostNetwork", "hostPID")
_CAPABILITIES = frozenset(
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
# An account at the API server is what these make; the rest of what a volume can be projected from holds data.
_SOURCES = {
    "serviceAccountToken": "the token of a service account",
    "podCertificate": "a certificate of its own",
}
_HARMLESS_SOURCES = frozenset(("clusterTrustBundle", "configMap", "downwardAPI", "secret"))
# https://kubernetes.io/docs/tutorials/security/apparmor/, as it was before there was a field.
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_CONFINED = ("runtime/default", "localhost/")
_GROUPS = ("containers", "initContainers", "ephemeralContainers")
_HANDLED = ("livenessProbe", "readinessProbe", "startupProbe")
_ENGINE_CAPABILITY = "SYS_PTRACE"


def beyond_pod(template: Manifest) -> list[str]:
    """Return what a pod template lets its pods reach beyond themselves, each thing once, in words."""
    return list(dict.fromkeys(_of_template(template)))


def problems(template: Manifest) -> tuple[Problem, ...]:
    """Return why an object with this pod template is refused where the administrator does not allow it."""
    found = beyond_pod(template)
    return (Problem("error", "spec", refusal(found)),) if found else ()


def reach(templates: Iterable[Manifest]) -> frozenset[str]:
    """Return what pod templates let pods reach beyond themselves."""
    return frozenset(found for template in templates for found in _of_template(template))


def exceeds(template: Manifest, known: frozenset[str]) -> bool:
    """Return whether a pod template lets pods reach more than what is known."""
    return not known.issuperset(_of_template(template))


def refusal(found: Sequence[str]) -> str:
    """Return why an object is refused, in words for the one who wrote it."""
    return (
        f"the pods would get {', '.join(found)}, which reaches beyond the pod: leave it out of podTemplate and "
        f"security, or let an administrator run the operator with {OPTION} (the chart's value allowNodeAccess)"
    )


def _of_template(template: Manifest) -> Iterator[str]:
    yield from _unconfined_by_annotation(_object(_object(template, "metadata"), "annotations"))
    yield from _of_pod(_object(template, "spec"))


def _unconfined_by_annotation(annotations: Manifest) -> Iterator[str]:
    """Yield the containers whose AppArmor profile an annotation names: the API server turns it into the field."""
    for name, profile in annotations.items():
        container = name.removeprefix(_APP_ARMOR)
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
    for group in _GROUPS:
        for container in _items(pod, group):
            yield from _container(container, is_engine=group == "containers" and _is_engine(container))


def _is_engine(container: Manifest) -> bool:
    return bool(container.get("name") == ENGINE_CONTAINER)


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
    found = {kind for source in sources for kind, content in source.items() if content is not None}
    for kind in sorted(found - _HARMLESS_SOURCES):
        what = _SOURCES.get(kind, f"a volume source that this operator does not know, {kind}")
        yield f"{what} (volume {name})"


def _container(container: Manifest, *, is_engine: bool) -> Iterator[str]:
    where, context = f"container {container.get('name')}", _object(container, "securityContext")
    if context.get("privileged"):
        yield f"privileged: true in {where}"
    listed: Any = _object(context, "capabilities").get("add")
    added = set(map(str, listed)) if isinstance(listed, list) else set()
    allowed = _CAPABILITIES | ({_ENGINE_CAPABILITY} if is_engine else set())
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
    """Yield what a security context takes away from the node's own protection."""
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
    holders = [*(_object(container, name) for name in _HANDLED), *(_object(lifecycle, name) for name in lifecycle)]
    handlers = (_object(holder, kind) for holder in holders for kind in ("httpGet", "tcpSocket"))
    return (str(handler["host"]) for handler in handlers if handler.get("host"))


def _object(value: Manifest, key: str) -> Manifest:
    """Return an object in an object, empty where there is none: what is wrong with it is for the API server to say."""
    found: Any = value.get(key)
    return found if isinstance(found, dict) else {}


def _items(value: Manifest, key: str) -> list[Manifest]:
    found: Any = value.get(key)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
