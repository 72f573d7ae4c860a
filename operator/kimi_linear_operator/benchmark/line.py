"""The benchmarks of one target, in the order in which they take turns.

A target may have thousands of benchmarks. If every change of one benchmark enqueued all others, each change would cost
thousands of passes. So if a target has more than `FEW_RIVALS` benchmarks, only those near the front of the line are
enqueued. The rest are *far*.
"""

from bisect import bisect_left, bisect_right, insort
from typing import NamedTuple

from kimi_linear_operator.benchmark.claims import Claim
from kimi_linear_operator.benchmark.turn import Rank
from kimi_linear_operator.reconcile.cached_object import Key

# If a target has at most this number of benchmarks, a change of one enqueues all. If there are more, a benchmark with
# at least this number of others ahead is far: it is enqueued only when fewer are ahead.
FEW_RIVALS = 8


class _Place(NamedTuple):
    """The place of a benchmark. No two benchmarks have the same rank."""

    rank: Rank
    key: Key


class Line:
    """The benchmarks of one target that are not done.

    Attributes:
        claims: Their claims by benchmark, in no particular order.
    """

    def __init__(self) -> None:
        """Begin without benchmarks."""
        self.claims: dict[Key, Claim] = {}
        # The places of the benchmarks that want to run, the first one first: guests, and all others.
        self._guests: list[_Place] = []
        self._others: list[_Place] = []
        # The places of those of them that have a Job that has not ended.
        self._at_work: list[_Place] = []

    def add(self, key: Key, claim: Claim, *, is_at_work: bool) -> None:
        """Add a benchmark that is not in the line.

        Args:
            key: The benchmark.
            claim: Its claim.
            is_at_work: Whether it has a Job that has not ended.
        """
        self.claims[key] = claim
        if claim.is_willing:
            insort(self._places(claim), _Place(claim.rank, key))
            self.note_work(key, is_at_work=is_at_work)

    def remove(self, key: Key) -> None:
        """Remove a benchmark."""
        claim = self.claims.pop(key)
        for places in (self._places(claim), self._at_work):
            _remove(places, _Place(claim.rank, key))

    def note_work(self, key: Key, *, is_at_work: bool) -> None:
        """Note whether a benchmark has a Job that has not ended."""
        claim = self.claims[key]
        place = _Place(claim.rank, key)
        _remove(self._at_work, place)
        if is_at_work and claim.is_willing:
            insort(self._at_work, place)

    def has_rivals(self, key: Key) -> bool:
        """Return whether any other benchmark wants to run."""
        claim = self.claims.get(key)
        return len(self._guests) + len(self._others) > (claim is not None and claim.is_willing)

    def is_far(self, claim: Claim, *, is_at_work: bool) -> bool:
        """Return whether a benchmark with this claim is far: at least `FEW_RIVALS` others that want to run are ahead.

        A far benchmark waits until most of these are done. Their single changes do not enqueue it.

        A benchmark whose Job has not ended is far only if `FEW_RIVALS` other benchmarks with such Jobs are ahead. There
        must be a limit for such benchmarks, too, because a user can create a Job for each of thousands of benchmarks.
        """
        is_behind = self._count_ahead(claim) >= FEW_RIVALS
        return is_behind and not (is_at_work and _count_before(self._at_work, claim) < FEW_RIVALS)

    def near(self) -> set[Key]:
        """Return the benchmarks to enqueue after a change, at most 27.

        These are the benchmarks that want to run and are not far. The first far ones are included, because they may
        have been near before the change.
        """
        guests = (place for place in _first(self._guests) if self._count_ahead(self.claims[place.key]) <= FEW_RIVALS)
        return {place.key for place in (*guests, *_first(self._others), *_first(self._at_work))}

    def _count_ahead(self, claim: Claim) -> int:
        """Return how many benchmarks go before one with this claim as long as they want to run.

        A benchmark that gave its turn back rests for a while. All rests have the same length, so a benchmark never
        waits for one that gave its turn back later. A guest's rank is behind such a benchmark, so it is not counted.
        """
        ahead = _count_before(self._places(claim), claim)
        if claim.contender.is_guest:
            ahead += bisect_right(self._others, claim.contender.failed, key=self._failed)
        return ahead

    def _failed(self, place: _Place) -> str:
        return self.claims[place.key].contender.failed

    def _places(self, claim: Claim) -> list[_Place]:
        return self._guests if claim.contender.is_guest else self._others


def _first(places: list[_Place]) -> list[_Place]:
    return places[: FEW_RIVALS + 1]


def _count_before(places: list[_Place], claim: Claim) -> int:
    """Return how many places are before a claim. They are sorted, so this reads few of them."""
    return bisect_left(places, claim.rank, key=_rank)


def _rank(place: _Place) -> Rank:
    return place.rank


def _remove(places: list[_Place], place: _Place) -> None:
    """Remove a place if it is there."""
    number = bisect_left(places, place)
    if places[number : number + 1] == [place]:
        del places[number]
