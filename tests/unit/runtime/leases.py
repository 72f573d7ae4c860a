"""Replicas that compete for one Lease, and their connections, which can fail. Time is the event loop's own time."""

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import Any

from fast_loop import now
from kimi_linear_operator.cluster.answer import Answer
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.pages import Pages
from kimi_linear_operator.cluster.request import Request
from kimi_linear_operator.kubernetes.kinds import LEASE, Kind, Manifest
from kimi_linear_operator.runtime.leader import Leader


@dataclass
class Leases:
    """Keeps one Lease as the API server does. A write with an outdated version is a conflict."""

    lease: Manifest | None = None
    version: int = 0

    def write(self, manifest: Manifest) -> Manifest:
        expected = manifest["metadata"].get("resourceVersion", "0" if self.lease is None else "none")
        if expected != str(self.version):
            raise ApiError(409, "conflict")
        self.version += 1
        identity = {"name": "lease", "namespace": "default", "uid": "u", "resourceVersion": str(self.version)}
        self.lease = {"kind": LEASE.kind, **manifest, "metadata": {**manifest["metadata"], **identity}}
        return self.lease


@dataclass
class Line:
    """A replica's connection to the Leases. It can be slow, break, and lose answers."""

    leases: Leases
    is_cut: bool = False
    answer_seconds: float = 0.0
    write_seconds: float = 0.0
    """How much longer the answer to a write takes."""
    error: ApiError | None = None
    refusal: ApiError | None = None
    """How the API server refuses writes."""
    chaos: random.Random | None = None
    bug: Exception | None = None
    other_answer: Manifest | None = None
    """What a proxy answers, with status 200, in place of the API server."""
    requests: list[float] = field(default_factory=list)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        await self._travel()
        found = self.leases.lease
        await self._travel()
        await asyncio.sleep(self.answer_seconds)
        return found

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self.replace(kind, manifest)

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        await self._travel()
        if self.refusal:
            raise self.refusal
        written = self.leases.write(manifest)
        await self._travel()
        await asyncio.sleep(self.answer_seconds + self.write_seconds)
        return written

    async def _travel(self) -> None:
        self.requests.append(now())
        if self.is_cut:
            await asyncio.sleep(3600)
        if failure := self.error or self.bug:
            raise failure
        if self.chaos:
            await asyncio.sleep(self.chaos.choice((0, 0.01, 1, 4, 7)))
            if self.chaos.random() < 0.15:
                raise ApiError(0, "no answer")


@dataclass
class _Wire:
    """In place of the connections to an API server. It sends requests through a line."""

    line: Line

    async def answer(self, request: Request, _: int | None = None) -> Answer:
        found = self.line.other_answer or await self._result(request)
        missing = {"kind": "Status", "reason": "NotFound", "details": {"name": "lease"}}
        return (
            Answer(404, json.dumps(missing).encode(), "")
            if found is None
            else Answer(200, json.dumps(found).encode(), "")
        )

    async def _result(self, request: Request) -> Manifest | None:
        if not isinstance(request.body, dict):
            return await self.line.get(LEASE, "default", "lease")
        return await (self.line.replace if request.method == "PUT" else self.line.create)(LEASE, request.body)


def leader(name: str, line: Line) -> Leader:
    return Leader(cluster_behind(line), "default", "lease", name, clock=now)


def cluster_behind(line: Line) -> Cluster:
    wire: Any = _Wire(line)
    return Cluster(wire, Pages(wire))


async def work_forever() -> None:
    await asyncio.sleep(3600)


async def lead_forever(replica: Leader, terms: list[tuple[str, float]]) -> None:
    while True:
        await replica.acquire()
        terms.append((replica.identity, now()))
        await replica.hold(work_forever())
