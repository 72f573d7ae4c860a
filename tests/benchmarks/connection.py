"""A minimal client of an API server: HTTP/1.1 over TLS, without decoding of contents.

A general client would need more processor time than the code that is measured; this client needs about 0.1 ms per
request.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import yaml

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

WORKERS = 16
_REQUEST_SECONDS = 60.0
_LONGEST_LINE = 2**24


class RefusedError(Exception):
    """The API server answered with an error."""


@dataclass(frozen=True)
class Access:
    """The address of the API server, and our credentials."""

    host: str
    port: int
    tls: ssl.SSLContext
    token: str

    @classmethod
    def of(cls, kubeconfig: Path) -> Self:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
        if "client-certificate" in user:
            tls.load_cert_chain(user["client-certificate"], user["client-key"])
        address = urlsplit(cluster["server"])
        return cls(str(address.hostname), address.port or 443, tls, user.get("token", ""))


class Connection:
    """A connection for one request at a time."""

    def __init__(self, access: Access, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        identity = f"Authorization: Bearer {access.token}\r\n" if access.token else ""
        self._headers = f"Host: {access.host}:{access.port}\r\nAccept: {JSON}\r\n{identity}"

    @classmethod
    @asynccontextmanager
    async def open(cls, access: Access) -> AsyncIterator[Self]:
        reader, writer = await asyncio.open_connection(access.host, access.port, ssl=access.tls, limit=_LONGEST_LINE)
        try:
            yield cls(access, reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def send(self, method: str, path: str, body: bytes = b"", content_type: str = JSON) -> bytes:
        """Return the content of a successful answer. Raises RefusedError otherwise."""
        status, content = await self.exchange(method, path, body, content_type)
        if status >= 400:
            raise RefusedError(f"{method} {path}: {status} {content[:300].decode(errors='replace')}")
        return content

    async def exchange(self, method: str, path: str, body: bytes = b"", content_type: str = JSON) -> tuple[int, bytes]:
        """Return any answer's status and content."""
        async with asyncio.timeout(_REQUEST_SECONDS):
            head = f"{method} {path} HTTP/1.1\r\n{self._headers}Content-Type: {content_type}\r\n"
            self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = await self._reader.readuntil(b"\r\n\r\n")
            return int(answer[9:12]), await self._content(answer.lower())

    async def watch(self, path: str) -> AsyncIterator[bytes]:
        """Yield the events of a watch until it ends."""
        self._writer.write(f"GET {path} HTTP/1.1\r\n{self._headers}\r\n".encode())
        answer = await self._reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RefusedError(f"GET {path}: {answer[:100].decode(errors='replace')}")
        rest = b""
        while chunk := await self._chunk():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line

    async def _content(self, head: bytes) -> bytes:
        if b"\r\ntransfer-encoding: chunked" not in head:
            length = head.split(b"\r\ncontent-length: ", 1)[1].split(b"\r\n", 1)[0]
            return await self._reader.readexactly(int(length))
        content = b""
        while chunk := await self._chunk():
            content += chunk
        return content

    async def _chunk(self) -> bytes:
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        return (await self._reader.readexactly(size + 2))[:-2]


Job = Callable[[Connection], Awaitable[None]]


async def do_all(access: Access, jobs: Iterable[Job]) -> None:
    """Send these requests in order, sixteen at a time: as many workers as the operator has for a namespace."""
    left = iter(jobs)

    async def work() -> None:
        async with Connection.open(access) as connection:
            for job in left:
                await job(connection)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WORKERS):
            tasks.create_task(work())
