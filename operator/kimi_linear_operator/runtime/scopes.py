"""Which scopes can be read, and which cannot.

This module does not wait and does no I/O. `lists.py` reports the outcome of each list, and other modules read the
state.

A kind can be optional: perhaps the cluster does not have it, or the operator's Role does not allow it. Such a kind
affects only the resources that ask for it.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.refusals import REFUSALS
from kimi_linear_operator.cluster.transport import LIST_SECONDS
from kimi_linear_operator.kubernetes.kinds import Kind
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import NotReadYetError

# If a list takes this long while other lists succeed, the cause is in its scope, for example an object that the API
# server cannot decode, or a conversion webhook that does not answer. No successful list takes longer.
OWN_FAULT_SECONDS = LIST_SECONDS


class Scope(NamedTuple):
    """A kind of objects in one namespace, or in all namespaces if the namespace is None."""

    kind: Kind
    namespace: str | None

    def __str__(self) -> str:
        """Return the scope as text for people."""
        return f"{self.kind.plural} in {f'namespace {self.namespace}' if self.namespace else 'all namespaces'}"

    def covers(self, namespace: str) -> bool:
        """Return whether objects of the kind in this namespace belong to the scope."""
        return self.namespace in (None, namespace)


@dataclass
class _State:
    """The outcome of listing a scope.

    Attributes:
        begun_at: When the wait for this scope began, None without an attempt to list it. It began with the first
            attempt after the last success. If the cache was empty or outdated, it began with the first list of any
            scope.
        failed_at: When a list of the scope last failed, None if no list has failed. Lists that began before the cache
            was outdated do not count.
        is_read: Whether the cache shows the scope. This is true if the scope was listed, and has not been refused or
            lost since then.
        is_outdated: Whether the cache is perhaps old. This is true until a list begins after the operator noticed it.
        error: The error of the last list, None if it succeeded.
    """

    begun_at: float | None = None
    is_read: bool = False
    is_outdated: bool = False
    error: ApiError | None = None
    failed_at: float | None = None

    def is_refused(self) -> bool:
        """Return whether the definition is missing, or the operator's Role does not allow the list.

        In a deleted namespace, the Role is gone, too.
        """
        return self.error is not None and self.error.status in REFUSALS

    def is_own_fault(self, now: float, read_last: float) -> bool:
        """Return whether the wait has lasted for OWN_FAULT_SECONDS while another scope was read."""
        return self.begun_at is not None and now - self.begun_at >= OWN_FAULT_SECONDS and read_last >= self.begun_at

    def is_failing(self, read_last: float) -> bool:
        """Return whether the list was refused, or still failed after OWN_FAULT_SECONDS.

        A list that only waits for other slow lists has not failed.
        """
        return self.failed_at is not None and (self.is_refused() or self.is_own_fault(self.failed_at, read_last))


@dataclass
class Scopes:
    """The state of every scope that the operator reads.

    Attributes:
        namespaces: The namespaces to read, all if empty.
        kinds: The kinds of objects to read.
        optional: The kinds that affect only the resources that ask for them.
    """

    namespaces: list[str]
    kinds: Sequence[Kind]
    optional: Collection[Kind] = frozenset()
    _states: dict[Scope, _State] = field(init=False)
    # The optional scopes that each resource asks for, and the resources that ask for each scope.
    _asked: dict[Key, set[Scope]] = field(default_factory=dict)
    _askers: dict[Scope, set[Key]] = field(default_factory=dict)
    # When the first list began after the cache was known to be old or empty, None without a list.
    _begun_at: float | None = None
    # When any scope was last read. At that time, the API server answered.
    _read_last: float = float("-inf")

    def __post_init__(self) -> None:
        """Begin with nothing read."""
        self.optional = frozenset(self.optional)
        places: list[str | None] = [*dict.fromkeys(self.namespaces)] or [None]
        self._states = {Scope(kind, place): _State() for kind in self.kinds for place in places}

    def __iter__(self) -> Iterator[Scope]:
        """Yield all scopes, kind by kind."""
        return iter(self._states)

    def begin(self, scope: Scope, now: float) -> None:
        """Note that the list of a scope begins."""
        state = self._states[scope]
        if self._begun_at is None:
            self._begun_at = now
        if state.begun_at is None:
            # Other scopes may have been read while this scope waited for its watch.
            state.begun_at = now if state.is_read else self._begun_at
        state.is_outdated = False

    def forget(self, scopes: Collection[Scope]) -> None:
        """Note that the cache may be old.

        These scopes are unknown until a list that begins after this call has ended.
        """
        self._begun_at = None if scopes else self._begun_at
        for scope in scopes:
            self._outdate(scope)

    def succeed(self, scope: Scope, now: float) -> bool:
        """Note that a list of a scope succeeded; return whether the scope was unknown before."""
        if self._states[scope].is_outdated:
            return False  # The list began before `forget`.
        was_read = self._states[scope].is_read
        self._states[scope] = _State(is_read=True)
        self._read_last = now
        return not was_read

    def fail(self, scope: Scope, error: ApiError, now: float, *, is_watched: bool = True) -> bool:
        """Note that a list of a scope failed; return whether the scope has become unreadable.

        If the list was refused, a scope that was read becomes unreadable. Otherwise it stays known while its watch
        works. Without a watch, it becomes unreadable when its lists have failed for OWN_FAULT_SECONDS while others
        succeeded.
        """
        state = self._states[scope]
        was_unreadable = self._is_known_unreadable(state)
        state.error = error
        state.failed_at = state.failed_at if state.is_outdated else now
        is_lost = state.is_refused() or (not is_watched and state.is_own_fault(now, self._read_last))
        state.is_read = state.is_read and not is_lost
        return self._is_known_unreadable(state) and not was_unreadable

    def ask(self, key: Key, kinds: Collection[Kind]) -> list[Scope]:
        """Note which optional kinds a resource asks for now.

        Returns:
            The scopes that counted as unreadable and for which no resource asked before, so that they were rarely
            listed. They are now unknown until a list that begins after this call has ended.
        """
        if not kinds and key not in self._asked:
            return []
        asked = {self._scope(kind, key.namespace) for kind in kinds if kind in self.optional}
        for scope in self._asked.pop(key, set()) - asked:
            self._askers[scope].discard(key)
        if asked:
            self._asked[key] = asked
        states = ((scope, self._states[scope]) for scope in asked if self.is_unasked(scope))
        stale = [scope for scope, state in states if self._is_known_unreadable(state)]
        for scope in stale:
            self._outdate(scope)
        for scope in asked:
            self._askers.setdefault(scope, set()).add(key)
        return stale

    def askers(self, scope: Scope) -> set[Key]:
        """Return the resources that ask for an optional scope."""
        return self._askers.get(scope, set())

    def is_unasked(self, scope: Scope) -> bool:
        """Return whether a scope is optional and no resource asks for it."""
        return scope.kind in self.optional and not self.askers(scope)

    def forget_askers(self) -> None:
        """Forget which resources ask for scopes. Only a replica that leads knows this."""
        self._asked.clear()
        self._askers.clear()

    def unreadable_kinds(self, namespace: str, kinds: Iterable[Kind]) -> dict[Kind, ApiError]:
        """Return which of these kinds cannot be read in a namespace, each with the error.

        Raises:
            NotReadYetError: This is unknown until a list has ended.
        """
        states = {kind: self._states[self._scope(kind, namespace)] for kind in kinds}
        unread = {kind: state for kind, state in states.items() if not state.is_read}
        if not all(map(self._is_known_unreadable, unread.values())):
            raise NotReadYetError
        return {kind: state.error for kind, state in unread.items() if state.error}

    def is_dormant(self, scope: Scope) -> bool:
        """Return whether a scope need not be watched, because it is optional and refused."""
        state = self._states[scope]
        return scope.kind in self.optional and not state.is_read and state.is_refused()

    def may_lead(self, now: float) -> bool:
        """Return whether everything that can be read in time was read, so that a replica may lead.

        This is False while the API server answers no list at all.
        """
        return self.is_anything_read() and all(
            state.is_read or self._is_unreadable(state, now) for state in self._needed()
        )

    def has_read_everything(self) -> bool:
        """Return whether everything that can be read was read. All other lists are refused, or have failed for long.

        Work that needs everything waits for each list that has not ended yet, however long the list takes.
        """
        return self.is_anything_read() and all(
            state.is_read or state.is_failing(self._read_last) for state in self._needed()
        )

    def is_anything_read(self) -> bool:
        """Return whether any scope is read."""
        return any(state.is_read for state in self._states.values())

    def is_anything_readable(self) -> bool:
        """Return whether any scope is read, or has not failed yet."""
        return any(state.is_read or state.error is None for state in self._states.values())

    def unreadable(self, now: float) -> dict[Scope, str]:
        """Return the scopes that cannot be read, with the reason, although the API server answers.

        An optional scope counts only while a resource asks for it.
        """
        return {
            scope: str(state.error or "it is still being listed")
            for scope, state in self._states.items()
            if self.is_unreadable(scope, now)
        }

    def is_unreadable(self, scope: Scope, now: float) -> bool:
        """Return whether a scope is one of the unreadable scopes."""
        return self._is_unreadable(self._states[scope], now) and not self.is_unasked(scope)

    def has_read(self, namespace: str, kinds: Iterable[Kind]) -> bool:
        """Return whether all objects of these kinds in a namespace are read."""
        return all(self._states[self._scope(kind, namespace)].is_read for kind in kinds)

    def _scope(self, kind: Kind, namespace: str) -> Scope:
        return Scope(kind, namespace if self.namespaces else None)

    def _needed(self) -> Iterator[_State]:
        """Yield the states of all scopes that are not optional."""
        return (state for scope, state in self._states.items() if scope.kind not in self.optional)

    def _outdate(self, scope: Scope) -> None:
        self._states[scope] = replace(self._states[scope], is_read=False, is_outdated=True, failed_at=None)

    def _is_known_unreadable(self, state: _State) -> bool:
        return not state.is_read and state.is_failing(self._read_last)

    def _is_unreadable(self, state: _State, now: float) -> bool:
        return not state.is_read and (state.is_refused() or state.is_own_fault(now, self._read_last))
