"""The server that a benchmark measures: is it ready, and does nobody else measure it?"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

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
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, JOB, POD, Manifest
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server import sglang
from kimi_linear_operator.server.definition import CHECKER as SERVERS
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer

# How often to look whether the last client of a benchmark that is gone has ended.
LEFTOVER_RETRY_SECONDS = 5.0


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
        rest = _rest_seconds(failed_start(manifest), now)
        if rest > 0:
            message = f"other benchmarks of {target.name} go first, as this one could not start"
            return Wait(Reason("WaitingForTurn", message), rest)
        if self._index.is_far(key):
            message = f"{FEW_RIVALS} or more benchmarks go first on {target.name}: this one waits until these are done"
            return Wait(Reason("WaitingForTurn", message))
        rivals, asker = self._measuring(manifest), holding.asker(manifest, now)
        holder = turn.first(self._contenders(rivals, asker))
        if holder and (holder.namespace, holder.name) != (key.namespace, key.name):
            message = f"benchmark {_shown(holder, key)} goes first on {target.name}: this one waits until it is done"
            # Nothing tells that a Job of another namespace has had its time.
            left = holding.held_seconds(self._index, Key(holder.namespace, holder.name, BENCHMARK), asker)
            return Wait(Reason("WaitingForTurn", message), left if 0 < left < math.inf else None)
        for namespace in sorted({key.namespace, *(rival.namespace for rival in rivals)}):
            there = [claim for rival, claim in rivals.items() if rival.namespace == namespace]
            if await self._is_busy(namespace, target, asker, None if namespace == key.namespace else there):
                message = f"a client of an earlier benchmark still runs against {target.name}"
                return Wait(Reason("WaitingForTurn", message), LEFTOVER_RETRY_SECONDS)
        return None

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

    async def _is_busy(self, namespace: str, target: Target, asker: Asker, rivals: Iterable[Claim] | None) -> bool:
        """Return whether any client runs against a target. The caller has no Job under way.

        Args:
            namespace: Where to look.
            target: The target.
            asker: From whose side it is asked.
            rivals: Whose clients there count; all that have the target's label if it is None. In another namespace,
                somebody could hold a target for ever with a label.
        """
        selector = f"{TARGET_LABEL} in ({target.label},{target.former_label})"
        found, pods = (
            await self.cluster.essences(JOB, namespace, selector),
            await self.cluster.essences(POD, namespace, selector),
        )
        if rivals is not None:
            found = holding.held_by(found, rivals, asker)
            uids = {job["metadata"]["uid"] for job in found}
            pods = [pod for pod in pods if not uids.isdisjoint(metadata.owner_uids(pod))]
        return job_status.is_busy(found, pods)


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
