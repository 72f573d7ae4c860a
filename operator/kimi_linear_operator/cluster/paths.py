"""URL paths of objects at the API server."""

from kimi_linear_operator.kubernetes.kinds import Kind, Manifest


def path(kind: Kind, namespace: str | None, name: str = "") -> str:
    """Return the path of a kind in all namespaces, of a kind in one namespace, or of one object."""
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{kind.plural}" + (f"/{name}" if name else "")


def path_of(kind: Kind, manifest: Manifest) -> str:
    """Return the path of an object."""
    return path(kind, manifest["metadata"]["namespace"], manifest["metadata"]["name"])
