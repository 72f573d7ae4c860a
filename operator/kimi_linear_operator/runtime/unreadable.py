"""Objects that cannot be read, for any reason.

They do not affect other objects. The operator reports them until it can read them.
"""

import logging
from collections import Counter

from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.runtime.scopes import Scope

logger = logging.getLogger(__name__)

# At most this many objects are named in the log of a scope and in an answer, because a user may have created thousands.
MOST_NAMED = 10


class Unreadable:
    """The unreadable objects in the last list of each scope."""

    def __init__(self) -> None:
        """Begin with none."""
        self._reasons: dict[Scope, dict[Key, str]] = {}
        # The unreadable objects in lists that have not ended yet.
        self._listing: dict[Scope, set[Key]] = {}

    def begin(self, scope: Scope) -> None:
        """Note that the list of a scope begins."""
        self._listing[scope] = set()

    def add(self, scope: Scope, key: Key, error: Exception) -> None:
        """Note an unreadable object in the list of a scope.

        Call this in the exception handler, so that the log contains the traceback.
        """
        reasons = self._reasons.setdefault(scope, {})
        if key not in reasons:
            self._log(scope, key, len(reasons))
        reasons[key] = type(error).__name__
        self._listing[scope].add(key)

    def end(self, scope: Scope) -> None:
        """Note that the list of a scope has ended. Objects that it did not note are readable or deleted."""
        still_unreadable = self._listing.pop(scope, set())
        self._reasons[scope] = {
            key: reason for key, reason in self._reasons.get(scope, {}).items() if key in still_unreadable
        }

    def messages(self) -> list[str]:
        """Return messages about the unreadable objects, MOST_NAMED of them by name."""
        unreadable = [(key, reason) for reasons in self._reasons.values() for key, reason in reasons.items()]
        left_out = Counter(key.kind.plural for key, _ in unreadable[MOST_NAMED:])
        return [
            *(f"cannot read {_text_of(key)}: {reason}" for key, reason in unreadable[:MOST_NAMED]),
            *(f"cannot read {count} more {plural}" for plural, count in left_out.items()),
        ]

    def _log(self, scope: Scope, key: Key, logged: int) -> None:
        """Log an unreadable object with the current exception, unless MOST_NAMED of its scope were logged."""
        if logged < MOST_NAMED:
            logger.exception(
                "Cannot read %s. Its last readable state stays in the cache, and other objects are not affected",
                _text_of(key),
            )
        elif logged == MOST_NAMED:
            logger.warning(
                "More than %d objects of %s cannot be read. The log does not name the others", MOST_NAMED, scope
            )


def _text_of(key: Key) -> str:
    return f"{key.kind.kind} {key.namespace}/{key.name}"
