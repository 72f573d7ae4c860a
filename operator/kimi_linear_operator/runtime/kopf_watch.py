"""Connects kopf with the operator: it watches the cluster and passes on watch events. This module decides nothing.

There are only `on.event` handlers. They write nothing and add no finalizer, so an object can always be deleted. kopf
runs in its own thread and event loop. Some errors of a watch end kopf, which then cancels all tasks of its loop. In
this case, this module starts kopf again, and the rest of the process continues.
"""

import asyncio
import functools
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
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

from kimi_linear_operator import counters, jsontext
from kimi_linear_operator.backoff import Backoff
from kimi_linear_operator.cluster.pages import LIST_CHUNK
from kimi_linear_operator.cluster.paths import path
from kimi_linear_operator.cluster.transport import LIST_SECONDS
from kimi_linear_operator.cluster.watch_session import Listener, watch_session
from kimi_linear_operator.kubernetes.kinds import Kind
from kimi_linear_operator.kubernetes.metadata import SELECTOR
from kimi_linear_operator.reconcile.cached_object import CachedObject, Reader
from kimi_linear_operator.runtime.scopes import Scope
from kimi_linear_operator.runtime.watched_scopes import WatchedScopes

logger = logging.getLogger(__name__)

# Infinite, because with a finite list of delays kopf gives up and ends.
BACKOFF = Backoff(first=0.5, longest=30.0)
# Short, because kopf itself takes some seconds to end, and nothing is watched during that time.
RESTART_BACKOFF = Backoff(first=0.25, longest=10.0)
# After kopf has run for this time, its earlier failures no longer count.
STEADY_SECONDS = 60.0
# How long the API server keeps a watch open. kopf reconnects after 70 s of silence.
STREAM_SECONDS = 300
HEARTBEAT_SECONDS = 5.0
# A delay before kopf gets the resources to watch, so that kopf is ready for them. If it is not ready, the next
# heartbeat repeats this.
SCAN_SECONDS = 0.1


@dataclass
class Watch:
    """Watches our resources and their children until it is stopped.

    Attributes:
        namespaces: The namespaces to watch, all if empty.
        scopes: The scopes to watch there.
        reader: Makes cached objects of watch events.
        observe: Called for every change, in the thread of the watch.
        request_list: Called in the thread of the watch to request a list of a scope, when only a list shows its state.
        is_dormant: Returns whether the operator need not watch a scope until it has listed the scope again.
        listed_version: Returns the newest version of an object that a list of a scope has shown, 0 if there is none.
        watched: Which scopes are watched.
    """

    namespaces: list[str]
    scopes: tuple[Scope, ...]
    reader: Reader
    observe: Callable[[CachedObject], None]
    request_list: Callable[[Scope], None]
    is_dormant: Callable[[Scope], bool] = lambda _: False
    listed_version: Callable[[Scope], int] = lambda _: 0
    _stopping: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _stop_flag: asyncio.Event | None = None
    # Whether the current watches must end. After a restore of etcd, their events may be about changes that were undone.
    _is_ending: bool = False
    _heartbeat: float = field(default_factory=time.monotonic)
    watched: WatchedScopes = field(init=False)

    def __post_init__(self) -> None:
        """Begin without a watch."""
        self.watched = WatchedScopes(self.request_list, self.is_dormant)

    def run(self) -> None:
        """Watch until stopped. Call this in a separate thread."""
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            reason = self._watch_once()
            if not self._stopping.is_set():
                failures = 0 if time.monotonic() - began > STEADY_SECONDS else failures + 1
                delay = RESTART_BACKOFF.delay(failures)
                logger.warning("Watching ended (%s), starting again in %.1f s", reason, delay)
                self._stopping.wait(delay)

    def _watch_once(self) -> str:
        """Watch until kopf ends; return why it ended."""
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._watch())
        except Exception as error:
            return str(error) or type(error).__name__
        return "kopf ended"

    def silent_seconds(self) -> float:
        """Return for how long the thread has not run."""
        return time.monotonic() - self._heartbeat

    def stop(self) -> None:
        """End watching; any thread may call this."""
        self._stopping.set()
        self.restart()

    def restart(self) -> None:
        """Start all watches again with a list, and drop the events of the old watches; any thread may call this."""
        self._is_ending = True
        if self._loop and self._stop_flag:
            # The loop of a kopf that has just ended is closed. A new kopf starts with a list anyway.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop_flag.set)

    async def _watch(self) -> None:
        self._loop, self._stop_flag, self._is_ending = asyncio.get_running_loop(), asyncio.Event(), False
        if self._stopping.is_set():
            return
        _patch_kopf([_resource_of(kind) for kind in dict.fromkeys(kind for kind, _ in self.scopes)])
        self.watched.begin(self.scopes)
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
        settings.scanning.disabled = True  # the resources to watch are fixed, so kopf needs no permission to list kinds
        # kopf keeps a task with the object for every event, until the task has been idle for this time.
        settings.queueing.idle_timeout = 0.1
        settings.networking.error_backoffs = BACKOFF
        settings.networking.request_timeout = LIST_SECONDS
        settings.networking.connect_timeout = 5
        settings.watching.connect_timeout = 5
        # The pause before watches reconnect. Without it, watches that expire immediately would list in a tight loop.
        settings.watching.reconnect_backoff = 2.0
        settings.watching.server_timeout = STREAM_SECONDS
        settings.watching.client_timeout = STREAM_SECONDS + 30
        settings.watching.chunk_size = LIST_CHUNK
        settings.posting.enabled = False
        settings.persistence.diffbase_storage = _NoDiffBase()
        settings.persistence.progress_storage = _NoProgress()
        # kopf removes this finalizer from objects. No object can have it, because it is not a qualified name.
        settings.persistence.finalizer = "no finalizer"
        for kind in {kind for kind, _ in self.scopes if not self.reader.is_resource(kind)}:
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = SELECTOR
        return settings

    async def _login(self, **_: Any) -> kopf.AiohttpSession:
        listeners = {
            path(*scope): Listener(
                functools.partial(self.watched.note_answer, scope),
                functools.partial(self.watched.may_watch, scope),
                functools.partial(self.watched.note_event, scope),
                functools.partial(self._read, scope.kind),
                functools.partial(self.request_list, scope),
                functools.partial(self.listed_version, scope),
                functools.partial(self.watched.note_blind, scope),
                functools.partial(self.watched.is_blind, scope),
            )
            for scope in self.scopes
        }
        session = await watch_session(listeners, counters.count_request)
        return kopf.AiohttpSession(server=session.server, aiohttp_session=session.client)

    async def _beat(self, insights: Insights) -> None:
        while True:
            self._heartbeat = time.monotonic()
            _repeat_cancellations()
            await _notify_again(insights)
            self.watched.log_changes()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _on_event(self, event: kopf.RawEvent, param: Any = None, **_: Any) -> None:
        self._read(param, event)

    def _read(self, kind: Kind, event: Mapping[str, Any]) -> None:
        """Pass on the object of an event. Large events come here before kopf has passed on older ones.

        The cache keeps the newest version of an object, in any order.
        """
        if self._is_ending:
            return
        try:
            observed = self.reader.read(kind, dict(event["object"]), is_deleted=event["type"] == "DELETED")
        except Exception:
            self._note_unreadable(kind, event["object"]["metadata"])
        else:
            self.observe(observed)

    def _note_unreadable(self, kind: Kind, metadata: Mapping[str, Any]) -> None:
        """Request a list of an unreadable object's scope. If the object is still unreadable, the list reports it."""
        namespace = str(metadata.get("namespace", ""))
        logger.debug("Cannot read %s %s/%s", kind.kind, namespace, metadata.get("name"), exc_info=True)
        for scope in self.scopes:
            if scope.kind == kind and scope.covers(namespace):
                self.request_list(scope)


