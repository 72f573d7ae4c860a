"""The only door to the API server.

Objects go in and come out as JSON, without typed models: what we apply is exactly what the builders wrote.
Authentication, TLS and connections are those of the official client.
"""

import asyncio
import functools
import gc
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlencode, urlsplit

import aiohttp
from aiohttp.connector import Connection
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import list_kube_config_contexts, load_incluster_config, load_kube_config

import kimi_linear_operator
from kimi_linear_operator import clock, jsontext, metrics
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.errors import UNREACHABLE as _UNREACHABLE
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.proxies import proxy_for
from kimi_linear_operator.kubernetes import ownership
from kimi_linear_operator.kubernetes.essence import essence, event_essence
from kimi_linear_operator.kubernetes.kinds import EVENT, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER

USER_AGENT = f"{MANAGER}/{kimi_linear_operator.__version__}"
REQUEST_TIMEOUT_SECONDS = 30.0
# Where there is much to list or too much to do, the API server takes up to a minute, its --request-timeout, and then
# says so. The rest is for the answer to arrive.
LIST_SECONDS = 90.0
# Half of what client-go's pager takes (https://pkg.go.dev/k8s.io/client-go/tools/pager): at a busy API server each page
# waits for its turn, and a page is held as objects, twenty times its size in the store.
LIST_CHUNK = 250
# A page may be twice as long as 250 pods usually are. Where objects are larger it has fewer of them: somebody may store
# hundreds of 1 MB each, which is more memory than the operator has.
PAGE_BYTES = 8 * 2**20
_FEWER = 8
# A kubelet writes some dozens of Events about a pod. Somebody else may write thousands, as large as any object.
MOST_EVENT_PAGES = 4
# Bytes of a watch's events after which Python looks for cycles among what is new, however few objects they were.
UNFREED_BYTES = 4 * 2**20

