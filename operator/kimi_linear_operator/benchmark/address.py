"""The key of the server that an address names. All ways to write the address give the same key."""

import hashlib
import ipaddress
import re
from typing import NamedTuple

from kimi_linear_operator.kubernetes.kinds import Manifest

_URL = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?/?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
# The suffix of the name of a server's headless Service, see `server/labels.py`.
_HEADLESS_SUFFIX = "-headless"


class TargetKey(NamedTuple):
    """What benchmarks measure: a server by its namespace and name, or any other address, with an empty namespace."""

    namespace: str
    name: str


def target_of(manifest: Manifest) -> TargetKey | None:
    """Return the target of a benchmark, None if its spec cannot be read."""
    spec, namespace = manifest.get("spec"), manifest["metadata"]["namespace"]
    parts = [spec.get(name) for name in ("serverRef", "endpoint")] if isinstance(spec, dict) else [None, None]
    server, endpoint = (part if isinstance(part, dict) else {} for part in parts)
    if isinstance(name := server.get("name"), str):
        return TargetKey(namespace, name)
    url = endpoint.get("url")
    return key_of(url, namespace) if isinstance(url, str) else None


def key_of(url: str, namespace: str) -> TargetKey:
    """Return the key of an address, as a pod of a namespace resolves it.

    With any scheme and port, a DNS name of a Service
    (https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/) gives the same key as a `serverRef` to
    the server of the same name. The key of any other address is its host and port. A host of two labels may be a
    Service or a host outside the cluster. It gets the key of a Service. `BenchmarkIndex.line` checks whether there is
    such a server.
    """
    parts = _URL.fullmatch(url)
    if parts is None:
        return TargetKey("", url)
    scheme, host, port = parts[1].lower(), parts[2].lower().rstrip("."), parts[3]
    if address := _ip_address(host):
        host = address
    elif service := _service(host.split("."), namespace):
        return service
    return TargetKey("", f"{host}:{int(port or _DEFAULT_PORTS[scheme])}")


def label_of(key: TargetKey) -> str:
    """Return the value of a label for a key. Different keys give different values."""
    text = f"{key.name}.{key.namespace}"
    if key.namespace and _LABEL.fullmatch(text):
        return text
    return f"endpoint-{hashlib.sha256('/'.join(key).encode()).hexdigest()[:16]}"


def _ip_address(host: str) -> str | None:
    """Return an IP address in its canonical form, None if the host is a name."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    return f"[{address}]" if address.version == 6 else str(address)


def _service(labels: list[str], namespace: str) -> TargetKey | None:
    """Return the Service for the labels of a host name, None if the host is outside the cluster."""
    if len(labels) == 1:
        return TargetKey(namespace, labels[0].removesuffix(_HEADLESS_SUFFIX))
    svc = labels.index("svc", 2) if "svc" in labels[2:] else 2
    if svc == 2 and len(labels) > 2 and labels[2] != "svc":
        return None
    return TargetKey(labels[svc - 1], labels[svc - 2].removesuffix(_HEADLESS_SUFFIX))
