"""Whether a benchmark may start its next suite: whose turn it is, and whether a client still runs."""

import asyncio
import heapq
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from kimi_linear_operator.benchmark import holding, job, turn
from kimi_linear_operator.benchmark.claims import Claim, failed_start
from kimi_linear_operator.benchmark.holding import Asker
from kimi_linear_operator.benchmark.index import BenchmarkIndex
from kimi_linear_operator.benchmark.job_status import Clients
from kimi_linear_operator.benchmark.labels import BENCHMARK_LABEL, SUITE_LABEL, TARGET_LABEL
from kimi_linear_operator.benchmark.line import FEW_RIVALS
from kimi_linear_operator.benchmark.looks import LOOK_RETRY_SECONDS, Looks
from kimi_linear_operator.benchmark.patience import Patience
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.benchmark.target import Target
from kimi_linear_operator.benchmark.turn import Contender
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import JOB, POD, Kind, Manifest
from kimi_linear_operator.kubernetes.metadata import is_owned_by
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.children import HasRead

Result = TypeVar("Result")

# How soon to look again while another benchmark is about to start, or a client of a deleted benchmark still runs.
LEFTOVER_RETRY_SECONDS = 5.0
# The maximum number of simultaneous requests that check for running clients. It is needed because each list can hold a
# page of 2 MiB in memory.
REQUESTS_AT_ONCE = 16


@dataclass(frozen=True)
class Wait:
    """Why a suite may not start although the server is ready.

    Attributes:
        reason: The reason, with the name of the benchmark that goes first.
        again: Requeue after this many seconds, None if a watch event will enqueue the benchmark.
        look: How soon to look again at something that no watch shows, in seconds; None if there is nothing.
        lacks_place: Whether the suite only waits for a place to check for running clients.
    """

    reason: Reason
    again: float | None = None
    look: float | None = None
    lacks_place: bool = False


