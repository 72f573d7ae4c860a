"""Which scopes are watched. The API server's answers to kopf's lists and watches show this."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kimi_linear_operator import counters
from kimi_linear_operator.runtime.scopes import Scope

logger = logging.getLogger(__name__)

# A scope that is not watched for longer than this is reported. kopf needs this time to notice the end of a watch and to
# reconnect.
GRACE_SECONDS = 70.0

_OK = 200
_REFUSALS = (403, 404)


@dataclass
class WatchedScopes:
    """Which scopes are watched. Only the thread of the watch changes this. Other threads only read it.

    Attributes:
        request_list: Called to request a list of a scope in two cases. When its watch starts again, the list shows the
            changes from before the start. When its watch is refused, the list shows the reason.
        is_dormant: Returns whether the operator need not watch a scope until it has listed the scope again.
    """

    request_list: Callable[[Scope], None]
    is_dormant: Callable[[Scope], bool] = lambda _: False
    # Scopes that are not watched, each with the time when this began.
    _unwatched: dict[Scope, float] = field(default_factory=dict)
    # Scopes whose next watch does not continue the last one.
    _restarted: set[Scope] = field(default_factory=set)
    # Scopes that the API server refuses to list or watch.
    _refused: set[Scope] = field(default_factory=set)
    # Scopes that were logged as not watched.
    _logged: set[Scope] = field(default_factory=set)

    def begin(self, scopes: Iterable[Scope]) -> None:
        """Note that these scopes are about to be watched."""
        for scope in scopes:
            self._unwatched.setdefault(scope, time.monotonic())

    def unwatched(self) -> list[Scope]:
        """Return the scopes that have not been watched for longer than a reconnection takes.

        Dormant scopes are left out.
        """
        oldest = time.monotonic() - GRACE_SECONDS
        unwatched = [scope for scope, since in self._unwatched.copy().items() if since < oldest]
        return [scope for scope in unwatched if not self.is_dormant(scope)]

    def may_watch(self, scope: Scope) -> bool:
        """Return whether a scope must be watched. If not, the time that a reconnection may take begins later."""
        is_dormant = self.is_dormant(scope)
        if is_dormant:
            self._unwatched[scope] = time.monotonic()
            # The scope was listed in the meantime, so its next refusal is news, even before the first watch.
            self._refused.discard(scope)
        return not is_dormant

    def broken(self) -> set[Scope]:
        """Return the scopes whose watch does not work, or has started again.

        A watch that has started again lacks the changes from before.
        """
        return {*self._unwatched.copy(), *self._restarted.copy()}

    def note_answer(self, scope: Scope, verb: str, status: int) -> None:
        """Note the answer to a list or a watch."""
        if status != _OK:
            counters.WATCH_FAILURES.labels(scope.kind.plural).inc()
            self._unwatched.setdefault(scope, time.monotonic())
            self._note_refusal(scope, is_refused=status in _REFUSALS)
        elif verb == "LIST":
            self._restarted.add(scope)
        else:
            self._unwatched.pop(scope, None)
            self._refused.discard(scope)
            if scope in self._restarted:
                self._restarted.remove(scope)
                self.request_list(scope)

    def log_changes(self) -> None:
        """Log which scopes are no longer watched, and which are watched again."""
        unwatched = set(self.unwatched())
        for scope in unwatched - self._logged:
            logger.warning(
                "%s: not watched for %.0f s. The operator retries until the watch works", scope, GRACE_SECONDS
            )
        for scope in self._logged - unwatched:
            logger.info("Watching %s again", scope)
        self._logged = unwatched

    def _note_refusal(self, scope: Scope, *, is_refused: bool) -> None:
        if is_refused and scope not in self._refused:
            self._refused.add(scope)
            self.request_list(scope)
