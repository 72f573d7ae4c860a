"""Reads and writes the objects of the cluster.

Objects are plain JSON, without typed models. So the API server gets exactly the manifests of the builders.
"""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from kubernetes.aio.client import Configuration

from kimi_linear_operator.cluster import credentials
from kimi_linear_operator.cluster.answer import decoded, object_in, shows_missing, text_of
from kimi_linear_operator.cluster.errors import UNREACHABLE, ApiError
from kimi_linear_operator.cluster.pages import Page, Pages
from kimi_linear_operator.cluster.paths import may_exist, path, path_of
from kimi_linear_operator.cluster.request import Request
from kimi_linear_operator.cluster.transport import (
    Observe,
    PendingWrites,
    TooLongError,
    Transport,
    ignore_answer,
    opened,
)
from kimi_linear_operator.kubernetes import ownership
from kimi_linear_operator.kubernetes.kinds import POD, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER

_CONFLICT = 409
_INVALID = 422
# The fields that identify an object and its spec. Each change of the spec raises the generation.
_SAME_SPEC = ("uid", "generation")
# How often to merge two field managers into one while others change the object: a Deployment's controller writes its
# status within milliseconds after each patch.
_MOST_UNIFICATIONS = 5
# The fields that identify an object and its whole state.
_VERSION = ("uid", "resourceVersion")
# The API server gives every object a newer version than this.
_FIRST_VERSION = "1"
# The kind of the answer to a write of a status (`cluster/request.py`).
_METADATA_KIND = "PartialObjectMetadata"
# The longest part of a log that one request reads. Each of an engine's eight processes can write some 20 lines within
# seconds.
TAIL_LINES = 500
TAIL_BYTES = 256 * 1024


