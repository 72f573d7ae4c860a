"""The result of a pass over a server, and when to make the next pass."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from kimi_linear_operator.cluster.errors import UNDECLARED_FIELD, ApiError
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.conditions import Reason, find_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.reconcile.errors import BLOCKED_RETRY_SECONDS, CONTESTED_RETRY_SECONDS, Failures
from kimi_linear_operator.server.previous_status import AWAITED_WEIGHTS
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.template_choice import Decision

# The longest time between two attempts to write children that the API server refuses because of the spec. Thousands of
# such servers must not keep the API server busy.
LONGEST_BLOCKED_SECONDS = 300.0
_OLD_DEFINITION = "The cluster has an older definition of this kind, which lacks the field: install a newer one"


@dataclass(frozen=True)
class Outcome:
    """The result of a pass, before its status is written.

    Attributes:
        checked: The check of the server.
        decision: The decision about the server's pods, None if the pass has not made it.
        failures: Why children could not be written.
        unread: Why the API server could not be asked how far a verification or an automatic rollout is. The status is
            true without the answer.
        optional: Names of optional children, each with the reason why it could not be written.
        contested: Sentences about children's fields that others keep changing.
        withheld: Why some optional children do not exist.
        awaited: Sentences about children that wait until a former object is gone.
        is_first: Whether this is the first pass over a new server.
        until_more: The seconds until the autoscaler may add replicas.
        is_seen: Whether the spec was not applied, and the record of the pods contains what the operator knows about the
            defaults in it (`unrequested.remembered`).
    """

    checked: Checked[KimiLinearServer]
    decision: Decision | None = None
    failures: Failures = field(default_factory=Failures)
    unread: ApiError | None = None
    optional: tuple[tuple[str, Failures], ...] = ()
    contested: tuple[str, ...] = ()
    withheld: tuple[Reason, ...] = ()
    awaited: tuple[str, ...] = ()
    is_first: bool = False
    until_more: float = 0.0
    is_seen: bool = False

    @property
    def server(self) -> KimiLinearServer | None:
        """Return the server of the decision, or else the stored server; None if it cannot be read."""
        return self.decision.server if self.decision else self.checked.resource

    @property
    def passing(self) -> ApiError | None:
        """Return an error that may end by itself, None if there was none."""
        of_optional = next((found.passing for _, found in self.optional if found.passing), None)
        return self.failures.passing or self.unread or of_optional

    def refused(self, failures: int) -> tuple[Reason, ...]:
        """Return why optional children could not be written.

        Args:
            failures: How many passes before this one failed in a row.
        """
        told = ((child, found.to_report(failures)) for child, found in self.optional)
        return tuple(Reason(reason.name, _about(child, reason.message)) for child, reason in told if reason)

    def retries(self, status: Manifest, failures: int, now: str) -> Iterator[float]:
        """Yield the seconds until the next check of each state that can change without an event.

        Args:
            status: The status, as the previous pass wrote it.
            failures: How many passes before this one failed in a row.
            now: The time as RFC 3339.
        """
        not_applied = self.failures.to_report(failures)
        if not_applied and self._is_blocked(not_applied):
            yield growing_seconds(find_condition(status, "Accepted" if not_applied.blames_spec else "Ready"), now)
        if self.refused(failures):
            yield growing_seconds(find_condition(status, "Synced"), now)
        if self.contested:
            yield CONTESTED_RETRY_SECONDS
        known = self.decision.choice.verification if self.decision else None
        if known and known.again is not None:
            yield known.again
        if 0.0 < self.until_more < math.inf:
            yield self.until_more

    def _is_blocked(self, not_applied: Reason) -> bool:
        """Return whether to retry children that could not be written.

        Incomplete weights need no retry, because an event reports when they are complete.
        """
        return self.checked.is_valid and not_applied.name not in AWAITED_WEIGHTS


def _about(child: str, message: str) -> str:
    """Return why a child could not be written, with its name and a remedy if the message has none."""
    named = message if child in message else f"{child}: {message}"
    return f"{named}. {_OLD_DEFINITION}" if UNDECLARED_FIELD in message else named


def growing_seconds(condition: Manifest, now: str) -> float:
    """Return the seconds until the retry of a refused write.

    The result is a quarter of the time since a condition became False or Unknown. It is at least BLOCKED_RETRY_SECONDS
    and at most LONGEST_BLOCKED_SECONDS. A time in the future counts as if it were equally far in the past. Users can
    write any time into a status, so such a time must not keep the pauses short.

    Args:
        condition: The condition, as the previous pass wrote it.
        now: The time as RFC 3339.
    """
    if condition.get("status") not in ("False", "Unknown"):
        return BLOCKED_RETRY_SECONDS
    refused = abs(seconds_between(condition.get("lastTransitionTime"), now) or 0.0)
    return min(max(BLOCKED_RETRY_SECONDS, refused / 4), LONGEST_BLOCKED_SECONDS)
