"""Objects that cannot be read, for whatever reason: each costs nothing but itself, and is named while it stays so."""

import logging
from collections import Counter

from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.runtime.scopes import Scope

logger = logging.getLogger(__name__)

# Somebody may have made thousands of them. So many are named, in the log of each scope and in one answer.
MOST_NAMED = 10


class Unreadable:
    """The objects that the last list of each scope showed and nobody could read."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: dict[Scope, dict[Key, str]] = {}
        # Those of lists that have not ended yet.
        self._found: dict[Scope, set[Key]] = {}

    def begin(self, scope: Scope) -> None:
        """Note that a scope is being listed."""
        self._found[scope] = set()

    def add(self, scope: Scope, key: Key, error: Exception) -> None:
        """Note an object of a scope that is being listed; to be called where the error is handled."""
        known = self._known.setdefault(scope, {})
        if key not in known:
            self._tell(scope, key, len(known))
        known[key] = type(error).__name__
        self._found[scope].add(key)

    def end(self, scope: Scope) -> None:
        """Note that a scope was listed: what it did not show as unreadable is read, or gone."""
        found = self._found.pop(scope, set())
        self._known[scope] = {key: why for key, why in self._known.get(scope, {}).items() if key in found}

    def told(self) -> list[str]:
        """Return which objects cannot be read, and why, some of them by name."""
        whys = [(key, why) for known in self._known.values() for key, why in known.items()]
        left_out = Counter(key.kind.plural for key, _ in whys[MOST_NAMED:])
        return [
            *(f"cannot read {_shown(key)}: {why}" for key, why in whys[:MOST_NAMED]),
            *(f"cannot read {count} more {plural}" for plural, count in left_out.items()),
        ]

    def _tell(self, scope: Scope, key: Key, told: int) -> None:
        """Log an object with the error that is being handled, unless many of its scope were."""
        if told < MOST_NAMED:
            logger.exception("Cannot read %s: what was known of it before is kept, and others go on", _shown(key))
        elif told == MOST_NAMED:
            logger.warning("Cannot read more than %d objects of %s: no more are named", MOST_NAMED, scope)


def _shown(key: Key) -> str:
    return f"{key.kind.kind} {key.namespace}/{key.name}"
