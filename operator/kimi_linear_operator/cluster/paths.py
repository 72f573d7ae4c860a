"""Where the API server keeps objects."""

from kimi_linear_operator.kubernetes.kinds import Kind, Manifest


def path(kind: Kind, namespace: str | None, name: str = "") -> str:
    """Return where the API server keeps a kind of objects, those of a namespace, or one."""
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{kind.plural}" + (f"/{name}" if name else "")


def path_of(kind: Kind, manifest: Manifest) -> str:
    """Return where the API server keeps this object."""
    return path(kind, manifest["metadata"]["namespace"], manifest["metadata"]["name"])
