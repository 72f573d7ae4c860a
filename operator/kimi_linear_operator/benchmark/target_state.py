"""The server that a benchmark measures: is it ready, and does nobody else measure it?"""

import asyncio
import math
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from kimi_linear_operator.benchmark import holding, job_status, target, turn
from kimi_linear_operator.benchmark.address import target_of
from kimi_linear_operator.benchmark.claims import Claim, failed_start
from kimi_linear_operator.benchmark.holding import Asker
from kimi_linear_operator.benchmark.index import FEW_RIVALS, BenchmarkIndex
from kimi_linear_operator.benchmark.labels import TARGET_LABEL
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark
from kimi_linear_operator.benchmark.status import READY
from kimi_linear_operator.benchmark.target import Target
from kimi_linear_operator.benchmark.turn import Contender
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.conditions import Reason, ready_condition
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, JOB, POD, Kind, Manifest
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server import sglang
from kimi_linear_operator.server.definition import CHECKER as SERVERS
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer

Result = TypeVar("Result")

# How often to look whether the last client of a benchmark that is gone has ended.
LEFTOVER_RETRY_SECONDS = 5.0
# How many benchmarks look at the same time before they start. A look takes as long as the API server takes to list, and
# keeps a worker from everybody else, of which there are sixteen.
LOOKS_AT_ONCE = 4
# How many lists all looks together ask for at once: of each, a page of 8 MB may be held.
LISTS_AT_ONCE = 16


@dataclass(frozen=True)
class TargetState:
    """What a benchmark measures, as it is now.

    Attributes:
        cause: Whether it is ready and why not; its reason is one of READY if it is.
        target: What clients need to reach it, if that is known.
        snapshot: The state that must not change while a suite runs.
    """

    reason: Reason
    target: Target | None = None
    snapshot: str = "{}"

    @property
    def is_ready(self) -> bool:
        """Return whether a suite may start."""
        return self.reason.name in READY and self.target is not None


@dataclass(frozen=True)
class Wait:
    """Why a suite may not start although the server is ready.

    Attributes:
        cause: Who is in the way.
        again: When to look again in seconds, None where a change will be seen.
    """

    reason: Reason
    again: float | None = None