def _patch_kopf(watched: list[Resource]) -> None:
    """Replace three functions of kopf. kopf looks them up at each call.

    kopf's parser fails on deep nesting, and its decoder fails on invalid UTF-8. Both would fail again at every new
    watch. Our two functions can read such texts.

    Before kopf watches, it also asks the API server which kinds exist. A single failed answer would stop all watches.
    Our third function returns a fixed list of kinds, whether they exist or not.
    """

    async def scan(**_: Any) -> list[Resource]:
        await asyncio.sleep(SCAN_SECONDS)
        return [*watched, *_KOPF_RESOURCES]

    vars(kopf._cogs.clients.api).update(json=SimpleNamespace(loads=jsontext.decode), iter_jsonlines=_lines_of_text)
    vars(kopf._cogs.clients.scanning)["scan_resources"] = scan


async def _lines_of_text(content: Any) -> AsyncIterator[bytes]:
    """Yield the lines of a watch as valid UTF-8, which kopf expects. The API server sends any bytes in strings."""
    async for line in iter_jsonlines(content):
        yield line.decode(errors="replace").encode()


def _repeat_cancellations() -> None:
    """Cancel all watchers of kopf a second time.

    When all watchers end at the same time, a watcher can mistake this for a pause. It then waits for credentials that
    no task fetches any more, and kopf waits for this watcher for ever.
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


# kopf waits until a scan has found these kinds. While scanning is disabled, kopf does nothing with them.
_KOPF_RESOURCES = (
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
    """Make kopf start missing watches.

    If a scan finds resources before kopf waits for them, kopf overlooks these resources.
    """
    async with insights.revised:
        insights.revised.notify_all()


class _NoDiffBase(kopf.DiffBaseStorage):
    """Keeps nothing. Otherwise kopf would copy each object to compute a diff that we do not need."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """Keeps nothing, because handlers of events have no progress."""

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
    """Keeps nothing between events. Otherwise kopf would keep some kilobytes of each object, even of deleted ones."""

    async def recall(self, raw_body: kopf.RawBody, **options: Any) -> ResourceMemory:
        return await super().recall(raw_body, **{**options, "ephemeral": True})
