"""Requests at a steady rate, independent of earlier answers. Whole answers and streams alternate."""

import asyncio
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from exposure.contour import NUMBER

# Longer than the limit for the end of a replica. A request that waits for this time has failed.
_REQUEST_SECONDS = 120
_SHORTEST, _LONGEST = 300, 1500
_MODEL = "moonshotai/Kimi-Linear-48B-A3B-Instruct"


@dataclass(frozen=True)
class Outcome:
    """The result of a request.

    Attributes:
        number: Its number, from 0 on.
        streamed: Whether a streamed answer was requested.
        seconds: How long it took.
        problem: Why its answer is incomplete or wrong; empty if the answer is complete and right.
    """

    number: int
    streamed: bool
    seconds: float
    problem: str


@dataclass
class Arrivals:
    """Requests to one address with one host name.

    Attributes:
        url: The address.
        host: The host name.
        a_second: How many requests begin in each second.
        outcomes: The outcomes of the requests that have ended.
    """

    url: str
    host: str
    a_second: float
    outcomes: list[Outcome] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def failures(self) -> list[Outcome]:
        """Requests whose answer is incomplete or wrong."""
        return [outcome for outcome in self.outcomes if outcome.problem]

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Send requests until the end of the block, and then wait for the answers."""
        thread = threading.Thread(target=asyncio.run, args=[self._arrive()])
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    async def _arrive(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        limit = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(self.url, connector=connector, timeout=limit) as session,
            asyncio.TaskGroup() as requests,
        ):
            number = 0
            while not self._ended.is_set():
                requests.create_task(self._ask(session, number))
                number += 1
                await asyncio.sleep(began + number / self.a_second - loop.time())

    async def _ask(self, session: aiohttp.ClientSession, number: int) -> None:
        loop = asyncio.get_running_loop()
        began, streamed = loop.time(), bool(number % 2)
        letters = random.randint(_SHORTEST, _LONGEST)  # noqa: S311 - no secret
        question = f"request {number} " + "x" * letters
        try:
            told = await self._answer(session, number, question, streamed=streamed)
            problem = "" if told == f"You said: {question}" else f"it ends with {told[-80:]!r}"
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError) as error:
            problem = repr(error)
        self.outcomes.append(Outcome(number, streamed, loop.time() - began, problem))

    async def _answer(self, session: aiohttp.ClientSession, number: int, question: str, *, streamed: bool) -> str:
        """Return the text of an answer. For a stream, only if it is complete."""
        body = {"model": _MODEL, "messages": [{"role": "user", "content": question}], "max_tokens": 4096}
        headers = {"Host": self.host, NUMBER: str(number)}
        async with session.post("/v1/chat/completions", json=body | {"stream": streamed}, headers=headers) as response:
            text = await response.text()
            if response.status != 200:
                raise ValueError(f"{response.status}: {text[:200]}")
            return _streamed(text) if streamed else str(json.loads(text)["choices"][0]["message"]["content"])


def _streamed(text: str) -> str:
    *events, end, _ = text.split("\n\n")
    if end != "data: [DONE]":
        raise ValueError(f"the stream ends with {text[-80:]!r}")
    chunks: list[Any] = [json.loads(event.removeprefix("data: ")) for event in events]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
