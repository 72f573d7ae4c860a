"""Benchmarks by what they measure: whose turn it is, and who is told of a change, without reading any object."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest
from itertools import islice

from kimi_linear_operator.benchmark.address import TargetKey
from kimi_linear_operator.benchmark.claims import Claim, Client, Task
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import JOB, POD, Manifest
from kimi_linear_operator.reconcile.cache import Cache, discard
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.server.spec import SERVER

# As long as a target has no more benchmarks than this, each of them is told of whatever happens to another.
# Of more, one that has so many before it is told when it has fewer.
FEW_RIVALS = 8


class BenchmarkIndex:
    """Benchmarks that are not done, by what they measure."""

    def __init__(self, cache: Cache) -> None:
        """Begin with none, beside an empty cache."""
        self._cache = cache
        self._measuring: dict[TargetKey, dict[Key, Claim]] = {}

    def add(self, found: CachedObject) -> None:
        """Take over an object that the cache has now."""
        if isinstance(claim := found.facts, Claim):
            self._measuring.setdefault(claim.target, {})[found.key] = claim

    def remove(self, found: CachedObject) -> None:
        """Forget an object that the cache has no longer, or not as it was."""
        if isinstance(claim := found.facts, Claim):
            discard(self._measuring, claim.target, found.key)

    def clear(self) -> None:
        """Forget everything."""
        self._measuring.clear()

    def concerned(self, before: CachedObject | None, after: CachedObject | None) -> set[Key]:
        """Return the benchmarks that a change concerns: they measure the object, or wait for it."""
        known = [one for one in (before, after) if one]
        key = known[0].key
        if key.kind == SERVER:
            # A benchmark of another namespace has an endpoint, and nobody looks whether that is ready.
            measuring = self._measuring.get(TargetKey(key.namespace, key.name), {})
            return {one for one in measuring if one.namespace == key.namespace}
        if key.kind == BENCHMARK:
            claims = [_claim(one) for one in (before, after)]
            return set().union(*(self._told_of_claim(key, target, claims) for target in _targets(claims)))
        owners = {one.owner for one in known if one.owner and one.owner.kind == BENCHMARK}
        return set().union(*(self._told_of_job(owner, before, after) for owner in owners if key.kind == JOB))

    def claim(self, key: Key) -> Claim | None:
        """Return what turns depend on of a benchmark, None if there is none, or if it is done."""
        return _claim(self._cache.find(key))

    def claims(self, target: TargetKey) -> Mapping[Key, Claim]:
        """Return the benchmarks of a target that are not done, in no order."""
        return self._measuring.get(target, {})

    def target(self, key: Key) -> TargetKey | None:
        """Return what a benchmark measures, None if there is none, or if it is done."""
        claim = self.claim(key)
        return claim.target if claim else None

    def has_jobs(self, key: Key) -> bool:
        """Return whether anything claims to be a Job of a benchmark."""
        return bool(self._cache.cached_children(JOB, key))

    def job_of(self, key: Key, owner: str, suite: str) -> Manifest | None:
        """Return the Job of a benchmark's suite, whatever its name is; the first one, if somebody has made more."""
        own = (one for one in self._cache.cached_children(JOB, key) if owner in one.owners)
        of_suite = (one for one in own if isinstance(one.facts, Task) and one.facts.suite == suite)
        first = min(of_suite, key=lambda one: one.key.name, default=None)
        return first.manifest() if first else None

    def tasks(self, key: Key, owner: str) -> Iterator[Task]:
        """Yield the Jobs of a benchmark, as far as turns go; of all those that claim to be, those that its UID owns."""
        for one in self._cache.cached_children(JOB, key):
            if isinstance(one.facts, Task) and owner in one.owners:
                yield one.facts

    def clients(self, key: Key) -> Iterator[tuple[Client, tuple[str, ...]]]:
        """Yield the clients of a benchmark's pods, each with the UIDs of the pod's owners."""
        for one in self._cache.cached_children(POD, key):
            if isinstance(one.facts, Client):
                yield one.facts, one.owners

    def is_far(self, key: Key) -> bool:
        """Return whether so many others go before a benchmark in any case that it is told nothing of who does.

        Each of these wants to run and does not rest, so it can be first only when most of them are done; whatever
        happens to the first of them would else be a pass and a status to write for thousands. One whose Job is not over
        is first at once, unless as many others with such Jobs go before it: anybody can make one for each of thousands.
        """
        claim = self.claim(key)
        return claim is not None and self._is_far(key, claim.target, [claim])

    def _told_of_claim(self, key: Key, target: TargetKey, claims: Sequence[Claim | None]) -> set[Key]:
        """Return who on a target is told of a change of a benchmark: for whom another one may go first now.

        Args:
            key: The benchmark.
            target: What it measures, or has measured.
            claims: What it claimed before the change, and what it claims now.
        """
        rivals = self._measuring.get(target, {})
        if len(rivals) <= FEW_RIVALS:
            return {*rivals}
        known = [claim for claim in claims if claim]
        return set() if claims[0] == claims[1] or self._is_far(key, target, known) else self._near(target)

    def _is_far(self, key: Key, target: TargetKey, claims: Sequence[Claim]) -> bool:
        """Return whether a benchmark is far on a target, whichever of these it claims, or has claimed."""
        rank = min(claim.rank for claim in claims)
        rivals = self.claims(target).items()
        ahead = (rival for rival, claim in rivals if claim.rank < rank and _is_ahead(claim) and rival != key)
        if not _are_many(ahead):
            return False
        at_work = (
            rival for rival, claim in rivals if claim.rank < rank and rival != key and self._would_go_on(rival, claim)
        )
        return not any(self._is_at_work(key, claim) for claim in claims) or _are_many(at_work)

    def _would_go_on(self, key: Key, claim: Claim) -> bool:
        return claim.is_willing and self._is_at_work(key, claim)

    def _is_at_work(self, key: Key, claim: Claim) -> bool:
        """Return whether a Job of a benchmark is not over."""
        return any(not task.has_ended for task in self.tasks(key, claim.uid))

    def _near(self, target: TargetKey) -> set[Key]:
        """Return who on a target is not far, and who was not before something happened to one of them."""
        willing = {key: claim for key, claim in self.claims(target).items() if claim.is_willing}
        first = nsmallest(FEW_RIVALS + 1, (claim.rank for claim in willing.values() if _is_ahead(claim)))
        if len(first) <= FEW_RIVALS:
            return {*willing}
        at_work = [key for key, claim in willing.items() if self._would_go_on(key, claim)]
        first_at_work = nsmallest(FEW_RIVALS + 1, at_work, key=lambda key: willing[key].rank)
        return {*first_at_work, *(key for key, claim in willing.items() if claim.rank <= first[-1])}

    def _told_of_job(self, owner: Key, before: CachedObject | None, after: CachedObject | None) -> set[Key]:
        """Return who waits for a benchmark and is told of a change of its Job."""
        claim = self.claim(owner)
        rivals = self._measuring.get(claim.target, {}) if claim else {}
        if claim is None or len(rivals) <= FEW_RIVALS:
            return {*rivals}
        tasks = [one.facts if one and claim.uid in one.owners else None for one in (before, after)]
        if tasks[0] == tasks[1]:
            return set()
        others = (task for task in self.tasks(owner, claim.uid) if task is not tasks[1])
        is_one_more = tasks[0] is None and any(not task.has_ended for task in others)
        return set() if is_one_more else self._near(claim.target)


def _claim(found: CachedObject | None) -> Claim | None:
    return found.facts if found and isinstance(found.facts, Claim) else None


def _is_ahead(claim: Claim) -> bool:
    """Return whether a benchmark goes before those that come after it whoever asks, and at any time."""
    return claim.is_willing and not claim.contender.failed


def _are_many(found: Iterable[Key]) -> bool:
    """Return whether these are so many that who comes after them is far; no more of them are looked at."""
    return len([*islice(found, FEW_RIVALS)]) == FEW_RIVALS


def _targets(claims: Iterable[Claim | None]) -> set[TargetKey]:
    return {claim.target for claim in claims if claim}
