"""Which scopes are watched. The answers to kopf's lists and watches show this, and so do the events of the watches."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kimi_linear_operator import counters
from kimi_linear_operator.cluster.refusals import REFUSALS
from kimi_linear_operator.runtime.scopes import Scope

logger = logging.getLogger(__name__)

# A scope counts as unwatched when nothing has come from its watch for this long. The API server sends a bookmark about
# once a minute (k8s.io/apiserver, storage/cacher, defaultBookmarkFrequency). kopf starts a watch again when nothing has
# come for 70 s, and then has 50 s to reconnect.
LONGEST_SILENCE_SECONDS = 120.0
# For how long a scope counts as unwatched after its watch has missed an object, unless the watch delivers something. In
# this time, the operator lists the scope after each silent watch. The time is twice as long as the time between two
# lists (`lists.RESYNC_SECONDS`), so while objects change, the next list shows that the watch is still blind.
BLIND_SECONDS = 600.0

_OK = 200


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
    # When something last came from the watch of each scope, or could first come.
    _heard: dict[Scope, float] = field(default_factory=dict)
    # Scopes whose watch has not begun, or has failed.
    _failed: set[Scope] = field(default_factory=set)
    # Scopes whose next watch does not continue the last one.
    _restarted: set[Scope] = field(default_factory=set)
    # Scopes that the API server refuses to list or watch.
    _refused: set[Scope] = field(default_factory=set)
    # When it was last noticed that the watch of a scope has missed an object.
    _blind: dict[Scope, float] = field(default_factory=dict)
    # Scopes that were logged as not watched.
    _logged: set[Scope] = field(default_factory=set)

    def begin(self, scopes: Iterable[Scope]) -> None:
        """Note that these scopes are about to be watched."""
        for scope in scopes:
            self._heard.setdefault(scope, time.monotonic())
            self._failed.add(scope)

    def unwatched(self) -> list[Scope]:
        """Return the scopes whose watch has shown nothing for long, because it failed or because it is silent.

        The scopes whose watch has missed an object are among them. Dormant scopes are left out.
        """
        oldest = time.monotonic() - LONGEST_SILENCE_SECONDS
        silent = [scope for scope, heard in self._heard.copy().items() if heard < oldest or self.is_blind(scope)]
        return [scope for scope in silent if not self.is_dormant(scope)]

    def may_watch(self, scope: Scope) -> bool:
        """Return whether kopf may watch a scope now. If it may not, the silence of the watch does not count yet."""
        is_dormant = self.is_dormant(scope)
        if is_dormant:
            self._heard[scope] = time.monotonic()
            self._failed.add(scope)
            # The scope is listed before it is watched again, so its next refusal is news, even before the first watch.
            self._refused.discard(scope)
        return not is_dormant

    def broken(self) -> set[Scope]:
        """Return the scopes whose watch does not work, or has started again.

        A watch that has started again lacks the changes from before.
        """
        return {*self._failed.copy(), *self._restarted.copy(), *self.unwatched()}

    def note_answer(self, scope: Scope, verb: str, status: int) -> None:
        """Note the answer to a list or a watch."""
        if status != _OK:
            counters.WATCH_FAILURES.labels(scope.kind.plural).inc()
            self._failed.add(scope)
            self._note_refusal(scope, is_refused=status in REFUSALS)
        elif verb == "LIST":
            self._restarted.add(scope)
        else:
            self._heard[scope] = time.monotonic()
            self._failed.discard(scope)
            self._refused.discard(scope)
            if scope in self._restarted:
                self._restarted.remove(scope)
                self.request_list(scope)

    def note_event(self, scope: Scope) -> None:
        """Note an event of a watch, or a bookmark."""
        self._heard[scope] = time.monotonic()
        self._blind.pop(scope, None)

    def note_blind(self, scope: Scope) -> None:
        """Note that the watch of a scope was silent although it had to deliver an object."""
        self._blind[scope] = time.monotonic()

    def is_blind(self, scope: Scope) -> bool:
        """Return whether the watch of a scope has missed an object some time ago, and has delivered nothing since."""
        return time.monotonic() < self._blind.get(scope, float("-inf")) + BLIND_SECONDS

    def log_changes(self) -> None:
        """Log which scopes are no longer watched, and which are watched again."""
        unwatched = set(self.unwatched())
        for scope in unwatched - self._logged:
            logger.warning("%s: nothing comes from the watch. The operator retries until it works", scope)
        for scope in self._logged - unwatched:
            logger.info("Watching %s again", scope)
        self._logged = unwatched

    def _note_refusal(self, scope: Scope, *, is_refused: bool) -> None:
        if is_refused and scope not in self._refused:
            self._refused.add(scope)
            self.request_list(scope)
