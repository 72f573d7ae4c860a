"""The Lease as one replica has seen it, and what follows from that. This module decides; `leader.py` reads and writes.

If somebody deleted or rewrote the Lease, its last holder may still work for as long as it trusts its lease. A replica
that saw another holder waits that long. All replicas wait that long after a restore of etcd from a backup, because the
Lease then names an earlier holder.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from kimi_linear_operator.kubernetes.kinds import LEASE, Manifest
from kimi_linear_operator.kubernetes.metadata import version_of

LEASE_SECONDS = 15
# The duration in a released Lease, as client-go writes it.
_RELEASED_SECONDS = 1
# More than a replica writes within the time limit of a request. Earlier ones can no longer be committed.
_MOST_WRITTEN = 32


@dataclass
class SeenLease:
    """The Lease as this replica saw it last. Times are seconds of the replica's own clock.

    Attributes:
        namespace: The Lease's namespace.
        name: The Lease's name.
        identity: The name of this replica.
        is_untouched: Whether no other replica can have held the lease: since the first look if nobody held it then,
            otherwise since this replica last held it.
    """

    namespace: str
    name: str
    identity: str
    is_untouched: bool = False
    _manifest: Manifest | None = None
    # Since when it is unchanged.
    _since: float = 0.0
    # Until when another replica may work although the lease no longer names it.
    _last_holder_until: float = float("-inf")
    # The specs that this replica has sent since the version seen last, answered or not. The next spec is one of them,
    # unless somebody else writes first.
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
    def is_released(self) -> bool:
        """Return whether its last holder gave the lease back."""
        spec = self._spec()
        return spec.get("holderIdentity") == "" and spec.get("leaseDurationSeconds") == _RELEASED_SECONDS

    def is_free(self, now: float) -> bool:
        """Return whether this replica may take the lease."""
        if self.is_held_by_another:
            return bool(now - self._since >= self._spec().get("leaseDurationSeconds", LEASE_SECONDS))
        return now >= self._last_holder_until

    def distrust(self, now: float) -> None:
        """Count from now on how long the lease is unchanged.

        The Lease was not read for a while: it may have changed, and a restored backup may have reverted the change.
        """
        self._since = now

    def observe(self, lease: Manifest | None, now: float, *, is_leading: bool) -> bool:
        """Note the Lease. Return whether it is older than the last one seen, which means that etcd was restored.

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
        # No other replica can still work: its holder released the lease, or this replica took it.
        if is_ours or (self.is_released and not is_older):
            self._last_holder_until = float("-inf")
        elif was_held_by_another or (is_older and not is_leading):
            # Its holder may have renewed it right before.
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

    def note_written(self, lease: Manifest, now: float) -> None:
        """Note the Lease that this replica has written."""
        self._manifest, self._since = lease, now
        self._written_specs = [self._spec()]

    def _spec(self) -> Manifest:
        return dict((self._manifest or {}).get("spec") or {})
