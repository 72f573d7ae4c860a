"""URL paths of objects at the API server."""

from urllib.parse import quote

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest

_NOT_FOUND = 404


def path(kind: Kind, namespace: str | None, name: str = "") -> str:
    """Return the path of a kind in all namespaces, of a kind in one namespace, or of one object.

    A name can come from an object of somebody else, for example from an owner reference, and the API server does not
    check such names. So a name never becomes more than one segment of the path.

    Raises:
        ApiError: With status 404, if no object can have this name.
    """
    scope = f"/namespaces/{_segment(namespace)}" if namespace else ""
    return f"{version_path(kind)}{scope}/{kind.plural}" + (f"/{_segment(name)}" if name else "")


def version_path(kind: Kind) -> str:
    """Return the path of a kind's API version. There, discovery names all kinds of the version."""
    return f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"


def path_of(kind: Kind, manifest: Manifest) -> str:
    """Return the path of an object.

    Raises:
        ApiError: With status 404, if no object can have this name.
    """
    name = manifest["metadata"]["name"]
    return f"{path(kind, manifest['metadata']['namespace'])}/{_segment(name)}"


def may_exist(name: str) -> bool:
    """Return whether an object can have this name. The rules are the API server's (k8s.io/apimachinery, rest/path)."""
    return name not in ("", ".", "..") and "/" not in name and "%" not in name


def _segment(name: str) -> str:
    """Return a name as a segment of a path.

    Raises:
        ApiError: With status 404, if no object can have this name.
    """
    if not may_exist(name):
        raise ApiError(_NOT_FOUND, f"no object can have the name {name[:100]!r}")
    return quote(name, safe="")
