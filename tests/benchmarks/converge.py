"""How long it takes until many new servers have their children and a status."""

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from benchmarks import measure
from benchmarks.figures import PLAIN, Convergence
from benchmarks.manifests import NAMESPACE, server_names
from benchmarks.stage import Running, Stage, fresh_stage, run
from benchmarks.waiting import BenchmarkError, wait_until
from integration.audit import Request
from integration.namespace import condition_of
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, SERVICE
from kimi_linear_operator.server.spec import SERVER

FIRST = "person-00001"
"""A server that exists before all others."""

_FIRST_SECONDS = 60.0
CHANGED = (DEPLOYMENT.plural, f"{SERVER.plural}/status")
"""The writes for a server whose pods change."""

_CHILDREN = (DEPLOYMENT.plural, SERVICE.plural)
_CREATED = (*CHANGED, SERVICE.plural)
# Plain kopf does not make these writes.
_RECORDED = (*_CREATED, REVISION.plural)


@dataclass
class Progress:
    """The servers for which a contender has written everything, according to the audit log read so far."""

    user: str
    expected: tuple[str, ...] = _CREATED
    first: float = float("inf")
    last: float = 0.0
    _names: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def note(self, requests: Sequence[Request]) -> None:
        for request in requests:
            if not request.is_write or request.status >= 300:
                continue
            if request.user != self.user and (request.verb, request.resource) == ("create", SERVER.plural):
                self.first = min(self.first, request.began)
            if request.user == self.user and request.resource in self.expected:
                name = request.name.removesuffix("-1") if request.resource == REVISION.plural else request.name
                self._names[request.resource].add(name)
                self.last = max(self.last, request.ended)

    def done(self) -> set[str]:
        return set.intersection(*(self._names[resource] for resource in self.expected))


class _Clocks(NamedTuple):
    """The time, and the processor time so far of the contender, of API server and etcd, of this program, and of all."""

    own: float
    server: float
    harness: float
    all: float
    now: float

    @classmethod
    def read(cls, stage: Stage, running: Running) -> Self:
        harness = sum(os.times()[:2])
        return cls(running.cpu_seconds(), stage.server_cpu_seconds(), harness, measure.busy_seconds(), time.monotonic())

    def since(self, before: Self) -> tuple[float, float, float]:
        """Return the processor seconds of the contender and the API server, and how many cores others used."""
        own, server, harness, everything, seconds = (now - then for now, then in zip(self, before, strict=True))
        return own, server, (everything - own - server - harness) / seconds


def measure_convergence(contender: str, servers: int, patience: float) -> Convergence:
    """Let a contender handle new servers on a separate control plane. Give up after some seconds."""
    with fresh_stage() as stage, stage.running(contender) as running:
        make_first(stage, running)
        return converge(stage, running, server_names(servers), patience)


def measure_beside_controllers(contender: str, servers: int, patience: float) -> Convergence:
    """Do the same while Kubernetes' own controllers run, until the last Deployment and Service exist."""
    with fresh_stage(controllers=True) as stage, stage.running(contender) as running:
        make_first(stage, running)
        return converge(stage, running, server_names(servers), patience, _CHILDREN)


def _written_by(contender: str) -> tuple[str, ...]:
    return _CREATED if contender == PLAIN else _RECORDED


def make_first(stage: Stage, running: Running) -> None:
    """Let a contender handle one server, so that one-time work is done before the measurement."""
    stage.ledger.begin()
    run(stage.load().create_servers([FIRST]))
    wait_for_all(stage, running, Progress(running.contender.user), {FIRST}, _FIRST_SECONDS)


def converge(
    stage: Stage, running: Running, names: Sequence[str], patience: float, expected: tuple[str, ...] = ()
) -> Convergence:
    """Create servers and wait until a contender is done with them, or for some seconds.

    Args:
        stage: The control plane.
        running: The contender.
        names: The servers.
        patience: After how many seconds to give up.
        expected: The writes that each server needs; if empty, all writes that it makes for a new server.
    """
    stage.ledger.begin()
    before = _Clocks.read(stage, running)
    run(stage.load().create_servers(names))
    progress = Progress(running.contender.user, expected or _written_by(running.name))
    progress.note(stage.ledger.requests)
    seconds: float | None = None
    try:
        wait_for_all(stage, running, progress, set(names), patience)
        seconds = progress.last - progress.first
    except BenchmarkError:
        running.check()
    done = progress.done() & set(names)
    clocks = _Clocks.read(stage, running)
    if seconds is not None:
        _check_result(stage, names, with_status=not expected)
    return Convergence(seconds, len(done), *clocks.since(before))


def wait_for_all(stage: Stage, running: Running, progress: Progress, names: set[str], patience: float) -> None:
    """Wait until a contender has written everything for these servers."""

    def is_done() -> bool:
        running.check()
        progress.note(stage.ledger.collect())
        return names <= progress.done()

    wait_until(is_done, f"{len(names)} servers have their children and a status", patience)


def _check_result(stage: Stage, names: Sequence[str], *, with_status: bool) -> None:
    """Check the objects themselves, because a request in the log is no proof."""
    for kind in (DEPLOYMENT, SERVICE):
        found = {item["metadata"]["name"] for item in stage.client.list(kind, NAMESPACE)}
        if missing := set(names) - found:
            raise BenchmarkError(f"{len(missing)} servers have no {kind.kind}")
    if not with_status:
        return
    servers = {item["metadata"]["name"]: item for item in stage.client.list(SERVER, NAMESPACE)}
    for name in names:
        observed = condition_of(servers[name], "Ready").get("observedGeneration")
        if observed != servers[name]["metadata"]["generation"]:
            raise BenchmarkError(f"The status of {name} is of generation {observed}")
