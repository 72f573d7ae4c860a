"""Finds the proxy for an address. Reads HTTPS_PROXY, HTTP_PROXY and NO_PROXY as kubectl does.

The rules are those of Go (golang.org/x/net/http/httpproxy). Python's urllib does not support address ranges, but pods
need them: for example, their API server is 10.96.0.1, and NO_PROXY=10.96.0.0/12.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

_PORTS = {"http": "80", "https": "443"}

_Address = IPv4Address | IPv6Address


def proxy_for(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the address of the proxy for a URL, None if it needs no proxy."""
    target = urlsplit(url)
    if target.scheme not in _PORTS:
        return None
    proxy = _read_variable(environment, f"{target.scheme}_proxy")
    host = (target.hostname or "").lower()
    port = str(target.port or _PORTS[target.scheme])
    if not proxy or _bypasses_proxy(host, port, _read_variable(environment, "no_proxy")):
        return None
    return proxy if _is_complete(urlsplit(proxy)) else f"http://{proxy}"


def _read_variable(environment: Mapping[str, str], name: str) -> str:
    """Return the value of a variable. As in Go, upper case takes precedence, and an empty variable counts as unset."""
    return environment.get(name.upper()) or environment.get(name) or ""


def _is_complete(proxy: SplitResult) -> bool:
    return bool(proxy.scheme and proxy.netloc)


def _bypasses_proxy(host: str, port: str, no_proxy: str) -> bool:
    address = _address(host)
    if host == "localhost" or (address and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), host, port, address) for entry in no_proxy.split(","))


def _matches(entry: str, host: str, port: str, address: _Address | None) -> bool:
    """Return whether an entry of NO_PROXY covers a host.

    An entry is *, a range, or an address or domain with or without a port.
    """
    if not entry or entry == "*":
        return entry == "*"
    if "/" in entry:
        return address is not None and _is_in_range(address, entry)
    name, entry_port = _split(entry)
    if entry_port not in ("", port):
        return False
    if entry_address := _address(name):
        return entry_address == address
    if not name:
        return False
    domain = name.removeprefix("*") if name.startswith("*.") else name
    return host.endswith(domain if domain.startswith(".") else f".{domain}") or host == domain


def _split(entry: str) -> tuple[str, str]:
    """Return the host and the port of an entry. An IPv6 address has brackets if and only if it has a port."""
    if entry.startswith("[") and "]:" in entry:
        name, _, port = entry[1:].partition("]:")
        return name, port
    name, _, port = entry.rpartition(":") if entry.count(":") == 1 else (entry, "", "")
    return name, port


def _address(text: str) -> _Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_in_range(address: _Address, network: str) -> bool:
    try:
        return address in ip_network(network, strict=False)
    except ValueError:
        return False
