"""An index of the benchmarks that are not done, by target. It uses facts, and decodes no object.

A target may have thousands of benchmarks. If every change of one benchmark enqueued all others, each change would cost
thousands of passes. So if a target has more than `FEW_RIVALS` benchmarks, only those near the front of the queue are
enqueued. The rest are *far*.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest
from itertools import islice

from kimi_linear_operator.benchmark.address import TargetKey
from kimi_linear_operator.benchmark.claims import Claim, Client, Task, is_guest
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import JOB, POD, Manifest
from kimi_linear_operator.reconcile.cache import Cache, discard
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.server.spec import SERVER

# If a target has at most this number of benchmarks, a change of one enqueues all. If there are more, a benchmark with
# at least this number of others ahead is far: it is enqueued only when fewer are ahead.
FEW_RIVALS = 8
# In place of a namespace: the benchmarks of all namespaces.
_ALL = ""


class BenchmarkIndex:
    """The benchmarks that are not done, by target."""

    def __init__(self, cache: Cache) -> None:
        """Create an empty index of an empty cache."""
        self._cache = cache
        # By target and namespace of the benchmarks, and again by target and `_ALL`.
        self._claims: dict[tuple[TargetKey, str], dict[Key, Claim]] = {}

    def add(self, cached: CachedObject) -> None:
        """Add an object that is new in the cache."""
        if isinstance(claim := cached.facts, Claim):
            for namespace in (cached.key.namespace, _ALL):
                self._claims.setdefault((claim.target, namespace), {})[cached.key] = claim

    def remove(self, cached: CachedObject) -> None:
        """Remove an object that the cache has dropped or replaced."""
        if isinstance(claim := cached.facts, Claim):
            for namespace in (cached.key.namespace, _ALL):
                discard(self._claims, (claim.target, namespace), cached.key)

    def clear(self) -> None:
        """Remove everything."""
        self._claims.clear()

    def keys_to_enqueue(self, before: CachedObject | None, after: CachedObject | None) -> set[Key]:
        """Return the benchmarks to enqueue after an object changed: those that measure it or wait for it."""
        versions = [cached for cached in (before, after) if cached]
        key = versions[0].key
        if key.kind == SERVER:
            return self._affected_by_server(key, versions)
        if key.kind == BENCHMARK:
            claims = [_claim(cached) for cached in (before, after)]
            return set().union(*(self._affected_by_claim(key, target, claims) for target in _targets(claims)))
        owners = {cached.owner for cached in versions if cached.owner and cached.owner.kind == BENCHMARK}
        return set().union(*(self._affected_by_job(owner, before, after) for owner in owners if key.kind == JOB))

    def claim(self, key: Key) -> Claim | None:
        """Return the claim of a benchmark, None if it does not exist or is done."""
        return _claim(self._cache.find(key))

    def claims(self, target: TargetKey, namespace: str = _ALL) -> Mapping[Key, Claim]:
        """Return the claims of a target by benchmark, in no particular order.

        Args:
            target: The target.
            namespace: Only claims of benchmarks in this namespace, if it is not empty.
        """
        return self._claims.get((target, namespace), {})

    def line(self, key: Key) -> Mapping[Key, Claim]:
        """Return the claims that decide when a benchmark may start, its own claim included.

        A guest waits for every benchmark of the server. Any other benchmark waits only for those of its namespace.
        Otherwise, users of one namespace could keep users of another namespace from measuring their own server, or an
        address that is no server.
        """
        claim = self.claim(key)
        return self._line(key.namespace, claim.target) if claim else {}

    def waits_for(self, key: Key, namespace: str) -> bool:
        """Return whether a benchmark waits for benchmarks of a namespace that have the same target."""
        target = self.target(key)
        return target is not None and self._scope(key.namespace, target) in (namespace, _ALL)

    def target(self, key: Key) -> TargetKey | None:
        """Return the target of a benchmark, None if it does not exist or is done."""
        claim = self.claim(key)
        return claim.target if claim else None

    def has_jobs(self, key: Key) -> bool:
        """Return whether the cache has Jobs whose owner reference names a benchmark."""
        return bool(self._cache.cached_children(JOB, key))

    def job_of(self, key: Key, owner: str, suite: str) -> Manifest | None:
        """Return the Job of a benchmark's suite, with any name.

        If users have created more Jobs, return the first by name.
        """
        own = (cached for cached in self._cache.cached_children(JOB, key) if owner in cached.owners)
        jobs = (cached for cached in own if isinstance(cached.facts, Task) and cached.facts.suite == suite)
        first = min(jobs, key=lambda cached: cached.key.name, default=None)
        return first.manifest() if first else None

    def tasks(self, key: Key, owner: str) -> Iterator[Task]:
        """Yield the Jobs of a benchmark by its UID. Jobs of a former benchmark with the same name are left out."""
        for cached in self._cache.cached_children(JOB, key):
            if isinstance(cached.facts, Task) and owner in cached.owners:
                yield cached.facts

    def jobs_with(self, key: Key, test: Callable[[Client], bool]) -> set[str]:
        """Return the UIDs of the owners of those pods of a benchmark whose client passes a test."""
        pods = self._cache.cached_children(POD, key)
        return {uid for pod in pods if isinstance(pod.facts, Client) and test(pod.facts) for uid in pod.owners}

    def is_far(self, key: Key) -> bool:
        """Return whether a benchmark is far: at least `FEW_RIVALS` others that want to run are ahead of it.

        A far benchmark waits until most of these are done. Their single changes do not enqueue it.

        A benchmark whose Job has not ended is far only if `FEW_RIVALS` other benchmarks with such Jobs are ahead. There
        must be a limit for such benchmarks, too, because a user can create a Job for each of thousands of benchmarks.
        """
        claim = self.claim(key)
        return claim is not None and self._is_far(key, claim.target, [claim])

    def _line(self, namespace: str, target: TargetKey) -> Mapping[Key, Claim]:
        """Return the claims that decide when a benchmark of a namespace may start on a target."""
        return self.claims(target, self._scope(namespace, target))

    def _scope(self, namespace: str, target: TargetKey) -> str:
        """Return the namespace of the benchmarks for which a benchmark of this namespace waits, or `_ALL`."""
        return _ALL if is_guest(target, namespace) and self._is_server(target) else namespace

    def _affected_line(self, namespace: str, target: TargetKey) -> Mapping[Key, Claim]:
        """Return claims that include those of all benchmarks that wait for a benchmark of a namespace."""
        return self.claims(target, _ALL if self._is_server(target) else namespace)

    def _is_server(self, target: TargetKey) -> bool:
        """Return whether a target is a server in the cluster. An address may only look like the name of a Service."""
        return self._cache.find(Key(target.namespace, target.name, SERVER)) is not None

    def _affected_by_server(self, key: Key, versions: Sequence[CachedObject]) -> set[Key]:
        """Return the benchmarks to enqueue after a server changed.

        For a guest, the server is an endpoint, and its readiness does not count. But the line of a guest depends on
        whether there is a server.
        """
        target = TargetKey(key.namespace, key.name)
        line = self.claims(target, key.namespace)
        own = {*line} if len(line) <= FEW_RIVALS else self._near(line)
        if len(versions) == 2:
            return own if versions[0].facts != versions[1].facts else set()
        scopes = {_ALL, *(benchmark.namespace for benchmark in self.claims(target))}
        return own.union(*(self._near(self.claims(target, scope)) for scope in scopes))

    def _affected_by_claim(self, key: Key, target: TargetKey, claims: Sequence[Claim | None]) -> set[Key]:
        """Return the benchmarks of a target whose turn may depend on a change of another benchmark.

        Args:
            key: The benchmark.
            target: Its target, or its target before the change.
            claims: Its claims before and after the change.
        """
        line = self._affected_line(key.namespace, target)
        if len(line) <= FEW_RIVALS:
            return {*line}
        present = [claim for claim in claims if claim]
        return set() if claims[0] == claims[1] or self._is_far(key, target, present) else self._near(line)

    def _is_far(self, key: Key, target: TargetKey, claims: Sequence[Claim]) -> bool:
        """Return whether a benchmark is far on a target with each of these claims."""
        rank = min(claim.rank for claim in claims)
        rivals = self._line(key.namespace, target).items()
        ahead = (rival for rival, claim in rivals if claim.rank < rank and _stays_ahead(claim) and rival != key)
        if not _are_many(ahead):
            return False
        at_work = (
            rival for rival, claim in rivals if claim.rank < rank and rival != key and self._would_go_on(rival, claim)
        )
        return not any(self._is_at_work(key, claim) for claim in claims) or _are_many(at_work)

    def _would_go_on(self, key: Key, claim: Claim) -> bool:
        """Return whether a benchmark wants to run and has a Job that has not ended."""
        return claim.is_willing and self._is_at_work(key, claim)

    def _is_at_work(self, key: Key, claim: Claim) -> bool:
        """Return whether a benchmark has a Job that has not ended."""
        return any(not task.has_ended for task in self.tasks(key, claim.uid))

    def _near(self, line: Mapping[Key, Claim]) -> set[Key]:
        """Return the benchmarks of a line that are not far, and the first far one: it may have been near before."""
        willing = {key: claim for key, claim in line.items() if claim.is_willing}
        first = nsmallest(FEW_RIVALS + 1, (claim.rank for claim in willing.values() if _stays_ahead(claim)))
        if len(first) <= FEW_RIVALS:
            return {*willing}
        at_work = [key for key, claim in willing.items() if self._would_go_on(key, claim)]
        first_at_work = nsmallest(FEW_RIVALS + 1, at_work, key=lambda key: willing[key].rank)
        return {*first_at_work, *(key for key, claim in willing.items() if claim.rank <= first[-1])}

    def _affected_by_job(self, owner: Key, before: CachedObject | None, after: CachedObject | None) -> set[Key]:
        """Return the benchmarks whose turn may depend on a change of another benchmark's Job."""
        claim = self.claim(owner)
        line = self._affected_line(owner.namespace, claim.target) if claim else {}
        if claim is None or len(line) <= FEW_RIVALS:
            return {*line}
        tasks = [cached.facts if cached and claim.uid in cached.owners else None for cached in (before, after)]
        if tasks[0] == tasks[1]:
            return set()
        # If the benchmark already has a Job, another Job changes nothing.
        others = (task for task in self.tasks(owner, claim.uid) if task is not tasks[1])
        is_one_more = tasks[0] is None and any(not task.has_ended for task in others)
        return set() if is_one_more else self._near(line)


def _claim(cached: CachedObject | None) -> Claim | None:
    return cached.facts if cached and isinstance(cached.facts, Claim) else None


def _stays_ahead(claim: Claim) -> bool:
    """Return whether a benchmark goes before those with a higher rank, because it wants to run and does not rest."""
    return claim.is_willing and not claim.contender.failed


def _are_many(keys: Iterable[Key]) -> bool:
    """Return whether there are at least `FEW_RIVALS` keys. Counting stops at this number."""
    return len([*islice(keys, FEW_RIVALS)]) == FEW_RIVALS


def _targets(claims: Iterable[Claim | None]) -> set[TargetKey]:
    return {claim.target for claim in claims if claim}