class Admission:
    """Decides which benchmark may start on each target."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        has_read: HasRead,
        clock: Callable[[], float] = time.monotonic,
        *,
        enqueue: Callable[[Iterable[Key]], None] = lambda _: None,
        since: str = "",
    ) -> None:
        """Take the cluster and the cache. Most decisions need only the cache.

        Args:
            cluster: Where Jobs and pods are read, just before a start.
            cache: The cache.
            has_read: Returns whether all objects of some kinds in a namespace are read now.
            clock: Returns monotonic seconds.
            enqueue: Enqueues benchmarks that can check for running clients now.
            since: When this process began to follow whose turn it is, as RFC 3339.
        """
        self._since = since
        self.cluster = cluster
        self._has_read = has_read
        self.cache = cache
        self._index = cache.index(BenchmarkIndex)
        self._looks = Looks(clock, enqueue)
        self._patience = Patience(clock)
        self._requests = asyncio.Semaphore(REQUESTS_AT_ONCE)

    async def wait(self, key: Key, target: Target, now: str) -> Wait | None:
        """Return why a benchmark may not start a suite, None if it may.

        First, the cache shows whose turn it is. Then the API server is asked for clients that the cache does not show:
        clients of a deleted benchmark, and clients that another replica of the operator has just started.
        """
        manifest = self.cache.get(key.of(BENCHMARK)) or {}
        if wait := self._wait_for_long(key, manifest, target, now):
            return wait
        rivals, asker = self._line(key), holding.asker_of(manifest, now, self._index.line(key).turns, self._since)
        if wait := self._wait_for_turn(key, target, asker, rivals):
            return wait
        if wait := await self._look(key, target, asker, rivals):
            return wait
        return self._wait_for_news(key, target, asker, rivals)

    def _wait_for_news(self, key: Key, target: Target, asker: Asker, looked_at: Mapping[Key, Claim]) -> Wait | None:
        """Return why a benchmark must still wait. Rivals may have appeared during the request to the API server."""
        rivals = self._line(key)
        news = (claim for rival, claim in rivals.items() if rival not in looked_at and claim.is_willing)
        if any(not asker.goes_before(claim) for claim in news):
            message = f"another benchmark of {target.name} has just appeared"
            return Wait(Reason("WaitingForTurn", message), look=LOOK_RETRY_SECONDS)
        return self._wait_for_turn(key, target, asker, rivals)

    def _wait_for_long(self, key: Key, manifest: Manifest, target: Target, now: str) -> Wait | None:
        """Return why it is not a benchmark's turn yet, without reading every rival."""
        rest = _rest_seconds(failed_start(manifest), now)
        if rest > 0:
            message = f"other benchmarks of {target.name} go first, because this benchmark could not start"
            return Wait(Reason("WaitingForTurn", message), rest)
        if self._index.is_far(key):
            message = (
                f"{FEW_RIVALS} or more benchmarks go first on {target.name}: this benchmark waits until they are done"
            )
            return Wait(Reason("WaitingForTurn", message))
        return None

    def _wait_for_turn(self, key: Key, target: Target, asker: Asker, rivals: Mapping[Key, Claim]) -> Wait | None:
        """Return a wait that names the benchmark whose turn it is, None if it is this benchmark's turn."""
        contenders = [*self._contenders(rivals, asker)]
        while first := turn.first(contenders, asker.turns):
            other = Key(first.namespace, first.name, BENCHMARK)
            if other == key:
                return None
            left = self._seconds_left_for(first, rivals[other], asker)
            is_elsewhere = first.namespace != key.namespace
            if left > 0:
                message = (
                    f"benchmark {_shown_name(first, key)} goes first on {target.name}: this benchmark waits until "
                    "that one is done"
                )
                return Wait(Reason("WaitingForTurn", message), left if left < math.inf else None)
            # If the first guest of another namespace does not start, this whole namespace is passed over. Otherwise
            # each of its guests would keep the others waiting for as long as the first one.
            contenders = [
                each for each in contenders if each != first and not (is_elsewhere and _is_beside(each, first))
            ]
        return None

    def _seconds_left_for(self, first: Contender, claim: Claim, asker: Asker) -> float:
        """Return for how many more seconds others wait for the benchmark whose turn it is.

        No watch event comes when a Job of another namespace may no longer hold the server, or when a benchmark cannot
        go on. For benchmarks of the server's own namespace there is no limit: they also go first while the server is
        not ready.
        """
        key = Key(first.namespace, first.name, BENCHMARK)
        # Guests of one namespace share the patience of the others. Otherwise, users could put a new one first again and
        # again.
        awaited = Key(first.namespace, f"{claim.target}", BENCHMARK) if first.is_guest else key
        if first.is_active:
            self._patience.forget(awaited)
            return holding.hold_seconds(self._index, key, asker)
        is_own = claim.target.namespace == first.namespace
        # Users can write any end of a suite into the status of a guest.
        last = asker.turns.get(first.namespace, "") if first.is_guest else claim.last_end
        return math.inf if is_own else self._patience.seconds_left(awaited, last)

    async def _look(self, key: Key, target: Target, asker: Asker, rivals: Mapping[Key, Claim]) -> Wait | None:
        """Return a wait if the API server shows a running client, or if too many benchmarks ask at the same time."""
        with self._looks.place(key) as has_place:
            if not has_place:
                message = (
                    "other benchmarks are about to start, and only a few can check for running clients at the same time"
                )
                return Wait(Reason("WaitingForTurn", message), look=LOOK_RETRY_SECONDS, lacks_place=True)
            is_busy = await self._is_busy(key, target, asker, rivals)
        message = f"a client of an earlier benchmark still runs against {target.name}"
        return Wait(Reason("WaitingForTurn", message), look=LEFTOVER_RETRY_SECONDS) if is_busy else None

    def forget(self, key: Key) -> None:
        """Forget a benchmark that is complete or deleted."""
        self._patience.forget(key.of(BENCHMARK))
        self.leave_looks(key)

    def leave_looks(self, key: Key) -> None:
        """Note that a benchmark does not wait for a place to check for running clients."""
        self._looks.forget(key.of(BENCHMARK))

    def has_rivals(self, key: Key) -> bool:
        """Return whether a benchmark takes turns with another one that wants to run."""
        return self._index.line(key.of(BENCHMARK)).has_rivals(key.of(BENCHMARK))

    def _line(self, key: Key) -> dict[Key, Claim]:
        """Return a copy of the claims that decide when a benchmark may start. There may be thousands."""
        return dict(self._index.line(key.of(BENCHMARK)).claims)

    def _contenders(self, rivals: Mapping[Key, Claim], asker: Asker) -> Iterator[Contender]:
        """Yield the benchmarks that hold the target or want to run now."""
        for rival, claim in rivals.items():
            if holding.hold_seconds(self._index, rival, asker) > 0:
                yield replace(claim.contender, is_active=True)
            elif self._may_start(rival, claim) and _rest_seconds(claim.contender.failed, asker.now) == 0:
                yield claim.contender

    def _may_start(self, key: Key, claim: Claim) -> bool:
        """Return whether the operator could start a benchmark. It starts none in namespaces that it cannot read."""
        return claim.is_willing and self._has_read(key.namespace, (BENCHMARK, JOB, POD))

    async def _is_busy(self, key: Key, target: Target, asker: Asker, rivals: Mapping[Key, Claim]) -> bool:
        """Return whether any client runs against a target. The asking benchmark itself has no client.

        The cache shows all Jobs, except Jobs that another replica created in the last seconds. Such a Job belongs to
        one of the benchmarks that go first. If the operator can no longer read a namespace, it knows only the Jobs that
        it saw there before.

        Raises:
            ApiError: An answer is missing, and the other answers show no client. So a client may still run.
        """
        others = ((rival, claim) for rival, claim in rivals.items() if rival.namespace != key.namespace)
        elsewhere = ((rival.namespace, claim.rank, claim) for rival, claim in others if self._may_start(rival, claim))
        firsts = turn.first_of_each_namespace(elsewhere)
        first = heapq.nsmallest(FEW_RIVALS, firsts, key=lambda claim: turn.place(claim.contender, asker.turns))
        looks = (self._runs(claim, suite, asker) for claim in first for suite in claim.may_run)
        return await _is_any([self._is_busy_in(key.namespace, target), *looks])

    async def _is_busy_in(self, namespace: str, target: Target) -> bool:
        """Return whether a client in the asking benchmark's namespace runs against a target."""
        selector = f"{TARGET_LABEL} in ({target.label},{target.former_label})"
        add = {JOB: Clients.with_jobs, POD: Clients.with_pods}
        jobs, pods = await _all_of(self._summarize(kind, namespace, selector, Clients(), add[kind]) for kind in add)
        return pods._replace(unended=jobs.unended).are_busy

    async def _runs(self, claim: Claim, suite: str, asker: Asker) -> bool:
        """Return whether a suite of a benchmark of another namespace runs.

        Only the Job with the operator's name counts. A user of that namespace could create any number of other Jobs
        with its labels, and hold a target for ever.
        """
        benchmark, namespace = claim.contender.name, claim.contender.namespace
        async with self._requests:
            found = await self.cluster.get(JOB, namespace, job.name_of(claim.uid, benchmark, suite))
        jobs = holding.holding_jobs([found] if found else [], [claim], asker)
        if not jobs:
            return False
        uid, selector = jobs[0]["metadata"]["uid"], f"{BENCHMARK_LABEL}={benchmark},{SUITE_LABEL}={suite}"

        def add(clients: Clients, pods: Sequence[Manifest]) -> Clients:
            return clients.with_pods([pod for pod in pods if is_owned_by(pod, uid)])

        return (await self._summarize(POD, namespace, selector, Clients().with_jobs(jobs), add)).are_busy

    async def _summarize(
        self,
        kind: Kind,
        namespace: str,
        selector: str,
        clients: Clients,
        add: Callable[[Clients, Sequence[Manifest]], Clients],
    ) -> Clients:
        async with self._requests:
            return await self.cluster.summarize(kind, namespace, selector, clients, add)


