"""The cluster: what can be done with its objects.

Objects go in and come out as JSON, without typed models: what we apply is exactly what the builders wrote.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from kubernetes.aio.client import Configuration

from kimi_linear_operator.cluster import credentials
from kimi_linear_operator.cluster.answer import decoded
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.pages import Page, Pages
from kimi_linear_operator.cluster.paths import path, path_of
from kimi_linear_operator.cluster.request import Request
from kimi_linear_operator.cluster.transport import Observe, PendingWrites, Transport, opened, tell_nobody
from kimi_linear_operator.kubernetes import ownership
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER

# Older than any object that exists.
_FIRST_VERSION = "1"


@dataclass(frozen=True)
class Cluster:
    """Reads and writes objects. Every method raises ApiError.

    Attributes:
        transport: What sends requests.
        reading: What reads lists, for all who read any.
    """

    transport: Transport
    reading: Pages

    @property
    def server(self) -> str:
        """Return the address of the API server."""
        return self.transport.server

    def fenced(self, write_seconds: Callable[[], float], pending: PendingWrites) -> "Cluster":
        """Return the same cluster, written to only as long as one may.

        Args:
            write_seconds: Asked right before every write: how long the write may take. Raises ApiError to forbid it.
            pending: Where to count the writes that may still be committed.
        """
        return replace(self, transport=replace(self.transport, write_seconds=write_seconds, pending=pending))

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None if there is none."""
        try:
            return await self._send(Request("GET", path(kind, namespace, name)))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def events_of(self, involved: Manifest) -> list[Manifest]:
        """Return what is told by the Events about an object; of very many, or very large ones, by some of them."""
        return await self.reading.events_of(involved)

    async def essences(self, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
        """Return the essence of all objects of a kind in a namespace that somebody has given a label."""
        return await self.reading.essences(kind, namespace, selector)

    def pages(self, kind: Kind, namespace: str | None = None, selector: str = "") -> AsyncGenerator[Page, None]:
        """Yield all objects of a kind in a namespace, or in all, as they were at one moment: see `Pages.of`."""
        return self.reading.of(kind, namespace, selector)

    async def list(self, kind: Kind, namespace: str, selector: str = "") -> list[Manifest]:
        """Return all objects of a kind in a namespace."""
        return await self.reading.all(kind, namespace, selector, _as_it_is)

    async def apply(self, kind: Kind, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Apply an object on the server's side and return it as it is now.

        Our fields win over those of others; fields that we applied before and no longer name are removed.
        https://kubernetes.io/docs/reference/using-api/server-side-apply/
        """
        query = {"fieldManager": MANAGER, "force": "true", **_dry(dry_run)}
        return await self._send(Request("APPLY", path_of(kind, manifest), query, manifest))

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Apply an object that does not exist yet; one that exists is left as it is, whosever it is.

        The API server ignores the resource version of an object that apply creates (k8s.io/apiserver,
        registry/generic/registry/store.go, Update), and refuses one that is not that of an existing object.

        Raises:
            ApiError: Among others with status 409: there is an object of this name.
        """
        guarded = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": _FIRST_VERSION}}
        return await self._send(Request("APPLY", path_of(kind, manifest), {"fieldManager": MANAGER}, guarded))

    async def overwrite(self, kind: Kind, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Set an object's spec, whole lists included, whoever owns what is in them, and return it as it is now.

        It makes us a second field manager of the object: `unify` has to follow.
        """
        query = {"fieldManager": MANAGER, **_dry(dry_run)}
        return await self._send(Request("PATCH", path_of(kind, manifest), query, {"spec": manifest["spec"]}))

    async def scale(self, kind: Kind, live: Manifest, replicas: int) -> Manifest:
        """Set how many replicas exactly this object has, and nothing else of it; return it as it is now.

        To apply the replicas alone would remove all else that we applied. So it is a patch, and `unify` has to follow.
        """
        body = {"metadata": {"uid": live["metadata"]["uid"]}, "spec": {"replicas": replicas}}
        return await self._send(Request("PATCH", path_of(kind, live), {"fieldManager": MANAGER}, body))

    async def unify(self, kind: Kind, live: Manifest) -> Manifest:
        """Make us one field manager of an object again, if a patch of ours made us two; return it as it is now.

        Server-side apply takes who applies and who patches for two managers, even with one name. Then fields that we
        no longer apply stay, as the other one still owns them. client-go has `csaupgrade` for this.

        Args:
            kind: The object's kind.
            live: The object, with its managed fields.
        """
        fields = ownership.unified(live["metadata"].get("managedFields", []), MANAGER)
        if fields is None:
            return live
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
            {"op": "replace", "path": "/metadata/managedFields", "value": fields},
        ]
        return await self._send(Request("JSON PATCH", path_of(kind, live), {"fieldManager": MANAGER}, patch))

    async def annotate(self, kind: Kind, manifest: Manifest, name: str, value: str) -> Manifest:
        """Set one annotation of exactly this object and return the object as it is now.

        Under a field manager of its own: the annotation is no part of what we apply otherwise, and applying that does
        not remove it.
        """
        given = manifest["metadata"]
        identity = {key: given[key] for key in ("name", "namespace", "uid")}
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {**identity, "annotations": {name: value}},
        }
        query = {"fieldManager": f"{MANAGER}-annotations", "force": "true"}
        return await self._send(Request("APPLY", path_of(kind, manifest), query, body))

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest) -> Manifest:
        """Set an object's status, unless another of its name has replaced it meanwhile, and return the new metadata.

        A merge patch: server-side apply refuses objects that do not match their schema, and those need a status most.
        The rest of the object is not asked for: it may be a megabyte, and whoever writes a status has read it.
        """
        gone = dict.fromkeys(manifest.get("status", {}).keys() - status.keys())
        body = {"metadata": {"uid": manifest["metadata"]["uid"]}, "status": {**status, **gone}}
        target = f"{path_of(kind, manifest)}/status"
        answer = await self._send(Request("STATUS", target, {"fieldManager": MANAGER}, body))
        return dict(answer["metadata"])

    async def delete(self, kind: Kind, manifest: Manifest, *, children_first: bool = False) -> None:
        """Delete exactly this object; one that is gone already is fine."""
        policy = "Foreground" if children_first else "Background"
        options = {"propagationPolicy": policy, "preconditions": {"uid": manifest["metadata"]["uid"]}}
        try:
            await self._send(Request("DELETE", path_of(kind, manifest), body=options))
        except ApiError as error:
            if error.status != 404:
                raise

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Create an object; it is an error if there is one of its name."""
        return await self._send(Request("POST", path(kind, manifest["metadata"]["namespace"]), body=manifest))

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Replace an object; it is an error if it is no longer of the resource version that the manifest names."""
        return await self._send(Request("PUT", path_of(kind, manifest), body=manifest))

    async def _send(self, request: Request) -> Manifest:
        return decoded(await self.transport.answer(request))


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


@asynccontextmanager
async def connect(observe: Observe = tell_nobody) -> AsyncIterator[Cluster]:
    """Connect with the kubeconfig that kubectl would use, or as the pod's service account.

    Args:
        observe: Called for every answer.
    """
    async with connect_to(await credentials.configuration(), observe) as cluster:
        yield cluster


@asynccontextmanager
async def connect_to(configuration: Configuration, observe: Observe = tell_nobody) -> AsyncIterator[Cluster]:
    """Connect to an API server with these credentials."""
    async with opened(configuration, observe) as transport:
        yield Cluster(transport, Pages(transport))


def _as_it_is(manifest: Manifest) -> Manifest:
    return manifest
