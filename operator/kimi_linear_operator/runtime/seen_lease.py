"""The Lease as one replica has seen it, and the decisions that follow from it.

This module decides, and `leader.py` reads and writes.

If somebody deletes or rewrites the Lease, its last holder can work until its trust in the lease ends. A replica that
saw another holder waits for that time. After a restore of etcd from a backup, all replicas wait for that time, because
the Lease then names an earlier holder.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from kimi_linear_operator.kubernetes.kinds import LEASE, Manifest
from kimi_linear_operator.kubernetes.metadata import version_of

LEASE_SECONDS = 15
# After an attempt to take the lease that was stored but not answered, a replica leaves the Lease unchanged for
# LEASE_SECONDS and two looks of another replica, so that the other one can take it.
YIELD_SECONDS = LEASE_SECONDS + 2.0
# The duration in a released Lease, as client-go writes it.
_RELEASED_SECONDS = 1
# The fields of a Lease that are different in each write of each replica.
_PROOFS = ("holderIdentity", "renewTime")
# More than the number of writes within the time limit of a request. Earlier writes can no longer be committed.
_MOST_WRITTEN = 32


def proves_write(answer: Manifest, sent: Manifest) -> bool:
    """Return whether the answer to a write shows the Lease that was sent.

    If it does not, other replicas perhaps do not see the written Lease.
    """
    stored = answer.get("spec")
    return isinstance(stored, dict) and all(stored.get(name) == sent["spec"][name] for name in _PROOFS)


@dataclass
class SeenLease:
    """The Lease as this replica saw it last. Times are seconds of the replica's own clock.

    Attributes:
        namespace: The Lease's namespace.
        name: The Lease's name.
        identity: The name of this replica.
        is_untouched: Whether no other replica can have held the lease since this replica last held it. Before this
            replica has held it: since the first look. This is False if somebody held the lease at the first look.
    """

    namespace: str
    name: str
    identity: str
    is_untouched: bool = False
    _manifest: Manifest | None = None
    # When the Lease last changed.
    _since: float = 0.0
    # Another replica may work until this time, although the lease no longer names it.
    _last_holder_until: float = float("-inf")
    # When this replica last got no answer to an attempt to take the lease. Its next answered write clears this.
    _unanswered_at: float = float("inf")
    # The specs that this replica has sent after the last version that it saw, with or without an answer. The next
    # version has one of these specs, unless somebody else writes first.
    _written_specs: list[Manifest] = field(default_factory=list)

    @property
    def exists(self) -> bool:
        """Return whether there is a Lease."""
        return self._manifest is not None

    @property
    def holder(self) -> str:
        """Return the name of the replica that holds the lease, empty if none does."""
        return str(self._spec().get("holderIdentity") or "")

    @property
    def is_held_by_another(self) -> bool:
        """Return whether the lease names another replica."""
        return self.holder not in ("", self.identity)

    @property
    def is_yielding(self) -> bool:
        """Return whether an attempt of this replica to take the lease was stored, but not answered.

        If a replica never got an answer and still went on to write, the Lease would never expire, and no replica would
        lead.
        """
        return self.holder == self.identity and self._since >= self._unanswered_at

    @property
    def may_be_ours(self) -> bool:
        """Return whether a write of this replica, with or without an answer, may be the current state of the Lease."""
        return bool(self._written_specs)

    @property
    def is_released(self) -> bool:
        """Return whether the last holder released the lease."""
        spec = self._spec()
        return spec.get("holderIdentity") == "" and spec.get("leaseDurationSeconds") == _RELEASED_SECONDS

    def is_free(self, now: float) -> bool:
        """Return whether this replica may take the lease."""
        if self.is_held_by_another:
            # The holder trusts the lease for its own duration, even if somebody has written a shorter one.
            duration = max(self._spec().get("leaseDurationSeconds", LEASE_SECONDS), LEASE_SECONDS)
            return bool(now - self._since >= duration)
        if self.is_yielding:
            return now - self._since >= YIELD_SECONDS
        return now >= self._last_holder_until

    def distrust(self, now: float) -> None:
        """Count from now for how long the lease has been unchanged.

        While this replica did not read the Lease, it may have changed, and a restored backup may have reverted the
        change.
        """
        self._since = now

    def observe(self, lease: Manifest | None, now: float, *, is_leading: bool) -> bool:
        """Note the Lease.

        Return whether it is older than the last version that this replica saw, which means that etcd was restored.

        Args:
            lease: The Lease, None if there is none.
            now: The time.
            is_leading: Whether this replica trusts its lease.
        """
        if lease == self._manifest:
            return False
        is_older = bool(lease and self._manifest and version_of(lease) < version_of(self._manifest))
        was_held_by_another = self.is_held_by_another
        self._manifest, self._since = lease, now
        self._written_specs = [spec for spec in self._written_specs if spec == self._spec()]
        is_ours = bool(self._written_specs) and not is_older
        self.is_untouched = self.is_untouched and is_ours
        # No other replica can still work, because the holder released the lease or this replica took it.
        if is_ours or (self.is_released and not is_older):
            self._last_holder_until = float("-inf")
        elif was_held_by_another or (is_older and not is_leading):
            # The holder may have renewed the lease just before.
            self._last_holder_until = now + LEASE_SECONDS
        return is_older

    def build(self, holder: str) -> Manifest:
        """Return the Lease to write for this holder. An empty holder releases it, in the same way as client-go."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = self._spec()
        is_taken = bool(holder) and holder != before.get("holderIdentity")
        spec = {
            **before,
            "holderIdentity": holder,
            "leaseDurationSeconds": LEASE_SECONDS if holder else _RELEASED_SECONDS,
            "acquireTime": now if is_taken else before.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": before.get("leaseTransitions", 0) + (is_taken and "holderIdentity" in before),
        }
        self._written_specs = [*self._written_specs, spec][-_MOST_WRITTEN:]
        metadata = self._manifest["metadata"] if self._manifest else {"name": self.name, "namespace": self.namespace}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}

    def note_unanswered(self, now: float) -> None:
        """Note that this replica got no answer to an attempt to take the lease. The attempt may be stored."""
        self._unanswered_at = now

    def note_written(self, lease: Manifest, now: float) -> None:
        """Note the Lease that this replica has written."""
        self._unanswered_at = float("inf")
        self._manifest, self._since = lease, now
        self._written_specs = [self._spec()]

    def _spec(self) -> Manifest:
        return dict((self._manifest or {}).get("spec") or {})
