"""An index of the benchmarks that are not done, by target. It uses facts, and decodes no object."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from kimi_linear_operator.benchmark.address import TargetKey
from kimi_linear_operator.benchmark.claims import Claim, Client, Task, is_guest
from kimi_linear_operator.benchmark.line import FEW_RIVALS, Line
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import JOB, POD, Manifest
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.reconcile.decoded import manifest_of
from kimi_linear_operator.server.spec import SERVER

# In place of a namespace: the benchmarks of all namespaces.
_ALL = ""


class BenchmarkIndex:
    """The benchmarks that are not done, by target."""

    def __init__(self, cache: Cache) -> None:
        """Create an empty index of an empty cache."""
        self._cache = cache
        # By target and then by namespace of the benchmarks, and once more for `_ALL`.
        self._lines: dict[TargetKey, dict[str, Line]] = {}
        # How many Jobs that have not ended each benchmark has, by UID of the benchmark.
        self._unended: Counter[tuple[Key, str]] = Counter()
        # When the last ended suite of the guests of each namespace began, by target. It is kept as long as the target
        # has benchmarks, also when those of the namespace are gone. Otherwise, a namespace could go first again.
        self._turns: dict[TargetKey, dict[str, str]] = {}

    def add(self, cached: CachedObject) -> None:
        """Add an object that is new in the cache."""
        if isinstance(claim := cached.facts, Claim):
            lines = self._lines.setdefault(claim.target, {})
            for namespace in (cached.key.namespace, _ALL):
                line = lines.setdefault(namespace, Line(self._turns.setdefault(claim.target, {})))
                line.add(cached.key, claim, is_at_work=self._is_at_work(cached.key, claim))
        self._count_job(cached, 1)

    def remove(self, cached: CachedObject) -> None:
        """Remove an object that the cache has dropped or replaced."""
        if isinstance(claim := cached.facts, Claim):
            lines = self._lines[claim.target]
            for namespace in (cached.key.namespace, _ALL):
                lines[namespace].remove(cached.key)
                if not lines[namespace].claims:
                    del lines[namespace]
            if not lines:
                del self._lines[claim.target], self._turns[claim.target]
        self._count_job(cached, -1)

    def _count_job(self, cached: CachedObject, sign: int) -> None:
        """Count a Job that has not ended for each of its owners."""
        if cached.owner is None or not isinstance(cached.facts, Task) or cached.facts.has_ended:
            return
        for uid in set(cached.owners):
            self._unended[cached.owner, uid] += sign
            if not self._unended[cached.owner, uid]:
                del self._unended[cached.owner, uid]
        if claim := self.claim(cached.owner):
            for namespace in (cached.owner.namespace, _ALL):
                is_at_work = self._is_at_work(cached.owner, claim)
                self.line_of(claim.target, namespace).note_work(cached.owner, is_at_work=is_at_work)

    def clear(self) -> None:
        """Remove everything."""
        self._lines.clear()
        self._unended.clear()
        self._turns.clear()

    def keys_to_enqueue(self, before: CachedObject | None, after: CachedObject | None) -> set[Key]:
        """Return the benchmarks to enqueue after an object changed: those that measure it or wait for it.

        If the change is the end of a guest's suite, its namespace has had its turn from now on.
        """
        versions = [cached for cached in (before, after) if cached]
        key = versions[0].key
        if before:
            self._note_turn(before, after)
        if key.kind == SERVER:
            return self._affected_by_server(key, versions)
        if key.kind == BENCHMARK:
            claims = [_claim(cached) for cached in (before, after)]
            return set().union(*(self._affected_by_claim(key, target, claims) for target in _targets(claims)))
        owners = {cached.owner for cached in versions if cached.owner and cached.owner.kind == BENCHMARK}
        return set().union(*(self._affected_by_job(owner, before, after) for owner in owners if key.kind == JOB))

    def _note_turn(self, before: CachedObject, after: CachedObject | None) -> None:
        """Note the turn of a namespace, if a Job of a guest has ended, or the guest itself is gone.

        The turn counts only from the end of the suite. So its place stays the same while the suite runs.
        """
        if isinstance(before.facts, Task):
            claim = self.claim(before.owner) if before.owner else None
            if claim and claim.uid in before.owners and not _is_under_way(before, after):
                self._note_turn_of(claim, [before.facts])
        elif (gone := _claim(before)) and _targets([_claim(after)]) != {gone.target}:
            self._note_turn_of(gone, self.tasks(before.key, gone.uid))

    def _note_turn_of(self, claim: Claim, tasks: Iterable[Task]) -> None:
        turns, namespace = self._turns.get(claim.target), claim.contender.namespace
        if turns is not None and claim.contender.is_guest:
            turns[namespace] = max([turns.get(namespace, ""), *(task.created for task in tasks)])

    def claim(self, key: Key) -> Claim | None:
        """Return the claim of a benchmark, None if it does not exist or is done."""
        return _claim(self._cache.find(key))

    def line_of(self, target: TargetKey, namespace: str = _ALL) -> Line:
        """Return the benchmarks of a target.

        Args:
            target: The target.
            namespace: Only benchmarks in this namespace, if it is not empty.
        """
        return self._lines.get(target, {}).get(namespace) or Line({})

    def claims(self, target: TargetKey, namespace: str = _ALL) -> Mapping[Key, Claim]:
        """Return the claims of these benchmarks, in no particular order."""
        return self.line_of(target, namespace).claims

    def line(self, key: Key) -> Line:
        """Return the benchmarks that decide when a benchmark may start, the benchmark itself included.

        A guest waits for every benchmark of the server. Any other benchmark waits only for those of its namespace.
        Otherwise, users of one namespace could keep users of another namespace from measuring their own server, or an
        address that is no server.
        """
        claim = self.claim(key)
        return self._line(key.namespace, claim.target) if claim else Line({})

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
        return manifest_of(first) if first else None

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
        """Return whether so many others are ahead of a benchmark that their single changes do not enqueue it."""
        claim = self.claim(key)
        return claim is not None and self._is_far(key, claim)

    def _is_far(self, key: Key, claim: Claim) -> bool:
        """Return whether a benchmark is far with this claim, which it may have had before a change."""
        line = self._line(key.namespace, claim.target)
        return line.is_far(claim, is_at_work=self._is_at_work(key, claim))

    def _line(self, namespace: str, target: TargetKey) -> Line:
        """Return the benchmarks that decide when a benchmark of a namespace may start on a target."""
        return self.line_of(target, self._scope(namespace, target))

    def _scope(self, namespace: str, target: TargetKey) -> str:
        """Return the namespace of the benchmarks for which a benchmark of this namespace waits, or `_ALL`."""
        return _ALL if is_guest(target, namespace) and self._is_server(target) else namespace

    def _affected_line(self, namespace: str, target: TargetKey) -> Line:
        """Return a line that contains every benchmark that waits for a benchmark of this namespace."""
        return self.line_of(target, _ALL if self._is_server(target) else namespace)

    def _is_server(self, target: TargetKey) -> bool:
        """Return whether a target is a server in the cluster. An address may only look like the name of a Service."""
        return self._cache.find(Key(target.namespace, target.name, SERVER)) is not None

    def _affected_by_server(self, key: Key, versions: Sequence[CachedObject]) -> set[Key]:
        """Return the benchmarks to enqueue after a server changed.

        For a guest, the server is an endpoint, and its readiness does not count. But the line of a guest depends on
        whether there is a server.
        """
        target = TargetKey(key.namespace, key.name)
        own = _to_enqueue(self.line_of(target, key.namespace))
        if len(versions) == 2:
            return own if versions[0].facts != versions[1].facts else set()
        return own.union(*(line.near() for line in self._lines.get(target, {}).values()))

    def _affected_by_claim(self, key: Key, target: TargetKey, claims: Sequence[Claim | None]) -> set[Key]:
        """Return the benchmarks of a target whose turn may depend on a change of another benchmark.

        Args:
            key: The benchmark.
            target: Its target, or its target before the change.
            claims: Its claims before and after the change.
        """
        line = self._affected_line(key.namespace, target)
        here = [claim for claim in claims if claim and claim.target == target]
        is_news = claims[0] != claims[1] and not all(self._is_far(key, claim) for claim in here)
        return _to_enqueue(line) if is_news or _has_few(line) else set()

    def _is_at_work(self, key: Key, claim: Claim) -> bool:
        """Return whether a benchmark has a Job that has not ended."""
        return (key, claim.uid) in self._unended

    def _affected_by_job(self, owner: Key, before: CachedObject | None, after: CachedObject | None) -> set[Key]:
        """Return the benchmarks whose turn may depend on a change of another benchmark's Job."""
        claim = self.claim(owner)
        if claim is None:
            return set()
        line = self._affected_line(owner.namespace, claim.target)
        tasks = [cached.facts if cached and claim.uid in cached.owners else None for cached in (before, after)]
        is_news = tasks[0] != tasks[1] and not (tasks[0] is None and self._has_another(owner, claim, tasks[1]))
        return _to_enqueue(line) if is_news or _has_few(line) else set()

    def _has_another(self, key: Key, claim: Claim, task: object) -> bool:
        """Return whether a benchmark already had a Job that has not ended, so that this new Job changes nothing."""
        is_counted = isinstance(task, Task) and not task.has_ended
        return self._unended[key, claim.uid] > is_counted


def _is_under_way(before: CachedObject, after: CachedObject | None) -> bool:
    """Return whether a Job still has its owners after a change, and has not ended."""
    return (
        after is not None
        and after.owners == before.owners
        and not (isinstance(after.facts, Task) and after.facts.has_ended)
    )


def _has_few(line: Line) -> bool:
    return len(line.claims) <= FEW_RIVALS


def _to_enqueue(line: Line) -> set[Key]:
    """Return the benchmarks to enqueue after a change that can alter the order."""
    return {*line.claims} if _has_few(line) else line.near()


def _claim(cached: CachedObject | None) -> Claim | None:
    return cached.facts if cached and isinstance(cached.facts, Claim) else None


def _targets(claims: Iterable[Claim | None]) -> set[TargetKey]:
    return {claim.target for claim in claims if claim}
