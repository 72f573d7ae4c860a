"""What can be read and what cannot: one state for each kind of objects in each namespace.

Nothing here waits or does I/O: `lists` reports the outcome of each list, and the others read the state.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.transport import LIST_SECONDS
from kimi_linear_operator.kubernetes.kinds import Kind

# A list that fails for so long, while the API server answers others, fails for a reason of its own: an object that
# cannot be decoded, a conversion webhook that is away. No list that is answered at all takes longer.
OWN_FAULT_SECONDS = LIST_SECONDS
# Lists of a missing definition, and of what the operator's role does not allow. A namespace takes its Role with it.
_REFUSALS = (403, 404)


class Scope(NamedTuple):
    """A kind of objects in one namespace, or in all if it names none."""

    kind: Kind
    namespace: str | None

    def __str__(self) -> str:
        """Return it as people would say it."""
        return f"{self.kind.plural} in {f'namespace {self.namespace}' if self.namespace else 'all namespaces'}"

    def covers(self, namespace: str) -> bool:
        """Return whether objects in a namespace belong to this scope."""
        return self.namespace in (None, namespace)


@dataclass
class _State:
    """The outcome of listing a scope.

    Attributes:
        asked: When it was first asked for since it was last listed.
        is_read: Whether the store shows it: it was listed, and neither refused nor lost since.
        is_outdated: Whether what the store shows may be old, and no list has begun since that was found out.
        error: Why the last list failed, if it did.
    """

    asked: float | None = None
    is_read: bool = False
    is_outdated: bool = False
    error: ApiError | None = None

    def is_refused(self) -> bool:
        return self.error is not None and self.error.status in _REFUSALS

    def is_alone(self, now: float, read_last: float) -> bool:
        """Return whether it has failed for long while another scope was read."""
        return self.asked is not None and now - self.asked >= OWN_FAULT_SECONDS and read_last >= self.asked


@dataclass
class Scopes:
    """The state of every scope that the operator looks after.

    Attributes:
        namespaces: Where to look; everywhere if empty.
        kinds: What to look at.
    """

    namespaces: list[str]
    kinds: Sequence[Kind]
    _states: dict[Scope, _State] = field(init=False)
    # When any scope was read last: the API server answers.
    _read_last: float = float("-inf")

    def __post_init__(self) -> None:
        """Begin with nothing read."""
        places: list[str | None] = [*dict.fromkeys(self.namespaces)] or [None]
        self._states = {Scope(kind, place): _State() for kind in self.kinds for place in places}

    def __iter__(self) -> Iterator[Scope]:
        """Yield every scope, one kind after the other."""
        return iter(self._states)

    def begin(self, scope: Scope, now: float) -> None:
        """Note that a scope is being listed."""
        state = self._states[scope]
        state.asked = now if state.asked is None else state.asked
        state.is_outdated = False

    def forget(self) -> None:
        """Note that what was read may be old: nothing is known until a list that begins from now on has ended."""
        for scope, state in self._states.items():
            self._states[scope] = replace(state, is_read=False, is_outdated=True)

    def succeed(self, scope: Scope, now: float) -> bool:
        """Note that a scope was listed; return whether it was unknown before."""
        if self._states[scope].is_outdated:
            return False  # The list had begun before.
        was_read = self._states[scope].is_read
        self._states[scope] = _State(is_read=True)
        self._read_last = now
        return not was_read

    def fail(self, scope: Scope, error: ApiError, now: float, *, is_watched: bool = True) -> None:
        """Note that a scope could not be listed.

        What was read before stays known while its watch goes on telling what changes, unless it was refused. Without a
        watch it is forgotten once lists have failed for long while other scopes are read.
        """
        state = self._states[scope]
        state.error = error
        is_lost = state.is_refused() or (not is_watched and state.is_alone(now, self._read_last))
        state.is_read = state.is_read and not is_lost

    def is_settled(self, now: float) -> bool:
        """Return whether everything that can be read was read, so that a replica may lead.

        While the API server answers nobody, this is False.
        """
        return self.is_anything_read() and all(
            state.is_read or self._is_unreadable(state, now) for state in self._states.values()
        )

    def is_anything_read(self) -> bool:
        """Return whether any scope can be read, as far as is known."""
        return any(state.is_read for state in self._states.values())

    def is_anything_readable(self) -> bool:
        """Return whether any scope was read, or is about to be for all that is known."""
        return any(state.is_read or state.error is None for state in self._states.values())

    def unreadable(self, now: float) -> dict[Scope, str]:
        """Return the scopes that cannot be read while others can, and why: none of them is known."""
        return {
            scope: str(state.error or "it is still being listed")
            for scope, state in self._states.items()
            if self._is_unreadable(state, now)
        }

    def is_known(self, namespace: str, kinds: Iterable[Kind]) -> bool:
        """Return whether all objects of these kinds in a namespace were read."""
        place = namespace if self.namespaces else None
        return all(self._states[Scope(kind, place)].is_read for kind in kinds)

    def _is_unreadable(self, state: _State, now: float) -> bool:
        return not state.is_read and (state.is_refused() or state.is_alone(now, self._read_last))
