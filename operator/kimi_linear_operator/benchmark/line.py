"""The benchmarks of one target, in the order in which they take turns.

A target may have thousands of benchmarks. If every change of one benchmark enqueued all others, each change would cost
thousands of passes. So if a target has more than `FEW_RIVALS` benchmarks, only those near the front of the line are
enqueued. The rest are *far*.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import NamedTuple

from kimi_linear_operator.benchmark import turn
from kimi_linear_operator.benchmark.claims import Claim
from kimi_linear_operator.benchmark.turn import Place, Rank, Turns
from kimi_linear_operator.reconcile.cached_object import Key

# If a target has at most this number of benchmarks, a change of one enqueues all. If there are more, a benchmark with
# at least this number of others ahead is far: it is enqueued only when fewer are ahead.
FEW_RIVALS = 8


class _Ranked(NamedTuple):
    """A benchmark with its rank. No two benchmarks of a namespace have the same rank."""

    rank: Rank
    key: Key


class Line:
    """The benchmarks of one target that are not done.

    Attributes:
        claims: Their claims by benchmark, in no particular order.
        turns: When the last ended suite of each namespace began.
    """

    def __init__(self, turns: Turns) -> None:
        """Begin without benchmarks.

        Args:
            turns: See the attribute. It can change later.
        """
        self.claims: dict[Key, Claim] = {}
        self.turns = turns
        # The benchmarks that want to run, the first one first: the guests of each namespace, and all others.
        self._guests: dict[str, list[_Ranked]] = {}
        self._others: list[_Ranked] = []
        # Those of them that have a Job that has not ended.
        self._at_work: list[_Ranked] = []

    def add(self, key: Key, claim: Claim, *, is_at_work: bool) -> None:
        """Add a benchmark that is not in the line.

        Args:
            key: The benchmark.
            claim: Its claim.
            is_at_work: Whether it has a Job that has not ended.
        """
        self.claims[key] = claim
        if claim.is_willing:
            insort(self._rivals(claim), _Ranked(claim.rank, key))
            self.note_work(key, is_at_work=is_at_work)

    def remove(self, key: Key) -> None:
        """Remove a benchmark."""
        claim = self.claims.pop(key)
        for ranked in (self._rivals(claim), self._at_work):
            _remove(ranked, _Ranked(claim.rank, key))
        if not self._guests.get(key.namespace, [key]):
            del self._guests[key.namespace]

    def note_work(self, key: Key, *, is_at_work: bool) -> None:
        """Note whether a benchmark has a Job that has not ended."""
        claim = self.claims[key]
        ranked = _Ranked(claim.rank, key)
        _remove(self._at_work, ranked)
        if is_at_work and claim.is_willing:
            insort(self._at_work, ranked)

    def has_rivals(self, key: Key) -> bool:
        """Return whether any other benchmark wants to run."""
        claim = self.claims.get(key)
        willing = sum(map(len, self._guests.values())) + len(self._others)
        return willing > (claim is not None and claim.is_willing)

    def is_far(self, claim: Claim, *, is_at_work: bool) -> bool:
        """Return whether a benchmark with this claim is far: at least `FEW_RIVALS` others that want to run are ahead.

        A far benchmark waits until most of these are done. Their single changes do not enqueue it.

        A benchmark whose Job has not ended is far only if `FEW_RIVALS` other benchmarks with such Jobs are ahead. There
        must be a limit for such benchmarks, too, because a user can create a Job for each of thousands of benchmarks.
        """
        is_behind = self._count_ahead(claim, self._places()) >= FEW_RIVALS
        return is_behind and not (is_at_work and _count_before(self._at_work, claim) < FEW_RIVALS)

    def near(self) -> set[Key]:
        """Return the benchmarks to enqueue after a change, at most 63.

        These are the benchmarks that want to run and are not far. The first far ones are included, because they may
        have been near before the change.
        """
        places = self._places()
        guests = (ranked for place in places[: FEW_RIVALS + 1] for ranked in _first(self._guests[place[-2]]))
        near = (ranked for ranked in guests if self._count_ahead(self.claims[ranked.key], places) <= FEW_RIVALS)
        return {ranked.key for ranked in (*near, *_first(self._others), *_first(self._at_work))}

    def _places(self) -> list[Place]:
        """Return the place of the first guest of each namespace, sorted."""
        firsts = (self.claims[ranked[0].key].contender for ranked in self._guests.values() if ranked)
        return sorted(turn.place(contender, self.turns) for contender in firsts)

    def _count_ahead(self, claim: Claim, places: Sequence[Place]) -> int:
        """Return how many benchmarks go before one with this claim as long as they want to run.

        A benchmark that gave its turn back rests for a while. All rests have the same length, so a benchmark never
        waits for one that gave its turn back later. A guest's rank is behind such a benchmark, so it is not counted.

        Namespaces take turns. So only one guest of each other namespace is counted, and no namespace can make the
        guests of another one far.

        Args:
            claim: The claim.
            places: The places of the first guests of all namespaces.
        """
        rivals = self._guests.get(claim.contender.namespace, ()) if claim.contender.is_guest else self._others
        ahead = _count_before(rivals, claim)
        if claim.contender.is_guest:
            first = turn.place((self.claims[rivals[0].key] if rivals else claim).contender, self.turns)
            own = turn.place(claim.contender, self.turns)
            latest = max(first, own) if ahead else own
            ahead += bisect_left(places, latest) - (first < latest)
            ahead += bisect_right(self._others, claim.contender.failed, key=self._failed)
        return ahead

    def _failed(self, ranked: _Ranked) -> str:
        return self.claims[ranked.key].contender.failed

    def _rivals(self, claim: Claim) -> list[_Ranked]:
        """Return the benchmarks that take turns with one with this claim by their rank."""
        is_guest, namespace = claim.contender.is_guest, claim.contender.namespace
        return self._guests.setdefault(namespace, []) if is_guest else self._others


def _first(ranked: Sequence[_Ranked]) -> Sequence[_Ranked]:
    return ranked[: FEW_RIVALS + 1]


def _count_before(ranked: Sequence[_Ranked], claim: Claim) -> int:
    """Return how many benchmarks go before a claim by their rank. They are sorted, so this reads few of them."""
    return bisect_left(ranked, claim.rank, key=_rank)


def _rank(ranked: _Ranked) -> Rank:
    return ranked.rank


def _remove(all_ranked: list[_Ranked], ranked: _Ranked) -> None:
    """Remove a benchmark if it is there."""
    number = bisect_left(all_ranked, ranked)
    if all_ranked[number : number + 1] == [ranked]:
        del all_ranked[number]