async def _is_any(questions: Iterable[Coroutine[None, None, bool]]) -> bool:
    """Ask questions at the same time, and return whether any answer is yes. An error does not affect the other answers.

    Raises:
        ApiError: No answer is yes, and an answer is missing.
    """
    answers = await asyncio.gather(*questions, return_exceptions=True)
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    if errors and True not in answers:
        raise errors[0]
    return True in answers


async def _all_of(coroutines: Iterable[Coroutine[None, None, Result]]) -> list[Result]:
    """Run coroutines at the same time and return their results; if one fails, cancel the others.

    Raises:
        ApiError: The first error of a coroutine.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _is_beside(each: Contender, first: Contender) -> bool:
    """Return whether a contender is of the same namespace, and has no running suite."""
    return each.namespace == first.namespace and not each.is_active


def _shown_name(contender: Contender, key: Key) -> str:
    """Return the name of a contender for the message of a benchmark.

    If the contender's namespace is different, add it.
    """
    is_elsewhere = contender.namespace != key.namespace
    return f"{contender.name} of namespace {contender.namespace}" if is_elsewhere else contender.name


def _rest_seconds(failed: str, now: str) -> float:
    """Return for how many more seconds a benchmark lets others go first after it gave its turn back at this time.

    If this time is in the future, the host's clock was wrong when the operator wrote it. Then the rest is over.
    """
    age = seconds_between(failed, now) if failed else None
    return 0.0 if age is None or age < 0 else max(0.0, turn.REST_SECONDS - age)
