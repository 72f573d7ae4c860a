"""kopf glue: watches the cluster and passes on what it sees. Nothing is decided here.

Only `on.event` handlers: they write nothing, add no finalizer, and an object can always be deleted. kopf runs in
a thread and an event loop of its own, because it cancels every task of its loop when it stops, and because some
errors of a watch end it; then it is started anew and the rest of the process goes on.
"""

import asyncio
import functools
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import kopf
import kopf._cogs.clients.api
import kopf._cogs.clients.scanning
import uvloop
from kopf._cogs.clients.api import iter_jsonlines
from kopf._cogs.structs.references import Insights, Resource
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from kimi_linear_operator import jsontext, metrics
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.pages import LIST_CHUNK
from kimi_linear_operator.cluster.paths import path
from kimi_linear_operator.cluster.transport import LIST_SECONDS
from kimi_linear_operator.cluster.watch_session import watch_session
from kimi_linear_operator.kubernetes.kinds import GROUP, Kind
from kimi_linear_operator.kubernetes.metadata import SELECTOR
from kimi_linear_operator.reconcile.cached_object import CachedObject, Reader
from kimi_linear_operator.runtime.scopes import Scope

logger = logging.getLogger(__name__)

# Endless: with a finite list of delays, kopf gives up and ends.
BACKOFF = Backoff(first=0.5, longest=30.0)
# kopf itself takes some seconds to end, and nothing is seen meanwhile.
RESTART_BACKOFF = Backoff(first=0.25, longest=10.0)
# What ends after so long has nothing to do with how it ended before.
STEADY_SECONDS = 60.0
# How long the API server keeps a watch open. kopf itself begins anew after 70 s without any sign.
STREAM_SECONDS = 300
# How long a scope may go unwatched before we say so: what kopf takes to notice and to reconnect.
GRACE_SECONDS = 70.0
HEARTBEAT_SECONDS = 5.0
# Kopf is soon ready to hear what there is to watch; if not, it is told again with the next heartbeat.
SCAN_SECONDS = 0.1

_OK = 200
_REFUSALS = (403, 404)


