"""Reads and writes the objects of the cluster.

Objects are plain JSON, without typed models. So the API server gets exactly the manifests of the builders.
"""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from kubernetes.aio.client import Configuration

from kimi_linear_operator.cluster import credentials
from kimi_linear_operator.cluster.answer import check_deletion, metadata_in, object_in, shows_missing, text_of
from kimi_linear_operator.cluster.errors import CONFLICT, UNREACHABLE, ApiError
from kimi_linear_operator.cluster.pages import Page, Pages, Summary
from kimi_linear_operator.cluster.paths import may_exist, path, path_of
from kimi_linear_operator.cluster.request import METADATA_KIND, Request
from kimi_linear_operator.cluster.transport import (
    Observe,
    PendingWrites,
    Transport,
    ignore_answer,
    opened,
)
from kimi_linear_operator.jsontext import TooLongError
from kimi_linear_operator.kubernetes import ownership
from kimi_linear_operator.kubernetes.bounds import LONGEST_OBJECT
from kimi_linear_operator.kubernetes.kinds import POD, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER, is_being_deleted

# The fields that identify an object and its spec. Each change of the spec raises the generation.
_SAME_SPEC = ("uid", "generation")
# How often to write for exactly the known state of an object while others change it: a Deployment's controller writes
# its status within milliseconds after each patch.
_MOST_CONFLICTS = 5
# The fields that identify an object and its whole state.
_VERSION = ("uid", "resourceVersion")
# The API server gives every object a newer version than this.
_FIRST_VERSION = "1"
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
        """Return the same cluster with turns.

        At the end of every request, also of a failed one, the caller waits for a turn before it goes on.
        """
        # The copy has the same lock, so there is still only one decoded page of all lists.
        reading = replace(self.reading, transport=replace(self.reading.transport, turn=turn))
        return replace(self, transport=replace(self.transport, turn=turn), reading=reading)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None if there is none. Only the metadata is read if it is too large to decode it.

        Raises:
            ApiError: The request failed. This includes an answer with status 404 in which the API server does not name
                this object.
        """
        if not may_exist(namespace) or not may_exist(name):
            return None
        target = path(kind, namespace, name)
        try:
            answer = await self.transport.answer(Request("GET", target), LONGEST_OBJECT)
            return None if shows_missing(answer, name) else object_in(answer, kind.kind, name)
        except TooLongError:
            answer = await self.transport.answer(Request("GET", target, has_metadata_only=True))
            return None if shows_missing(answer, name) else metadata_in(answer, kind, name)

    async def events_of(self, involved: Manifest, reasons: Collection[str]) -> list[Manifest]:
        """Return the essence of the Events with these reasons about an object; see `Pages.events_of` for the bounds."""
        return await self.reading.events_of(involved, reasons)

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

    async def summarize(
        self,
        kind: Kind,
        namespace: str,
        selector: str,
        summary: Summary,
        add: Callable[[Summary, Sequence[Manifest]], Summary],
    ) -> Summary:
        """Return a summary of all objects of a kind in a namespace; see `Pages.summarize`."""
        return await self.reading.summarize(kind, namespace, selector, summary, add)

    def pages(self, kind: Kind, namespace: str | None = None, selector: str = "") -> AsyncGenerator[Page, None]:
        """Yield all objects of a kind in one namespace or in all, in pages; see `Pages.of`."""
        return self.reading.of(kind, namespace, selector)

    async def list(self, kind: Kind, namespace: str, selector: str = "") -> list[Manifest]:
        """Return all objects of a kind in a namespace. The operator itself never needs all of them in memory."""
        return await self.summarize(kind, namespace, selector, list[Manifest](), lambda found, more: [*found, *more])

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

    async def amend(self, kind: Kind, live: Manifest, tried: Manifest) -> Manifest:
        """Change our fields of an object as a dry run has changed them, except its owners; return the new state.

        Other clients may change the object at the same time, and may remove an owner. A write of the whole state would
        undo that. So this is a patch of our fields, which first tests their old values. A list counts as one field.
        After the patch, we are two field managers of the object, so call `unify` afterwards.

        Args:
            kind: The object's kind.
            live: The whole object, with its managed fields.
            tried: The answer to a dry run that started from this state of the object, or from a later one.

        Raises:
            ApiError: For example with status 409, if somebody has changed one of these fields, or if the object is
                replaced by another one.
        """
        fields = ownership.union(ownership.fields_of(manifest, MANAGER) for manifest in (live, tried))
        steps = [*_tests(live, ("uid",)), *_changes(_content(live), _content(tried), fields)]
        return await self._write(kind, Request("PATCH", path_of(kind, live), {"fieldManager": MANAGER}, steps), live)

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
        for _ in range(_MOST_CONFLICTS):
            fields = ownership.unified(live["metadata"].get("managedFields") or [], MANAGER)
            if fields is None:
                return live
            patch = [*_tests(live, ("resourceVersion",)), _step("replace", "/metadata/managedFields", fields)]
            try:
                request = Request("PATCH", path_of(kind, live), {"fieldManager": MANAGER}, patch)
                return await self._write(kind, request, live)
            except ApiError as error:
                if error.status != CONFLICT:
                    raise
            live = await self._changed(kind, live)
        raise _changing(kind, live)

    async def _changed(self, kind: Kind, before: Manifest, same: Iterable[str] = ("uid",)) -> Manifest:
        """Return an object that has changed.

        Raises:
            ApiError: With status 409, if it is gone, or if one of these fields of its metadata has changed.
        """
        about = before["metadata"]
        live = await self.get(kind, about["namespace"], about["name"])
        if live is None or any(live["metadata"][name] != about[name] for name in same):
            raise ApiError(CONFLICT, f"{kind.kind} {about['name']} is gone or has another spec")
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

    async def remove_annotation(self, kind: Kind, live: Manifest, name: str) -> Manifest:
        """Remove one annotation of exactly this object, also if another field manager owns it; return the new state.

        An apply without the annotation removes it only if no other field manager owns it.
        """
        body = {"metadata": {"uid": live["metadata"]["uid"], "annotations": {name: None}}}
        return await self._write(kind, Request("PATCH", path_of(kind, live), {"fieldManager": MANAGER}, body), live)

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
            if_unchanged: Whether to refuse with status 409 if the spec has changed.

        Raises:
            ApiError: For example with status 409, if the object is replaced by another one. If no field of the status
                is known, so is an object that changes again and again.
        """
        same = _SAME_SPEC if if_unchanged else ("uid",)
        for _ in range(_MOST_CONFLICTS):
            try:
                return await self._patch_status(kind, manifest, status, same)
            except ApiError as error:
                if error.status != CONFLICT or manifest.get("status"):
                    raise
            live = await self._changed(kind, manifest, same)
            manifest = {**manifest, "metadata": live["metadata"]}
        raise _changing(kind, manifest)

    async def _patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, same: Iterable[str]) -> Manifest:
        body = _status_patch(manifest, status, same)
        request = Request("STATUS", f"{path_of(kind, manifest)}/status", {"fieldManager": MANAGER}, body)
        answer, name = await self.transport.answer(request), manifest["metadata"]["name"]
        try:
            return dict(object_in(answer, METADATA_KIND, name)["metadata"])
        except TooLongError:
            return dict(metadata_in(answer, kind, name)["metadata"])

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
        if is_being_deleted(manifest):
            return
        policy = "Foreground" if children_first else "Background"
        same = _VERSION if if_unchanged else ("uid",)
        options = {
            "propagationPolicy": policy,
            "preconditions": {name: manifest["metadata"][name] for name in same},
        }
        answer = await self.transport.answer(Request("DELETE", path_of(kind, manifest), body=options))
        try:
            check_deletion(answer, kind.kind, manifest["metadata"])
        except TooLongError as error:
            raise ApiError(UNREACHABLE, "the answer is too large to read") from error

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Create an object. It is an error if an object with this name exists."""
        request = Request("POST", path(kind, manifest["metadata"]["namespace"]), body=manifest)
        return await self._write(kind, request, manifest)

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Replace an object. It is an error if its resource version is not the version in the manifest."""
        return await self._write(kind, Request("PUT", path_of(kind, manifest), body=manifest), manifest)

    async def _write(self, kind: Kind, request: Request, manifest: Manifest) -> Manifest:
        # With `generateName`, the API server chooses the name.
        name, is_stored = manifest["metadata"].get("name", ""), "dryRun" not in request.query
        try:
            return object_in(await self.transport.answer(request), kind.kind, name, is_stored=is_stored)
        except TooLongError as error:
            live = await self.get(kind, manifest["metadata"]["namespace"], name) if name and is_stored else None
            if live is None:
                raise ApiError(UNREACHABLE, "the answer is too large to read") from error
            return live


