"""kopf glue: watches the cluster and passes on what it sees. Nothing is decided here.

Only `on.event` handlers: they write nothing, add no finalizer, and an object can always be deleted. kopf runs in
a thread and an event loop of its own, because it cancels every task of its loop when it stops, and because some
errors of a watch end it; then it is started anew and the rest of the process goes on.
"""

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import kopf
import uvloop

from kimi_linear_operator import resources
from kimi_linear_operator.api import GROUP, Manifest
from kimi_linear_operator.cluster import watch_session
from kimi_linear_operator.resources import POD, SERVER, Kind
from kimi_linear_operator.resources.metadata import SELECTOR

logger = logging.getLogger(__name__)

CHILDREN = (*resources.KINDS, POD)
LONGEST_BACKOFF_SECONDS = 30.0

Observe = Callable[[Kind, Manifest, bool], None]
"""Takes an object, and whether it was deleted."""


class EndlessBackoffs:
    """Delays between attempts that never run out: with a finite list, kopf gives up and exits."""

    def __iter__(self) -> Iterator[float]:
        """Yield growing delays in seconds, spread so that operators do not come in step."""
        delay = 0.5
        while True:
            yield delay * random.uniform(0.5, 1)  # noqa: S311 - spreads load, protects nothing
            delay = min(delay * 2, LONGEST_BACKOFF_SECONDS)


@dataclass
class Watch:
    """Watches our resources and their children until it is stopped.

    Attributes:
        namespaces: Where to look; everywhere if empty.
        observe: Called for every change, in the watch's thread.
        started: Called whenever watching begins anew, in the watch's thread.
    """

    namespaces: list[str]
    observe: Observe
    started: Callable[[], None]
    _stopping: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _stop_flag: asyncio.Event | None = None

    def run(self) -> None:
        """Watch until stopped. Meant for a thread of its own."""
        backoffs = iter(EndlessBackoffs())
        while not self._stopping.is_set():
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(self._watch())
            except Exception as error:
                delay = next(backoffs)
                logger.warning("Watching ended (%s), starting anew in %.1f s", error or type(error).__name__, delay)
                self._stopping.wait(delay)

    def stop(self) -> None:
        """End watching; may be called from any thread."""
        self._stopping.set()
        if self._loop and self._stop_flag and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop_flag.set)

    async def _watch(self) -> None:
        self._loop, self._stop_flag = asyncio.get_running_loop(), asyncio.Event()
        if self._stopping.is_set():
            return
        await kopf.operator(
            registry=self._registry(),
            settings=_settings(),
            clusterwide=not self.namespaces,
            namespaces=self.namespaces,
            standalone=True,
            stop_flag=self._stop_flag,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_login)
        kopf.on.startup(registry=registry)(self._started)
        for kind in (SERVER, *CHILDREN):
            kopf.on.event(group=kind.group, version=kind.version, plural=kind.plural, registry=registry, param=kind)(
                self._on_event
            )
        return registry

    async def _started(self, **_: Any) -> None:
        self.started()

    async def _on_event(self, event: kopf.RawEvent, param: Any = None, **_: Any) -> None:
        self.observe(param, dict(event["object"]), event["type"] == "DELETED")


async def _login(**_: Any) -> kopf.AiohttpSession:
    server, session = await watch_session()
    return kopf.AiohttpSession(server=server, aiohttp_session=session)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # what we watch is known, and needs no permission to look around
    settings.networking.error_backoffs = EndlessBackoffs()
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.watching.connect_timeout = 5
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.chunk_size = 500
    settings.posting.enabled = False
    settings.persistence.finalizer = f"{GROUP}/unused"
    for kind in CHILDREN:
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = SELECTOR
    return settings