@dataclass
class Watch:
    """Watches our resources and their children until it is stopped.

    Attributes:
        namespaces: Where to look; everywhere if empty.
        scopes: What to watch there.
        reader: Makes what was seen ready to be cached.
        observe: Called for every change, in the watch's thread.
        want_list: Called in the watch's thread when a watch begins anew: it tells what happens from then on, and a list
            has to tell what was before. Also when a scope is refused, as a list finds out what that means.
    """

    namespaces: list[str]
    scopes: tuple[Scope, ...]
    reader: Reader
    observe: Callable[[CachedObject], None]
    want_list: Callable[[Scope], None]
    _stopping: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _stop_flag: asyncio.Event | None = None
    # Whether what comes is of watches that were asked to end: it may be of a past that is no more.
    _is_ending: bool = False
    _heartbeat: float = field(default_factory=time.monotonic)
    # Scopes that are not being watched, and since when.
    _unwatched: dict[Scope, float] = field(default_factory=dict)
    # Scopes whose next watch is none that goes on where the last one ended.
    _anew: set[Scope] = field(default_factory=set)
    # What the API server refuses to list or watch.
    _refused: set[Scope] = field(default_factory=set)
    # Of which scopes the log says that they are not watched.
    _told: set[Scope] = field(default_factory=set)

    def run(self) -> None:
        """Watch until stopped. Meant for a thread of its own."""
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            why = self._watch_once()
            if not self._stopping.is_set():
                failures = 0 if time.monotonic() - began > STEADY_SECONDS else failures + 1
                delay = RESTART_BACKOFF.delay(failures)
                logger.warning("Watching ended (%s), starting anew in %.1f s", why, delay)
                self._stopping.wait(delay)

    def _watch_once(self) -> str:
        """Watch until kopf ends, and return why it did."""
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._watch())
        except Exception as error:
            return str(error) or type(error).__name__
        return "kopf ended"

    def unwatched(self) -> list[Scope]:
        """Return the scopes that have not been watched for longer than a reconnection takes."""
        oldest = time.monotonic() - GRACE_SECONDS
        return [scope for scope, since in self._unwatched.copy().items() if since < oldest]

    def silent_seconds(self) -> float:
        """Return for how long the thread has shown no sign of life."""
        return time.monotonic() - self._heartbeat

    def stop(self) -> None:
        """End watching; may be called from any thread."""
        self._stopping.set()
        self.restart()

    def restart(self) -> None:
        """Begin all watches anew, with a list, and drop what the old ones still tell; may be called from any thread."""
        self._is_ending = True
        if self._loop and self._stop_flag and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop_flag.set)

    async def _watch(self) -> None:
        self._loop, self._stop_flag, self._is_ending = asyncio.get_running_loop(), asyncio.Event(), False
        if self._stopping.is_set():
            return
        _bend_kopf([_resource_of(kind) for kind in dict.fromkeys(kind for kind, _ in self.scopes)])
        for scope in self.scopes:
            self._unwatched.setdefault(scope, time.monotonic())
        insights = Insights()
        beating = asyncio.create_task(self._beat(insights))
        try:
            await kopf.operator(
                registry=self._registry(),
                settings=self._settings(),
                clusterwide=not self.namespaces,
                namespaces=self.namespaces,
                memories=_NoMemories(),
                insights=insights,
                standalone=True,
                stop_flag=self._stop_flag,
            )
        finally:
            beating.cancel()

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for kind in dict.fromkeys(kind for kind, _ in self.scopes):
            kopf.on.event(group=kind.group, version=kind.version, plural=kind.plural, registry=registry, param=kind)(
                self._on_event
            )
        return registry

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.scanning.disabled = True  # what we watch is known, and needs no permission to look around
        # Until it ends, a task for every object that was heard of keeps the object.
        settings.queueing.idle_timeout = 0.1
        settings.networking.error_backoffs = BACKOFF
        settings.networking.request_timeout = LIST_SECONDS
        settings.networking.connect_timeout = 5
        settings.watching.connect_timeout = 5
        # When watches begin anew: all kinds list, watch, and fail again, where every watch expires at once.
        settings.watching.reconnect_backoff = 2.0
        settings.watching.server_timeout = STREAM_SECONDS
        settings.watching.client_timeout = STREAM_SECONDS + 30
        settings.watching.chunk_size = LIST_CHUNK
        settings.posting.enabled = False
        settings.persistence.diffbase_storage = _NoDiffBase()
        settings.persistence.progress_storage = _NoProgress()
        settings.persistence.finalizer = f"{GROUP}/unused"
        for kind in {kind for kind, _ in self.scopes if not self.reader.is_resource(kind)}:
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = SELECTOR
        return settings

    async def _login(self, **_: Any) -> kopf.AiohttpSession:
        hear = {path(*scope): self._hear_of(scope) for scope in self.scopes}
        server, session = await watch_session(hear, metrics.count_request)
        return kopf.AiohttpSession(server=server, aiohttp_session=session)

    def _hear_of(self, scope: Scope) -> Callable[[str, int], None]:
        return functools.partial(self._hear, scope)

    def _hear(self, scope: Scope, verb: str, status: int) -> None:
        """Note how a list or a watch was answered."""
        if status != _OK:
            metrics.WATCH_FAILURES.labels(scope.kind.plural).inc()
            self._unwatched.setdefault(scope, time.monotonic())
            self._note_refusal(scope, status in _REFUSALS)
        elif verb == "LIST":
            self._anew.add(scope)
        else:
            self._unwatched.pop(scope, None)
            self._refused.discard(scope)
            if scope in self._anew:
                self._anew.remove(scope)
                self.want_list(scope)

    def _note_refusal(self, scope: Scope, is_refused: bool) -> None:
        if is_refused and scope not in self._refused:
            self._refused.add(scope)
            self.want_list(scope)

    async def _beat(self, insights: Insights) -> None:
        while True:
            self._heartbeat = time.monotonic()
            _cancel_again()
            await _notify_again(insights)
            self._tell_changes()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _tell_changes(self) -> None:
        """Log which scopes are not watched any more, and which are again."""
        unwatched = set(self.unwatched())
        for scope in unwatched - self._told:
            logger.warning("Not watching %s for %.0f s now, trying again until it works", scope, GRACE_SECONDS)
        for scope in self._told - unwatched:
            logger.info("Watching %s again", scope)
        self._told = unwatched

    async def _on_event(self, event: kopf.RawEvent, param: Any = None, **_: Any) -> None:
        if self._is_ending:
            return
        try:
            found = self.reader.read(param, dict(event["object"]), is_deleted=event["type"] == "DELETED")
        except Exception:
            self._note_unreadable(param, event["object"]["metadata"])
        else:
            self.observe(found)

    def _note_unreadable(self, kind: Kind, metadata: Mapping[str, Any]) -> None:
        """Have the scope of an object listed that cannot be read: if that stays so, the list tells it, once."""
        namespace = str(metadata.get("namespace", ""))
        logger.debug("Cannot read %s %s/%s", kind.kind, namespace, metadata.get("name"), exc_info=True)
        for scope in self.scopes:
            if scope.kind == kind and scope.covers(namespace):
                self.want_list(scope)


