"""Lets passes that read much run one after the other, so that they do not fill the memory together.

A pass keeps everything that it has decoded until its end. Most passes decode a few objects. But a server can have a
thousand pods, and users can create many objects with its label.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary


@dataclass
class LargePasses:
    """One place for all large passes. The namespaces take turns, so only one pass of each namespace waits for it."""

    _place: asyncio.Lock = field(default_factory=asyncio.Lock)
    _of_namespace: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    @asynccontextmanager
    async def place(self, namespace: str) -> AsyncIterator[None]:
        """Wait for the place, and hold it within the context."""
        own = self._of_namespace.setdefault(namespace, asyncio.Lock())
        async with own, self._place:
            yield
