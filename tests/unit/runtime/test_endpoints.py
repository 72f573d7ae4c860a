"""The process ends on time, also while somebody reads its metrics slowly."""

import asyncio
import gzip
import time
from collections.abc import Iterator

import pytest

from kimi_linear_operator.runtime import endpoints
from kimi_linear_operator.runtime.endpoints import SHUTDOWN_SECONDS, Readiness, serving

# More than the buffers of a connection take.
_LARGE = b"x" * 2**25
_PATIENCE_SECONDS = SHUTDOWN_SECONDS + 8


def _large_exposition() -> Iterator[bytes]:
    return iter([_LARGE])


def test_who_reads_metrics_and_stops_reading_does_not_hold_the_end() -> None:
    async def test() -> float:
        async with serving(
            "127.0.0.1", 0, healthz=lambda: [], readyz=lambda: Readiness([], []), exposition=_large_exposition
        ) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.read(1)
            began = time.monotonic()
        ended = time.monotonic() - began
        writer.close()
        return ended

    assert asyncio.run(test()) < _PATIENCE_SECONDS


class Scraped:
    """Metrics that make one piece after another, and count how many were made."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.made = 0

    def __call__(self) -> Iterator[bytes]:
        for _ in range(self.pieces):
            self.made += 1
            yield b"x" * 2**20


async def ask(port: int, headers: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n" + headers + b"\r\n")
    return reader, writer


def test_who_does_not_read_makes_nobody_wait_for_long_and_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_SLOWEST_SECONDS", 0.5)
    scraped = Scraped(64)

    async def test() -> int:
        async with serving(
            "127.0.0.1", 0, healthz=lambda: [], readyz=lambda: Readiness([], []), exposition=scraped
        ) as port:
            slow = [await ask(port) for _ in range(3)]
            await asyncio.sleep(0.2)
            assert scraped.made < 32, "more pieces are made than are read"
            reader, writer = await ask(port)
            body = await asyncio.wait_for(reader.read(), 10)
            for _, other in (*slow, (reader, writer)):
                other.close()
            return len(body)

    assert asyncio.run(test()) > 64 * 2**20


@pytest.mark.parametrize("headers", [b"", b"Accept-Encoding: gzip\r\n"])
def test_metrics_are_whole_whether_compressed_or_not(headers: bytes) -> None:
    async def test() -> bytes:
        async with serving(
            "127.0.0.1", 0, healthz=lambda: [], readyz=lambda: Readiness([], []), exposition=Scraped(3)
        ) as port:
            reader, writer = await ask(port, headers)
            answer = await reader.read()
            writer.close()
        return answer.partition(b"\r\n\r\n")[2]

    body = asyncio.run(test())
    assert (gzip.decompress(body) if headers else body) == b"x" * 3 * 2**20