# What a verb is on the wire, where that is not its name.
_METHODS = {"LIST": "GET", "APPLY": "PATCH", "JSON PATCH": "PATCH", "STATUS": "PATCH"}
_READS = ("GET", "LIST")
_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_CONTENT_TYPES = {
    "APPLY": "application/apply-patch+yaml",  # JSON is YAML
    "PATCH": _MERGE_PATCH,
    "STATUS": _MERGE_PATCH,
    "JSON PATCH": "application/json-patch+json",
}
# https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources
_ACCEPTED = {"STATUS": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
# Older than any object that exists.
_FIRST_VERSION = "1"
# No object can have this name.
_NOTHING = "metadata.name=-"
_GONE = 410
# The type of an error in a watch, and the error that means: list, and watch from there.
_ERROR = "ERROR"
_EXPIRED = b'{"type":"ERROR","object":{"kind":"Status","code":410}}\n'
# The API server counts in 64 bits.
_RESOURCE_VERSION = re.compile("[0-9]{1,20}")
# What kopf needs of a list.
_LIST_OF_NOTHING = '{"metadata":{"resourceVersion":"%s"},"items":[]}'
# A watch that ends sooner without a line was none. The API server keeps one open for minutes.
_SHORTEST_WATCH_SECONDS = 1.0
# When the write that a task is about to send must have ended, by `clock`; None if it may end at any time.
_DEADLINE: ContextVar[float | None] = ContextVar("_DEADLINE", default=None)
# https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_REFUSED_BACKOFF = Backoff(first=0.1, longest=5.0)
# An API server with too much to do asks for up to 32 s (k8s.io/apiserver, maxRetryAfter of flowcontrol). What asks for
# more is something before it, and may be back sooner than it thinks.
LONGEST_RETRY_SECONDS = 60.0


_Body = Manifest | list[Manifest] | None


@dataclass(frozen=True)
class Page:
    """Some of the objects of a kind at one moment, and the resource version of that moment."""

    manifests: list[Manifest]
    version: int


class _TooLongError(Exception):
    """A page is longer than is read at once. Nobody but `Cluster._fitting` hears of it."""


class _Answer(NamedTuple):
    """What the API server sent back.

    Attributes:
        status: HTTP status code.
        content: JSON, mostly.
        retry_after: The header of this name: whole seconds, empty if there was none. The API server sends no dates.
    """

    status: int
    content: bytes
    retry_after: str


class _PunctualRequest(aiohttp.ClientRequest):
    """A request that the API server gives what is left of its time when it is sent, and that is not sent if none is.

    A process that stood still while its connection opened may find it open before it finds that its time is over.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        deadline = _DEADLINE.get()
        if deadline is not None:
            left = deadline - clock.seconds()
            if left <= 0:
                raise TimeoutError("its time was over before it was sent")
            self.url = self.url.update_query(timeout=f"{left:.3f}s")
        return await super().send(conn)


@dataclass
class PendingWrites:
    """Writes that the API server may still commit: those without an answer whose time is not over."""

    _limits: dict[int, float] = field(default_factory=dict)
    _sent: int = 0

    def begin(self, limit: float) -> int:
        """Count a write that must have ended at this moment by `clock`; return its number."""
        now = clock.seconds()
        self._limits = {number: known for number, known in self._limits.items() if known > now}
        self._sent += 1
        self._limits[self._sent] = limit
        return self._sent

    def end(self, number: int) -> None:
        """Count a write no longer: its answer says what became of it."""
        self._limits.pop(number, None)

    def __bool__(self) -> bool:
        """Return whether any may still be committed."""
        return any(limit > clock.seconds() for limit in self._limits.values())


def _may_always_write() -> float:
    return REQUEST_TIMEOUT_SECONDS


@dataclass(frozen=True)
class Cluster:
    """Reads and writes objects. Every method raises ApiError.

    Attributes:
        client: Credentials and connections.
        write_seconds: Asked right before every write: how long the write may take. Raises ApiError to forbid it.
        pending: The writes that may still be committed.
    """

    client: ApiClient
    write_seconds: Callable[[], float] = _may_always_write
    pending: PendingWrites = field(default_factory=PendingWrites)
    _page_turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def server(self) -> str:
        """Return the address of the API server."""
        return str(self.client.configuration.host)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None if there is none."""
        try:
            return await self._request("GET", path(kind, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def events_of(self, involved: Manifest) -> list[Manifest]:
        """Return what is told by the Events about an object: some dozens, as they are kept for an hour.

        Of very many, or very large ones, those of the first pages are read, and one page at a time is held.
        """
        metadata = involved["metadata"]
        target = path(EVENT, metadata["namespace"])
        query = {"limit": str(LIST_CHUNK), "fieldSelector": f"involvedObject.uid={metadata['uid']}"}
        told: list[Manifest] = []
        for _ in range(MOST_EVENT_PAGES):
            received, query = await self._fitting(target, query)
            answer = await self._decoded_in_turn(received)
            told += map(event_essence, _items(answer))
            following = _following(answer)
            if not following:
                break
            query = {**query, "continue": following}
        return told

    async def essences(self, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
        """Return the essence of all objects of a kind in a namespace that somebody has given a label.

        Anybody can make hundreds of 1.5 MB with the label of another: of these, one page at a time is held.
        """
        pages = self.pages(kind, namespace, selector)
        return [essence(manifest) async for page in pages for manifest in page.manifests]

    async def list(self, kind: Kind, namespace: str, selector: str = "") -> list[Manifest]:
        """Return all objects of a kind in a namespace."""
        return [manifest async for page in self.pages(kind, namespace, selector) for manifest in page.manifests]

    async def pages(self, kind: Kind, namespace: str | None = None, selector: str = "") -> AsyncIterator[Page]:
        """Yield all objects of a kind in a namespace, or in all, as they were at one moment.

        Where that moment is forgotten before the last page, everything comes once more, as one page of a later moment:
        client-go's pager does the same. However many are asked for, one page at a time is held as objects, and whoever
        else waits for the event loop has a turn between two.
        """
        query = {"limit": str(LIST_CHUNK), "labelSelector": selector}
        while True:
            received, query = await self._fitting(path(kind, namespace), query)
            if received.status == _GONE and "continue" in query:
                query = {"labelSelector": selector}
                continue
            answer = await self._decoded_in_turn(received)
            yield _page(kind, answer)
            following = _following(answer)
            if not following:
                return
            query = {**query, "continue": following}

    async def _fitting(self, target: str, query: dict[str, str]) -> tuple[_Answer, dict[str, str]]:
        """Ask for a page, and for fewer objects until it is short enough to read; return it, and what was asked for."""
        while True:
            try:
                return await self._answer("LIST", target, query), query
            except _TooLongError:
                query = {**query, "limit": str(max(1, int(query["limit"]) // _FEWER))}

    async def _decoded_in_turn(self, received: _Answer) -> Manifest:
        async with self._page_turn:
            await asyncio.sleep(0)
            return _decoded(received)

    async def apply(self, kind: Kind, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Apply an object on the server's side and return it as it is now.

        Our fields win over those of others; fields that we applied before and no longer name are removed.
        https://kubernetes.io/docs/reference/using-api/server-side-apply/
        """
        query = {"fieldManager": MANAGER, "force": "true", **_dry(dry_run)}
        return await self._request("APPLY", _path_of(kind, manifest), query, manifest)

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Apply an object that does not exist yet; one that exists is left as it is, whosever it is.

        The API server ignores the resource version of an object that apply creates (k8s.io/apiserver,
        registry/generic/registry/store.go, Update), and refuses one that is not that of an existing object.

        Raises:
            ApiError: Among others with status 409: there is an object of this name.
        """
        guarded = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": _FIRST_VERSION}}
        return await self._request("APPLY", _path_of(kind, manifest), {"fieldManager": MANAGER}, guarded)

    async def overwrite(self, kind: Kind, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Set an object's spec, whole lists included, whoever owns what is in them, and return it as it is now.

        It makes us a second field manager of the object: `unify` has to follow.
        """
        query = {"fieldManager": MANAGER, **_dry(dry_run)}
        return await self._request("PATCH", _path_of(kind, manifest), query, {"spec": manifest["spec"]})

    async def scale(self, kind: Kind, live: Manifest, replicas: int) -> Manifest:
        """Set how many replicas exactly this object has, and nothing else of it; return it as it is now.

        To apply the replicas alone would remove all else that we applied. So it is a patch, and `unify` has to follow.
        """
        body = {"metadata": {"uid": live["metadata"]["uid"]}, "spec": {"replicas": replicas}}
        return await self._request("PATCH", _path_of(kind, live), {"fieldManager": MANAGER}, body)

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
        return await self._request("JSON PATCH", _path_of(kind, live), {"fieldManager": MANAGER}, patch)

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
        return await self._request("APPLY", _path_of(kind, manifest), query, body)

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest) -> Manifest:
        """Set an object's status, unless another of its name has replaced it meanwhile, and return the new metadata.

        A merge patch: server-side apply refuses objects that do not match their schema, and those need a status most.
        The rest of the object is not asked for: it may be a megabyte, and whoever writes a status has read it.
        """
        gone = dict.fromkeys(manifest.get("status", {}).keys() - status.keys())
        body = {"metadata": {"uid": manifest["metadata"]["uid"]}, "status": {**status, **gone}}
        target = f"{_path_of(kind, manifest)}/status"
        answer = await self._request("STATUS", target, {"fieldManager": MANAGER}, body)
        return dict(answer["metadata"])

    async def delete(self, kind: Kind, manifest: Manifest, *, children_first: bool = False) -> None:
        """Delete exactly this object; one that is gone already is fine."""
        policy = "Foreground" if children_first else "Background"
        options = {"propagationPolicy": policy, "preconditions": {"uid": manifest["metadata"]["uid"]}}
        try:
            await self._request("DELETE", _path_of(kind, manifest), body=options)
        except ApiError as error:
            if error.status != 404:
                raise

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Create an object; it is an error if there is one of its name."""
        return await self._request("POST", path(kind, manifest["metadata"]["namespace"]), body=manifest)

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Replace an object; it is an error if it is no longer of the resource version that the manifest names."""
        return await self._request("PUT", _path_of(kind, manifest), body=manifest)

    async def _request(
        self, verb: str, target: str, query: dict[str, str] | None = None, body: _Body = None
    ) -> Manifest:
        return _decoded(await self._answer(verb, target, query or {}, body))

    async def _answer(self, verb: str, target: str, query: dict[str, str], body: _Body = None) -> _Answer:
        """Send a request, and once more with new credentials if these were refused."""
        answer = await self._exchange(verb, target, query, body)
        if answer.status == 401:
            # The token may have been rotated since it was read.
            await _load_credentials(self.client.configuration)
            answer = await self._exchange(verb, target, query, body)
        return answer

    async def _exchange(self, verb: str, target: str, query: dict[str, str], body: _Body) -> _Answer:
        """Send a request once and return the answer, whatever it is."""
        if verb in _READS or "dryRun" in query:
            seconds = LIST_SECONDS if verb == "LIST" else REQUEST_TIMEOUT_SECONDS
            return await self._send(verb, target, query, body, seconds)
        limit = clock.seconds() + min(REQUEST_TIMEOUT_SECONDS, self.write_seconds())
        number = self.pending.begin(limit)
        _DEADLINE.set(limit)
        try:
            answer = await self._send(verb, target, query, body, limit - clock.seconds())
        finally:
            _DEADLINE.set(None)
        if answer.status < 500:
            # One that fails may have failed after it wrote, or may write yet.
            self.pending.end(number)
        return answer

    async def _send(self, verb: str, target: str, query: dict[str, str], body: _Body, seconds: float) -> _Answer:
        method = _METHODS.get(verb, verb)
        url = f"{self.server}{target}?{urlencode({key: value for key, value in query.items() if value})}"
        accepted, content_type = _ACCEPTED.get(verb, _JSON), _CONTENT_TYPES.get(verb, _JSON)
        headers = {"Accept": accepted, "Content-Type": content_type, "User-Agent": USER_AGENT}
        if verb == "LIST":
            # To compress a page takes the API server longer than to make it.
            headers["Accept-Encoding"] = "identity"
        try:
            await self.client.update_params_for_auth(headers, [], ["BearerToken"], url, method, body)
            response = await self.client.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=seconds
            )
            content = await _read(response.response, PAGE_BYTES if query.get("limit", "1") != "1" else None)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            metrics.API_REQUESTS.labels(verb, _UNREACHABLE).inc()
            raise ApiError(
                _UNREACHABLE, f"no answer from {self.server}: {str(error) or type(error).__name__}"
            ) from error
        metrics.API_REQUESTS.labels(verb, response.status).inc()
        return _Answer(response.status, content, response.headers.get("Retry-After", ""))


async def _read(response: aiohttp.ClientResponse, most: int | None) -> bytes:
    """Return what an answer holds.

    Raises:
        _TooLongError: It holds more than this.
    """
    if most is None:
        return await response.read()
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) > most:
            response.close()
            raise _TooLongError
    return bytes(content)


@asynccontextmanager
async def connect() -> AsyncIterator[Cluster]:
    """Connect with the kubeconfig that kubectl would use, or as the pod's service account."""
    async with ApiClient(await _configuration()) as client:
        yield Cluster(client)


Hear = Callable[[str, int], None]
"""Takes LIST or WATCH and the status of the answer, 0 if there was none."""


async def watch_session(hear: Mapping[str, Hear]) -> tuple[str, aiohttp.ClientSession]:
    """Return the API server's address and a session for lists and watches, which belongs to the caller's event loop.

    Credentials are asked for anew at every request, and read anew when they are refused: a rotated token is used as
    soon as the kubelet wrote it. No answer ends kopf, and with it all other watches: see `_survivable`.

    A list shows nothing but the version from which to watch: `Cluster.pages` lists once, for all who want to know. Any
    version will do that the API server has in memory, so it reads nothing from etcd.

    Args:
        hear: Called for every answer, by the path of what was asked for. What else is asked for is answered as it is.
    """
    client = ApiClient(await _configuration())
    prefix = urlsplit(client.configuration.host).path.rstrip("/")

    async def exchange(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        headers: dict[str, str] = {"User-Agent": USER_AGENT}
        await client.update_params_for_auth(headers, [], ["BearerToken"], str(request.url), request.method, None)
        request.headers.update(headers)
        told = hear.get(request.url.path.removeprefix(prefix))
        if told is None:
            return await handler(request)
        verb = "WATCH" if "watch" in request.url.query else "LIST"
        if verb == "LIST":
            request.url = request.url.update_query(fieldSelector=_NOTHING, resourceVersion="0")
        status = _UNREACHABLE
        try:
            response = await handler(request)
            status = await _status(verb, response)
        finally:
            metrics.API_REQUESTS.labels(verb, status).inc()
            told(verb, status)
        return response if status == 401 else await _survivable(verb, response, status, functools.partial(told, verb))

    async def authenticate(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        delays = iter(_REFUSED_BACKOFF)
        while (response := await exchange(request, handler)).status == 401:
            response.release()
            await asyncio.sleep(next(delays))
            await _load_credentials(client.configuration)
        return response

    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=client.rest_client.ssl_context, limit=0),
        middlewares=(authenticate,),
        proxy=client.configuration.proxy,
    )
    return str(client.configuration.host), session


async def _status(verb: str, response: aiohttp.ClientResponse) -> int:
    """Return the status of an answer, or that of none if it claims to be a list or a watch and is something else.

    A proxy in maintenance, for example, answers with a page of HTML and status 200. Of a list, kopf is left to see the
    resource version only.
    """
    if response.status != 200:
        return response.status
    if verb == "WATCH":
        return _UNREACHABLE if response.content_type == "text/html" else 200
    try:
        version = _resource_version(await response.json())
        response._body = (_LIST_OF_NOTHING % version).encode(response.get_encoding())
    except (aiohttp.ClientError, ApiError, ValueError, LookupError, RecursionError):
        return _UNREACHABLE
    return 200


async def _survivable(
    verb: str, response: aiohttp.ClientResponse, status: int, fail: Callable[[int], None]
) -> aiohttp.ClientResponse:
    """Return an answer that makes kopf try again where it would end: one kind may be gone, or impossible to watch.

    Kopf reads the body and the headers of errors, and ends if it cannot. So it sees none of them, and the API server is
    left alone here for as long as it asks.

    Raises:
        ClientConnectionError: The answer is of no use; kopf asks again after a while.
    """
    if status == 200 and verb == "LIST":
        return response
    is_refused = 400 <= status < 500 and status not in (403, 429)
    if verb == "WATCH" and (is_refused or status == 200):
        lines = _WatchLines(response.content, fail, is_refused=is_refused)
        response.content = cast(aiohttp.StreamReader, lines)
        response.status = 200
        return response
    response.release()
    await asyncio.sleep(_retry_seconds(response.headers.get("Retry-After", "")))
    raise aiohttp.ClientConnectionError(f"the {verb.lower()} was answered with {status or 'something else'}")


class _WatchLines:
    """The lines of a watch, for kopf: what is no event becomes the error after which it lists, and watches anew.

    Any other error would end kopf, and so would a line that is no event, or one that its sender did not finish.

    Args:
        content: What the API server sends.
        fail: Called with the code of each error, but the one that only says that the watch has expired.
    """

    def __init__(self, content: aiohttp.StreamReader, fail: Callable[[int], None], *, is_refused: bool) -> None:
        self._content = content
        self._fail = fail
        self._is_refused = is_refused
        self._unfreed = 0

    def __getattr__(self, name: str) -> Any:
        """Be the content in all else: aiohttp tells it when the connection ends."""
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield lines as they come."""
        if self._is_refused:
            yield _EXPIRED
            return
        began, is_silent, rest = clock.seconds(), True, b""
        async for chunk in self._content.iter_chunked(size):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in filter(bytes.strip, lines):
                is_silent = False
                yield self._understood(line)
                self._tidy_up_after(line)
        if is_silent and clock.seconds() - began < _SHORTEST_WATCH_SECONDS:
            self._fail(_UNREACHABLE)
            yield _EXPIRED

    def _tidy_up_after(self, line: bytes) -> None:
        """Free what kopf leaves of events in cycles: Python counts these, and a few can be as large as all others."""
        self._unfreed += len(line)
        if self._unfreed > UNFREED_BYTES:
            self._unfreed = 0
            gc.collect(1)

    def _understood(self, line: bytes) -> bytes:
        try:
            event = jsontext.decode(line)
        except ValueError:
            event = None
        if _is_event(event):
            return line + b"\n"
        code = _error_code(event)
        if code != _GONE:
            self._fail(code)
        return _EXPIRED


def _is_event(event: Any) -> bool:
    """Return whether a line of a watch is an event that kopf can take: it keeps objects apart by their uid."""
    if not (isinstance(event, dict) and isinstance(event.get("object"), dict) and isinstance(event.get("type"), str)):
        return False
    metadata = event["object"].get("metadata")
    has_identity = isinstance(metadata, dict) and (event["type"] == "BOOKMARK" or isinstance(metadata.get("uid"), str))
    return event["type"] != _ERROR and has_identity


def _error_code(event: Any) -> int:
    try:
        code = event["object"]["code"]
    except (TypeError, KeyError):
        return _UNREACHABLE
    return code if isinstance(code, int) else _UNREACHABLE


async def _configuration() -> Configuration:
    configuration = Configuration()
    await _load_credentials(configuration)
    # A proxy of the kubeconfig (proxy-url) is used whatever the environment says, as kubectl does it.
    configuration.proxy = configuration.proxy or proxy_for(str(configuration.host), os.environ)
    # Told to trust the environment, aiohttp reads it and ~/.netrc in another thread, twice a request.
    configuration.client_session_kwargs = {"trust_env": False, "request_class": _PunctualRequest}
    return configuration


async def _load_credentials(configuration: Configuration) -> None:
    """Read credentials where kubectl would find them, else those of the pod.

    Raises:
        ApiError: There are none.
    """
    files = _kubeconfigs()
    if files and not any(file.exists() for file in files):
        raise ApiError(_UNREACHABLE, f"no cluster: KUBECONFIG names {files[0]}, which does not exist")
    try:
        if files:
            await load_kube_config(os.pathsep.join(map(str, files)), client_configuration=configuration)
        else:
            load_incluster_config(client_configuration=configuration)
    except Exception as error:  # the loader raises whatever a broken file makes it raise
        raise ApiError(_UNREACHABLE, f"no cluster: {str(error) or type(error).__name__}; set KUBECONFIG") from error


def own_namespace() -> str:
    """Return the namespace of the pod that this is, or "default" where it is none."""
    return _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.exists() else "default"


def current_namespace() -> str:
    """Return the namespace that kubectl would take: that of the kubeconfig's context, or else that of the pod.

    Raises:
        ApiError: The kubeconfig cannot be read.
    """
    files = _kubeconfigs()
    if not any(file.exists() for file in files):
        return own_namespace()
    try:
        _, context = list_kube_config_contexts(os.pathsep.join(map(str, files)))
    except Exception as error:  # the loader raises whatever a broken file makes it raise
        raise ApiError(_UNREACHABLE, f"no cluster: {str(error) or type(error).__name__}; set KUBECONFIG") from error
    return str(context["context"].get("namespace") or "default")


def _kubeconfigs() -> list[Path]:
    """Return the files that kubectl would read, none where a pod's service account is meant."""
    if named := os.environ.get("KUBECONFIG"):
        return [Path(file) for file in named.split(os.pathsep)]
    default = Path.home() / ".kube" / "config"
    return [default] if default.exists() else []


def path(kind: Kind, namespace: str | None, name: str = "") -> str:
    """Return where the API server keeps a kind of objects, those of a namespace, or one."""
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{kind.plural}" + (f"/{name}" if name else "")


def _path_of(kind: Kind, manifest: Manifest) -> str:
    return path(kind, manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _decoded(answer: _Answer) -> Manifest:
    retry_seconds = _retry_seconds(answer.retry_after)
    try:
        content: Any = jsontext.decode(answer.content)
    except ValueError as error:
        # Of too many requests, the API server says so in plain text.
        text = answer.content[:200].decode(errors="replace").strip()
        if answer.status >= 400:
            raise ApiError(answer.status, text, retry_seconds) from error
        raise ApiError(_UNREACHABLE, f"not readable ({error}): {text}") from error
    if answer.status >= 400:
        message = content.get("message", "") if isinstance(content, dict) else str(content)
        raise ApiError(answer.status, str(message), retry_seconds)
    if not isinstance(content, dict):
        raise ApiError(_UNREACHABLE, f"not an object, but a JSON {type(content).__name__}")
    return content


def _retry_seconds(header: str) -> float:
    """Return how long a Retry-After header asks for, within reason; 0 for a date, which the API server never sends."""
    asked = float(header) if header.isdecimal() else 0.0
    return min(asked, LONGEST_RETRY_SECONDS)


def _page(kind: Kind, answer: Manifest) -> Page:
    """Return the page of a list that an answer is.

    Raises:
        ApiError: It is none.
    """
    # Items of a list carry neither.
    what = {"apiVersion": kind.api_version, "kind": kind.kind}
    return Page([what | item for item in _items(answer)], int(_resource_version(answer)))


def _following(answer: Manifest) -> str:
    """Return where the next page of a list begins, empty if there is none."""
    metadata: Any = answer.get("metadata")
    return str(metadata.get("continue") or "") if isinstance(metadata, dict) else ""


def _items(answer: Manifest) -> list[Manifest]:
    items = answer.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ApiError(_UNREACHABLE, "not a list: its items are no objects")
    return items


def _resource_version(answer: Any) -> str:
    metadata = answer.get("metadata") if isinstance(answer, dict) else None
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not _RESOURCE_VERSION.fullmatch(version):
        raise ApiError(_UNREACHABLE, "not a list: it has no metadata.resourceVersion")
    return version