def _changing(kind: Kind, live: Manifest) -> ApiError:
    return ApiError(CONFLICT, f"{kind.kind} {live['metadata']['name']} keeps changing")


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


def _content(manifest: Manifest) -> Manifest:
    """Return the part of an object that users write, without its owners."""
    metadata = {name: manifest["metadata"][name] for name in ("labels", "annotations") if name in manifest["metadata"]}
    content = {name: value for name, value in manifest.items() if name not in ("apiVersion", "kind", "status")}
    return {**content, "metadata": metadata}


def _tests(manifest: Manifest, names: Iterable[str]) -> Iterator[Manifest]:
    """Yield the steps of a JSON patch that test fields of the metadata."""
    return (_step("test", f"/metadata/{name}", manifest["metadata"][name]) for name in names)


def _status_patch(manifest: Manifest, status: Manifest, same: Iterable[str]) -> Manifest | list[Manifest]:
    """Return a patch that sets the status of an object in which these fields of the metadata are the same.

    Fields that are neither in the known nor in the new status stay.

    This is a JSON patch, because the API server ignores the UID in a merge patch of the status of a custom resource. A
    JSON patch cannot set a field of a status that may be missing. So if no field of the status is known, this is a
    merge patch for exactly the known state of the object.
    """
    if before := manifest.get("status"):
        return [*_tests(manifest, same), *_setting(before, status)]
    return {"metadata": {"resourceVersion": manifest["metadata"]["resourceVersion"]}, "status": status}


def _setting(before: Manifest, after: Manifest) -> Iterator[Manifest]:
    """Yield the steps of a JSON patch that set each field of a status, because somebody may have changed any field."""
    for name, value in {**dict.fromkeys(before), **after}.items():
        yield _step("add", f"/status/{name}", value)
    # Removing a missing field would be an error, so the patch has added each field.
    for name in before.keys() - after.keys():
        yield {"op": "remove", "path": f"/status/{name}"}


def _changes(before: Manifest, after: Manifest, fields: ownership.Fields, path: str = "") -> Iterator[Manifest]:
    """Yield the steps of a JSON patch that change these fields of an object, each after a test of its old value.

    A missing field has the value null in a test (github.com/evanphx/json-patch).
    """
    for name in {**before, **after}:
        below, old, new = fields.get(f"f:{name}"), before.get(name), after.get(name)
        place = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        if below and isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new, below, place)
        elif below is not None and old != new:
            yield _step("test", place, old)
            yield {"op": "remove", "path": place} if new is None else _step("add", place, new)


def _step(operation: str, path: str, value: object) -> Manifest:
    return {"op": operation, "path": path, "value": value}