def _bend_kopf(watched: list[Resource]) -> None:
    """Replace three parts of kopf, which reads of them at each call.

    Its parser fails on deep nesting, and it fails before that on bytes that are no text, again at every new watch: ours
    reads what is watched. And it asks the API server which kinds there are before it watches any: one answer that fails
    keeps it from all. We know what to watch, whether it exists or not.
    """

    async def scan(**_: Any) -> list[Resource]:
        await asyncio.sleep(SCAN_SECONDS)
        return [*watched, *_OF_KOPF]

    vars(kopf._cogs.clients.api).update(json=SimpleNamespace(loads=jsontext.decode), iter_jsonlines=_lines_of_text)
    vars(kopf._cogs.clients.scanning)["scan_resources"] = scan


async def _lines_of_text(content: Any) -> AsyncIterator[bytes]:
    """Yield the lines of a watch as text: kopf takes them for UTF-8, and the API server sends any bytes in strings."""
    async for line in iter_jsonlines(content):
        yield line.decode(errors="replace").encode()


def _cancel_again() -> None:
    """Ask kopf's watchers to end that were asked before: when all end at once, one may take it for a mere pause.

    It then waits for credentials that nobody fetches any more, and kopf waits for it without end.
    """
    for task in asyncio.all_tasks():
        if task.cancelling() and task.get_name().startswith("watcher for "):
            task.cancel()


def _resource_of(kind: Kind) -> Resource:
    return Resource(
        group=kind.group,
        version=kind.version,
        plural=kind.plural,
        kind=kind.kind,
        namespaced=True,
        verbs=frozenset(("list", "watch")),
    )


# Kopf waits until it has found these, and does nothing with them as long as scanning is disabled.
_OF_KOPF = (
    Resource(group="", version="v1", plural="namespaces", kind="Namespace", namespaced=False),
    Resource(
        group="apiextensions.k8s.io",
        version="v1",
        plural="customresourcedefinitions",
        kind="CustomResourceDefinition",
        namespaced=False,
    ),
)


async def _notify_again(insights: Insights) -> None:
    """Have kopf begin the watches that it should have begun: it misses what is found before it waits for that."""
    async with insights.revised:
        insights.revised.notify_all()


class _NoDiffBase(kopf.DiffBaseStorage):
    """Keeps nothing: kopf would copy each object to find out what changed in it, which nobody asks."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """Keeps nothing: handlers of events have no progress."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


class _NoMemories(ResourceMemories):
    """Keeps nothing of objects between events; kopf would keep some kilobytes of each, and of those that are gone."""

    async def recall(self, raw_body: kopf.RawBody, **options: Any) -> ResourceMemory:
        return await super().recall(raw_body, **{**options, "ephemeral": True})
