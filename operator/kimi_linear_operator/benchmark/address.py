"""Which server an address names: one key, however the address is written."""

import hashlib
import ipaddress
import re
from typing import NamedTuple

from kimi_linear_operator.kubernetes.kinds import Manifest

_URL = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?/?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
# `resources/metadata.py` names the headless Service of a server so.
_HEADLESS_SUFFIX = "-headless"


class TargetKey(NamedTuple):
    """What benchmarks measure: a server by its namespace and name, or an address in no namespace."""

    namespace: str
    name: str


def target_of(manifest: Manifest) -> TargetKey | None:
    """Return what a benchmark measures, None if its spec cannot be read."""
    spec, namespace = manifest.get("spec"), manifest["metadata"]["namespace"]
    parts = [spec.get(name) for name in ("serverRef", "endpoint")] if isinstance(spec, dict) else [None, None]
    server, endpoint = (part if isinstance(part, dict) else {} for part in parts)
    if isinstance(name := server.get("name"), str):
        return TargetKey(namespace, name)
    return key_of(url, namespace) if isinstance(url := endpoint.get("url"), str) else None


def key_of(url: str, namespace: str) -> TargetKey:
    """Return the key of an address that a pod of a namespace uses.

    The DNS names of a Service (https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/) give the same
    key as a `serverRef` to the server of this name, whichever scheme and port they have. Any other address is host and
    port. A host of two parts may be a Service or an outside host; it is taken for a Service.
    """
    found = _URL.fullmatch(url)
    if found is None:
        return TargetKey("", url)
    scheme, host, port = found[1].lower(), found[2].lower().rstrip("."), found[3]
    if address := _ip_address(host):
        host = address
    elif service := _service(host.split("."), namespace):
        return service
    return TargetKey("", f"{host}:{int(port or _DEFAULT_PORTS[scheme])}")


def label_of(key: TargetKey) -> str:
    """Return a key as the value of a label; two keys never have the same."""
    text = f"{key.name}.{key.namespace}"
    if key.namespace and _LABEL.fullmatch(text):
        return text
    return f"endpoint-{hashlib.sha256('/'.join(key).encode()).hexdigest()[:16]}"


def _ip_address(host: str) -> str | None:
    """Return an IP address in its usual form, None if the host is a name."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    return f"[{address}]" if address.version == 6 else str(address)


def _service(labels: list[str], namespace: str) -> TargetKey | None:
    """Return the Service that a host name's labels name, None if they are those of an outside host."""
    if len(labels) == 1:
        return TargetKey(namespace, labels[0].removesuffix(_HEADLESS_SUFFIX))
    place = labels.index("svc", 2) if "svc" in labels[2:] else 2
    if place == 2 and len(labels) > 2 and labels[2] != "svc":
        return None
    return TargetKey(labels[place - 1], labels[place - 2].removesuffix(_HEADLESS_SUFFIX))