class Targets:
    """Looks at what benchmarks measure."""

    def __init__(self, cluster: Cluster, cache: Cache) -> None:
        """Take the cluster, where the last look before a start is taken, and the cache, where all else is read."""
        self.cluster = cluster
        self.cache = cache
        self._index = cache.index(BenchmarkIndex)
        self._looks = 0
        self._lists = asyncio.Semaphore(LISTS_AT_ONCE)

    def find(self, benchmark: KimiLinearBenchmark) -> TargetState:
        """Return what a benchmark measures."""
        reference = benchmark.spec.server_ref
        if reference is None:
            reason = Reason("EndpointGiven", "the operator does not know whether an endpoint is ready")
            return TargetState(reason, target.of_endpoint(benchmark))
        key = Key(benchmark.metadata.namespace, reference.name, SERVER)
        manifest = self.cache.get(key.of(SERVER))
        if manifest is None:
            return TargetState(
                Reason("ServerMissing", f"there is no KimiLinearServer {key.name} in namespace {key.namespace}")
            )
        template = self._template(key, manifest["metadata"]["uid"])
        snapshot = target.snapshot(manifest, self.cache.children(POD, key), template)
        # Whether this version can read its spec says nothing about whether it serves.
        server = SERVERS.read_stored(manifest)
        measured = target.of_server(benchmark, server, template) if server else None
        return TargetState(_server_reason(manifest, server), measured, snapshot)

    def _template(self, key: Key, uid: str) -> Manifest | None:
        """Return the pod template that a server's pods have."""
        deployment = self.cache.get(key.of(DEPLOYMENT))
        is_own = deployment is not None and metadata.is_owned_by(deployment, uid)
        return deployment["spec"].get("template") if deployment and is_own else None

    async def wait(self, key: Key, target: Target, now: str) -> Wait | None:
        """Return who keeps a benchmark from starting a suite: never two on one server at once.

        What the store shows decides whose turn it is. The API server is asked for clients that nobody answers for any
        more: those of a benchmark that was deleted, and those that another replica of the operator has just started.
        """
        manifest = self.cache.get(key.of(BENCHMARK)) or {}
        if wait := self._wait_for_long(key, manifest, target, now):
            return wait
        rivals, asker = self._measuring(manifest), holding.asker(manifest, now)
        if wait := self._wait_for_turn(key, target, asker, rivals):
            return wait
        return await self._look(key, target, asker, rivals)

    def _wait_for_long(self, key: Key, manifest: Manifest, target: Target, now: str) -> Wait | None:
        """Return why it is not a benchmark's turn yet, if that is known without a look at each rival."""
        rest = _rest_seconds(failed_start(manifest), now)
        if rest > 0:
            message = f"other benchmarks of {target.name} go first, as this one could not start"
            return Wait(Reason("WaitingForTurn", message), rest)
        if self._index.is_far(key):
            message = f"{FEW_RIVALS} or more benchmarks go first on {target.name}: this one waits until these are done"
            return Wait(Reason("WaitingForTurn", message))
        return None

    def _wait_for_turn(self, key: Key, target: Target, asker: Asker, rivals: Mapping[Key, Claim]) -> Wait | None:
        """Return whose turn it is instead, as the store shows it."""
        holder = turn.first(self._contenders(rivals, asker))
        if holder is None or (holder.namespace, holder.name) == (key.namespace, key.name):
            return None
        message = f"benchmark {_shown(holder, key)} goes first on {target.name}: this one waits until it is done"
        # Nothing tells that a Job of another namespace has had its time.
        left = holding.held_seconds(self._index, Key(holder.namespace, holder.name, BENCHMARK), asker)
        return Wait(Reason("WaitingForTurn", message), left if 0 < left < math.inf else None)

    async def _look(self, key: Key, target: Target, asker: Asker, rivals: Mapping[Key, Claim]) -> Wait | None:
        """Return whether a client is in the way of whose turn it is, as the API server shows it; a few look at once."""
        if self._looks >= LOOKS_AT_ONCE:
            message = "other benchmarks are about to start, and only a few at a time look whether nobody else runs"
            return Wait(Reason("WaitingForTurn", message), LEFTOVER_RETRY_SECONDS)
        self._looks += 1
        try:
            is_busy = await self._is_busy(key, target, asker, rivals)
        finally:
            self._looks -= 1
        message = f"a client of an earlier benchmark still runs against {target.name}"
        return Wait(Reason("WaitingForTurn", message), LEFTOVER_RETRY_SECONDS) if is_busy else None

    def has_rivals(self, key: Key) -> bool:
        """Return whether another benchmark waits for the server that this one measures."""
        rivals = self._measuring(self.cache.get(key.of(BENCHMARK)) or {})
        return any(claim.is_willing for rival, claim in rivals.items() if rival != key)

    def _measuring(self, manifest: Manifest) -> dict[Key, Claim]:
        """Return the benchmarks of the same target as they are now: there may be thousands, so none is decoded."""
        target = target_of(manifest) if manifest else None
        return dict(self._index.claims(target)) if target else {}

    def _contenders(self, rivals: Mapping[Key, Claim], asker: Asker) -> Iterator[Contender]:
        for rival, claim in rivals.items():
            if holding.held_seconds(self._index, rival, asker) > 0:
                yield replace(claim.contender, is_active=True)
            elif claim.is_willing and _rest_seconds(claim.contender.failed, asker.now) == 0:
                yield claim.contender

    async def _is_busy(self, key: Key, target: Target, asker: Asker, rivals: Mapping[Key, Claim]) -> bool:
        """Return whether any client runs against a target. The benchmark that asks has no Job under way."""
        there: dict[str, list[Claim]] = {key.namespace: []}
        for rival, claim in rivals.items():
            there.setdefault(rival.namespace, []).append(claim)
        looks = (
            self._is_busy_in(namespace, target, asker, None if namespace == key.namespace else claims)
            for namespace, claims in there.items()
        )
        return any(await _all_of(looks))

    async def _is_busy_in(self, namespace: str, target: Target, asker: Asker, rivals: Sequence[Claim] | None) -> bool:
        """Return whether any client runs against a target in a namespace.

        Args:
            namespace: Where to look.
            target: The target.
            asker: From whose side it is asked.
            rivals: Whose clients there count; all that have the target's label if it is None. In another namespace,
                somebody could hold a target for ever with a label.
        """
        selector = f"{TARGET_LABEL} in ({target.label},{target.former_label})"
        found, pods = await _all_of(self._listed(kind, namespace, selector) for kind in (JOB, POD))
        if rivals is not None:
            found = holding.held_by(found, rivals, asker)
            uids = {job["metadata"]["uid"] for job in found}
            pods = [pod for pod in pods if not uids.isdisjoint(metadata.owner_uids(pod))]
        return job_status.is_busy(found, pods)

    async def _listed(self, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
        async with self._lists:
            return await self.cluster.essences(kind, namespace, selector)


async def _all_of(asked: Iterable[Coroutine[None, None, Result]]) -> list[Result]:
    """Return what all come to that are asked for at the same time; when one fails, the others are given up.

    Raises:
        ApiError: What one of them raised.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(one) for one in asked]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [one.result() for one in asking]


def _shown(holder: Contender, key: Key) -> str:
    return holder.name if holder.namespace == key.namespace else f"{holder.name} of namespace {holder.namespace}"


def _rest_seconds(failed: str, now: str) -> float:
    """Return for how long a benchmark still lets others go first, after it gave its turn back at a time."""
    age = seconds_between(failed, now) if failed else None
    return 0.0 if age is None else max(0.0, turn.REST_SECONDS - max(0.0, age))


def _server_reason(manifest: Manifest, server: KimiLinearServer | None) -> Reason:
    """Return whether a server can be measured, and why not."""
    name = manifest["metadata"]["name"]
    ready = ready_condition(manifest.get("status", {}))
    if ready.get("observedGeneration") != manifest["metadata"]["generation"]:
        return Reason("ServerUnready", f"the operator has not seen the latest change of server {name} yet")
    if ready.get("status") != "True":
        return Reason("ServerUnready", f"server {name} is not ready: {ready.get('reason')}")
    if server is None:
        return Reason("ServerUnready", f"the spec of server {name} cannot be read")
    if sglang.api_key_variable(server.spec) and target.api_key_reference(server.spec) is None:
        return Reason(
            "ApiKeyUnknown",
            f"server {name} asks for an API key that no Secret holds: give its variable a secretKeyRef",
        )
    return Reason("ServerReady", f"server {name} is ready")
