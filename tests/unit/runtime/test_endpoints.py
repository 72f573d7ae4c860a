"""The process ends on time, even while a client reads its metrics slowly."""

import asyncio
import gzip
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kimi_linear_operator.runtime import endpoints
from kimi_linear_operator.runtime.endpoints import (
    MOST_CONNECTIONS,
    MOST_READERS,
    MOST_READERS_OF_ADDRESS,
    SHUTDOWN_SECONDS,
    Readiness,
    serving,
)

# More than fits into the buffers of a connection.
_LARGE = b"x" * 2**25
_PATIENCE_SECONDS = SHUTDOWN_SECONDS + 8


def _large_exposition() -> Iterator[bytes]:
    return iter([_LARGE])


def test_a_client_that_stops_reading_metrics_does_not_delay_the_end() -> None:
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
    """Metrics in pieces. It counts how many pieces were made."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.made = 0

    def __call__(self) -> Iterator[bytes]:
        for _ in range(self.pieces):
            self.made += 1
            yield b"x" * 2**20


async def ask(
    port: int, headers: bytes = b"", address: str = "127.0.0.1"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for metrics from this address, as a pod with this address would."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    writer.write(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n" + headers + b"\r\n")
    return reader, writer


def test_a_client_that_does_not_read_delays_no_other_and_takes_little_memory() -> None:
    scraped = Scraped(64)

    async def test() -> tuple[int, float]:
        async with serving(
            "127.0.0.1", 0, healthz=lambda: [], readyz=lambda: Readiness([], []), exposition=scraped
        ) as port:
            slow = [await ask(port, address=f"127.0.1.{number}") for number in range(MOST_READERS - 1)]
            await asyncio.sleep(0.2)
            assert scraped.made < 8 * MOST_READERS, "more pieces are made than are read"
            began = time.monotonic()
            reader, writer = await ask(port)
            body = await asyncio.wait_for(reader.read(), 10)
            took = time.monotonic() - began
            for _, other in (*slow, (reader, writer)):
                other.close()
            return len(body), took

    size, took = asyncio.run(test())
    assert size > 64 * 2**20
    assert took < 5, "the ten seconds of slow clients delay nobody"


def test_only_a_few_clients_read_at_once_and_the_next_may_when_one_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_SLOWEST_SECONDS", 1.0)

    async def test() -> list[bytes]:
        async with serving(
            "127.0.0.1", 0, healthz=lambda: [], readyz=lambda: Readiness([], []), exposition=Scraped(64)
        ) as port:
            slow = [await ask(port, address=f"127.0.1.{number}") for number in range(MOST_READERS)]
            await asyncio.sleep(0.3)
            lines = []
            for pause in (0.0, 1.5):
                await asyncio.sleep(pause)
                reader, writer = await ask(port)
                lines.append(await reader.readline())
                writer.close()
            for _, other in slow:
                other.close()
            return lines

    assert [line.split()[1] for line in asyncio.run(test())] == [b"503", b"200"]


def test_clients_of_one_address_keep_no_other_from_the_metrics() -> None:
    async def test() -> tuple[list[bytes], bytes]:
        async with serving(
            "127.0.0.1", 0, healthz=lambda: [], readyz=lambda: Readiness([], []), exposition=Scraped(64)
        ) as port:
            many = [await ask(port) for _ in range(3 * MOST_READERS)]
            lines = [await reader.readline() for reader, _ in many]
            scrape, scraper = await ask(port, address="127.0.1.1")
            lines_of_another = await scrape.readline()
            for _, writer in (*many, (scrape, scraper)):
                writer.close()
            return lines, lines_of_another

    lines, of_another = asyncio.run(test())
    statuses = [line.split()[1] for line in lines]
    assert statuses.count(b"200") == MOST_READERS_OF_ADDRESS
    assert of_another.split()[1] == b"200"


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
def test_a_client_that_resets_its_connection_leaves_no_line_in_the_log(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        answer = Readiness([], ["x" * 2**22])
        async with serving("127.0.0.1", 0, healthz=lambda: [], readyz=lambda: answer, exposition=Scraped(64)) as port:
            for _ in range(5):
                client = socket.socket()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(client, ("127.0.0.1", port))
                await loop.sock_sendall(client, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                await loop.sock_recv(client, 20)
                await asyncio.sleep(0.05)
                # With this option, the system sends a reset instead of the usual end.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            await asyncio.sleep(0.5)

    asyncio.run(test())
    assert [record.getMessage() for record in caplog.records if record.name.startswith("aiohttp")] == []


@pytest.mark.parametrize("headers", [b"", b"Accept-Encoding: gzip\r\n"])
def test_metrics_are_complete_whether_compressed_or_not(headers: bytes) -> None:
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


def test_idle_connections_delay_no_probe_and_stay_few() -> None:
    async def test() -> tuple[list[bytes], int]:
        async with serving(
            "127.0.0.1", 0, healthz=lambda: [], readyz=lambda: Readiness([], []), exposition=Scraped(64)
        ) as port:
            scrape, scraper = await ask(port)
            lines = [await scrape.readline()]
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4 * MOST_CONNECTIONS)]
            probe, prober = await asyncio.open_connection("127.0.0.1", port)
            prober.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            lines.append(await asyncio.wait_for(probe.readline(), 5))
            rest = await asyncio.wait_for(scrape.read(), 20)
            assert len(rest) > 64 * 2**20, "a client that reads metrics is not disturbed"
            is_open = [not reader.at_eof() for reader, _ in silent]
            for _, writer in (*silent, (scrape, scraper), (probe, prober)):
                writer.close()
            return lines, sum(is_open)

    lines, still_open = asyncio.run(test())
    assert [line.split()[1] for line in lines] == [b"200", b"200"]
    assert still_open <= MOST_CONNECTIONS


def test_connections_of_clients_that_never_read_stay_few() -> None:
    async def test() -> int:
        answer = Readiness([], ["x" * 200_000])
        async with serving("127.0.0.1", 0, healthz=lambda: [], readyz=lambda: answer, exposition=Scraped(1)) as port:
            before, clients = _descriptors(), []
            # In steps, so that the server has answers to send when the later ones come.
            for _ in range(4):
                clients += [_greedy(port) for _ in range(MOST_CONNECTIONS // 2)]
                await asyncio.sleep(1)
            still_open = _descriptors() - before - len(clients)
            for client in clients:
                client.close()
            return still_open

    assert asyncio.run(test()) <= MOST_CONNECTIONS


def _greedy(port: int) -> socket.socket:
    """Return a client that sends many requests and has hardly any room for answers."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(20 * b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return client


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