@dataclass(frozen=True)
class Cluster:
    """Reads and writes objects. Every method raises ApiError.

    Attributes:
        transport: Sends requests.
        reading: Reads lists. All code must share it, because it bounds the memory for lists.
    """

    transport: Transport
    reading: Pages

    @property
    def server(self) -> str:
        """Return the address of the API server."""
        return self.transport.server

    def fenced(self, write_seconds: Callable[[], float], pending: PendingWrites) -> "Cluster":
        """Return the same cluster with a fence, so that every write needs permission.

        Args:
            write_seconds: Called right before every write. Returns how many seconds the write may take, and raises
                ApiError to forbid it.
            pending: Counts the writes that may still be committed.
        """
        return replace(self, transport=replace(self.transport, write_seconds=write_seconds, pending=pending))

    def in_turns(self, turn: Callable[[], Awaitable[None]]) -> "Cluster":
        """Return the same cluster with turns: after every answer, the caller waits for a turn before it goes on."""
        return replace(self, transport=replace(self.transport, turn=turn))

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None if there is none.

        Raises:
            ApiError: The request failed. This includes status 404 without the API server's word that this object does
                not exist.
        """
        if not may_exist(namespace) or not may_exist(name):
            return None
        answer = await self.transport.answer(Request("GET", path(kind, namespace, name)))
        return None if shows_missing(answer, name) else object_in(answer, kind.kind, name)

    async def events_of(self, involved: Manifest) -> list[Manifest]:
        """Return the essence of the Events about an object; see `Pages.events_of` for the bounds."""
        return await self.reading.events_of(involved)

    async def pod_log_tail(
        self, pod: Manifest, container: str, since_seconds: float | None = None, *, lines: int = TAIL_LINES
    ) -> str:
        """Return the end of a container's log, at most TAIL_BYTES bytes. The request may take LOG_SECONDS.

        The text is foreign and may contain secrets and terminal escapes (see `foreigntext`). Each line begins with the
        time of the node's clock at which it was written (RFC 3339 with nanoseconds), and a space.

        Args:
            pod: The pod. Only its name and namespace are used.
            container: The name of its container. A container that has not started yet has no log (status 400).
            since_seconds: Return only lines that were written at most this many seconds ago, None for all lines.
            lines: Maximum number of lines.
        """
        query = {
            "container": container,
            "timestamps": "true",
            "tailLines": str(lines),
            "limitBytes": str(TAIL_BYTES),
            "sinceSeconds": "" if since_seconds is None else str(max(1, math.ceil(since_seconds))),
        }
        try:
            return text_of(await self.transport.answer(Request("LOG", f"{path_of(POD, pod)}/log", query), TAIL_BYTES))
        except TooLongError as error:
            raise ApiError(UNREACHABLE, f"the log has more than the requested {TAIL_BYTES} bytes") from error

    async def essences(self, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
        """Return the essence of all objects of a kind in a namespace that match a label selector."""
        return await self.reading.essences(kind, namespace, selector)

    def pages(self, kind: Kind, namespace: str | None = None, selector: str = "") -> AsyncGenerator[Page, None]:
        """Yield all objects of a kind in one namespace or in all, in pages; see `Pages.of`."""
        return self.reading.of(kind, namespace, selector)

    async def list(self, kind: Kind, namespace: str, selector: str = "") -> list[Manifest]:
        """Return all objects of a kind in a namespace."""
        return await self.reading.all(kind, namespace, selector, _unchanged)

    async def apply(self, kind: Kind, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Apply an object with server-side apply; return the new state.

        Our fields overwrite fields of other field managers. Fields that we applied before and now leave out are
        removed. https://kubernetes.io/docs/reference/using-api/server-side-apply/

        Args:
            kind: The object's kind.
            manifest: The wanted object. See `for_state` for a manifest that changes only one state of an object.
            dry_run: Whether to store nothing.
        """
        query = {"fieldManager": MANAGER, "force": "true", **_dry_run_query(dry_run)}
        return await self._write(kind, Request("APPLY", path_of(kind, manifest), query, manifest), manifest)

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Apply an object that does not exist yet. An existing object stays as it is.

        The manifest gets a resource version that no existing object has, so the API server refuses to change an
        existing object. When the API server creates the object, it ignores the version (k8s.io/apiserver,
        registry/generic/registry/store.go, Update).

        Raises:
            ApiError: With status 409, if an object with this name exists.
        """
        guarded = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": _FIRST_VERSION}}
        request = Request("APPLY", path_of(kind, manifest), {"fieldManager": MANAGER}, guarded)
        return await self._write(kind, request, manifest)

    async def overwrite(self, kind: Kind, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Merge-patch an object's spec; return the new state.

        The patch replaces whole lists, including the items of other managers. After the patch, we are two field
        managers of the object, so call `unify` afterwards.

        Args:
            kind: The object's kind.
            manifest: The wanted object. See `for_state` for a manifest that changes only one state of an object.
            dry_run: Whether to store nothing.
        """
        query = {"fieldManager": MANAGER, **_dry_run_query(dry_run)}
        version = {name: manifest["metadata"][name] for name in _VERSION if name in manifest["metadata"]}
        request = Request("PATCH", path_of(kind, manifest), query, {"metadata": version, "spec": manifest["spec"]})
        return await self._write(kind, request, manifest)

    async def amend(self, kind: Kind, live: Manifest, manifest: Manifest) -> Manifest:
        """Change an object in any state as `apply` would, but leave its owners unchanged; return the new state.

        Another client can remove an owner at any time, and an apply would add it again. So this is a patch of what an
        apply would change. After the patch, we are two field managers of the object, so call `unify` afterwards.

        Args:
            kind: The object's kind.
            live: The whole object. The fields that an apply would not change in it stay as they are.
            manifest: The wanted object.

        Raises:
            ApiError: For example with status 409, if the object is replaced by another one.
        """
        applied = await self.apply(kind, for_object(live, manifest), dry_run=True)
        body = for_object(live, {"metadata": {}, **_patch(_content(live), _content(applied), only_changes=True)})
        return await self._write(kind, Request("PATCH", path_of(kind, live), {"fieldManager": MANAGER}, body), live)

    async def scale(self, kind: Kind, live: Manifest, replicas: int) -> Manifest:
        """Set only the replicas of exactly this object; return the new state.

        This is a patch, because an apply of only the replicas would remove all other fields that we applied. After the
        patch, we are two field managers of the object, so call `unify` afterwards.
        """
        body = {"metadata": {"uid": live["metadata"]["uid"]}, "spec": {"replicas": replicas}}
        return await self._write(kind, Request("PATCH", path_of(kind, live), {"fieldManager": MANAGER}, body), live)

    async def unify(self, kind: Kind, live: Manifest) -> Manifest:
        """After a patch, merge our two entries as field managers of an object into one; return the new state.

        For server-side apply, a name that applies and patches counts as two managers. Fields that we no longer apply
        would then stay, because the second manager still owns them. client-go has `csaupgrade` for this.

        Args:
            kind: The object's kind.
            live: The object, with its managed fields.
        """
        for _ in range(_MOST_UNIFICATIONS):
            fields = ownership.unified(live["metadata"].get("managedFields", []), MANAGER)
            if fields is None:
                return live
            patch = [
                {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
                {"op": "replace", "path": "/metadata/managedFields", "value": fields},
            ]
            try:
                request = Request("PATCH", path_of(kind, live), {"fieldManager": MANAGER}, patch)
                return await self._write(kind, request, live)
            except ApiError as error:
                if error.status != _INVALID:
                    raise
            live = await self._changed(kind, live)
        raise ApiError(_CONFLICT, f"{kind.kind} {live['metadata']['name']} keeps changing")

    async def _changed(self, kind: Kind, before: Manifest) -> Manifest:
        """Return an object that has changed.

        Raises:
            ApiError: With status 409, if it is gone or replaced by another object.
        """
        live = await self.get(kind, before["metadata"]["namespace"], before["metadata"]["name"])
        if live is None or live["metadata"]["uid"] != before["metadata"]["uid"]:
            raise ApiError(_CONFLICT, f"{kind.kind} {before['metadata']['name']} is gone")
        return live

    async def annotate(self, kind: Kind, manifest: Manifest, name: str, value: str) -> Manifest:
        """Set one annotation of exactly this object; return the new state.

        The annotation has a separate field manager. Otherwise the next `apply` would remove it, because an apply does
        not contain it.
        """
        body = _identity(kind, manifest)
        body["metadata"]["annotations"] = {name: value}
        query = {"fieldManager": f"{MANAGER}-annotations", "force": "true"}
        return await self._write(kind, Request("APPLY", path_of(kind, manifest), query, body), manifest)

    async def patch_status(
        self, kind: Kind, manifest: Manifest, status: Manifest, *, if_unchanged: bool = False
    ) -> Manifest:
        """Set the status of exactly this object; return its new metadata.

        This is a patch, because server-side apply refuses objects that do not match their schema, and exactly these
        objects need a status that says so. The answer contains only the metadata, because the rest may be a megabyte
        and the caller already has it.

        Args:
            kind: The kind of the object.
            manifest: The object.
            status: The status.
            if_unchanged: Whether to refuse with status 409 if the spec has changed. Other changes do not matter.
        """
        before = manifest.get("status", {})
        merged = {"metadata": {"uid": manifest["metadata"]["uid"]}, "status": _patch(before, status)}
        body = _exact_patch(manifest["metadata"], before, status) if if_unchanged else merged
        target = f"{path_of(kind, manifest)}/status"
        try:
            request = Request("STATUS", target, {"fieldManager": MANAGER}, body)
            answer = await self._send(request, _METADATA_KIND, manifest["metadata"]["name"])
        except ApiError as error:
            # If a test in the patch fails, the API server gives the same answer as for a status that the CRD refuses.
            if if_unchanged and error.status == _INVALID and await self._has_changed(kind, manifest):
                raise ApiError(_CONFLICT, "the spec has changed") from error
            raise
        return dict(answer["metadata"])

    async def _has_changed(self, kind: Kind, manifest: Manifest) -> bool:
        """Return whether an object's spec has changed, or the object is gone."""
        live = await self.get(kind, manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        return live is None or any(live["metadata"][name] != manifest["metadata"][name] for name in _SAME_SPEC)

    async def set_condition(self, kind: Kind, manifest: Manifest, condition: Manifest) -> Manifest:
        """Set one condition in the status of exactly this object of a Kubernetes kind; return the new state."""
        body = {**_identity(kind, manifest), "status": {"conditions": [condition]}}
        query = {"fieldManager": MANAGER, "force": "true"}
        return await self._write(kind, Request("APPLY", f"{path_of(kind, manifest)}/status", query, body), manifest)

    async def delete(
        self, kind: Kind, manifest: Manifest, *, children_first: bool = False, if_unchanged: bool = False
    ) -> None:
        """Delete exactly this object. It is not an error if the object is already gone.

        An object that is already being deleted causes no request. A finalizer may hold it for a long time.

        Args:
            kind: The object's kind.
            manifest: The object.
            children_first: Whether the object stays until its children are deleted.
            if_unchanged: Whether to refuse with status 409 if the object has changed.
        """
        if "deletionTimestamp" in manifest["metadata"]:
            return
        policy = "Foreground" if children_first else "Background"
        same = _VERSION if if_unchanged else ("uid",)
        options = {
            "propagationPolicy": policy,
            "preconditions": {name: manifest["metadata"][name] for name in same},
        }
        answer = await self.transport.answer(Request("DELETE", path_of(kind, manifest), body=options))
        if not shows_missing(answer, manifest["metadata"]["name"]):
            decoded(answer)

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Create an object. It is an error if an object with this name exists."""
        request = Request("POST", path(kind, manifest["metadata"]["namespace"]), body=manifest)
        return await self._write(kind, request, manifest)

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Replace an object. It is an error if its resource version is not the version in the manifest."""
        return await self._write(kind, Request("PUT", path_of(kind, manifest), body=manifest), manifest)

    async def _write(self, kind: Kind, request: Request, manifest: Manifest) -> Manifest:
        # With `generateName`, the API server chooses the name.
        return await self._send(request, kind.kind, manifest["metadata"].get("name", ""))

    async def _send(self, request: Request, kind: str, name: str) -> Manifest:
        return object_in(await self.transport.answer(request), kind, name, is_stored="dryRun" not in request.query)


def _identity(kind: Kind, manifest: Manifest) -> Manifest:
    """Return the metadata with which an apply changes exactly this object."""
    names = {key: manifest["metadata"][key] for key in ("name", "namespace", "uid")}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": names}


def for_state(live: Manifest, manifest: Manifest) -> Manifest:
    """Return a manifest whose write fails with status 409 if the live object has changed or is gone.

    The version alone is not enough: if the object is gone, the API server ignores the version and creates the object.
    """
    return _with(_VERSION, live, manifest)


def for_object(live: Manifest, manifest: Manifest) -> Manifest:
    """Return a manifest whose write fails with status 409 if the live object is gone or replaced by another one."""
    return _with(("uid",), live, manifest)


def _with(names: Iterable[str], live: Manifest, manifest: Manifest) -> Manifest:
    found = {name: live["metadata"][name] for name in names}
    return {**manifest, "metadata": {**manifest["metadata"], **found}}


def _dry_run_query(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


@asynccontextmanager
async def connect(observe: Observe = ignore_answer, *, keep_alive: bool = True) -> AsyncIterator[Cluster]:
    """Connect with the kubeconfig that kubectl would use, or as the pod's service account.

    Args:
        observe: Called for every answer.
        keep_alive: Whether requests use the connections of earlier requests.
    """
    async with connect_to(await credentials.configuration(), observe, keep_alive=keep_alive) as cluster:
        yield cluster


@asynccontextmanager
async def connect_to(
    configuration: Configuration, observe: Observe = ignore_answer, *, keep_alive: bool = True
) -> AsyncIterator[Cluster]:
    """Connect to an API server with these credentials."""
    async with opened(configuration, observe, keep_alive=keep_alive) as transport:
        yield Cluster(transport, Pages(transport))


def _patch(before: Manifest, after: Manifest, *, only_changes: bool = False) -> Manifest:
    """Return the merge patch from one object to another. Fields that are missing in the new object become null.

    Args:
        before: The first object.
        after: The new object.
        only_changes: Whether to leave out fields that are the same in both.
    """
    same = {name for name in before.keys() & after.keys() if before[name] == after[name]} if only_changes else ()
    kept = {
        name: _patch(before[name], value, only_changes=only_changes)
        if isinstance(value, dict) and isinstance(before.get(name), dict)
        else value
        for name, value in after.items()
        if name not in same
    }
    return {**kept, **dict.fromkeys(before.keys() - after.keys())}


def _content(manifest: Manifest) -> Manifest:
    """Return the part of an object that users write, without its owners."""
    metadata = {name: manifest["metadata"].get(name, {}) for name in ("labels", "annotations")}
    content = {name: value for name, value in manifest.items() if name not in ("apiVersion", "kind", "status")}
    return {**content, "metadata": metadata}


def _exact_patch(metadata: Manifest, before: Manifest, after: Manifest) -> list[Manifest]:
    """Return the JSON patch from one status to another, only for an object with this UID and this spec."""
    tests = [{"op": "test", "path": f"/metadata/{name}", "value": metadata[name]} for name in _SAME_SPEC]
    if not before:
        return [*tests, _add("", after)]
    changed = [_add(f"/{name}", value) for name, value in after.items() if name not in before or before[name] != value]
    # Removing a missing field is an error, so the patch first adds each field.
    gone = [f"/{name}" for name in before if name not in after]
    removed = [step for path in gone for step in (_add(path, None), {"op": "remove", "path": f"/status{path}"})]
    return [*tests, *changed, *removed]


def _add(path: str, value: object) -> Manifest:
    return {"op": "add", "path": f"/status{path}", "value": value}


def _unchanged(manifest: Manifest) -> Manifest:
    return manifest
