"""Writes the children of resources.

It writes only children that differ from the live objects, and never an object of somebody else.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import islice

from kimi_linear_operator.cluster.client import Cluster, for_object, for_state
from kimi_linear_operator.cluster.errors import CONFLICT, ApiError, Meaning
from kimi_linear_operator.kubernetes import drift, metadata, ownership
from kimi_linear_operator.kubernetes.kinds import (
    AUTOSCALER,
    DEPLOYMENT,
    REVISION,
    SCALED_OBJECT,
    Kind,
    Manifest,
    kind_of,
)
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.plan import Apply, Blocked, Create, Step, step_for
from kimi_linear_operator.reconcile.cache import MOST_CHILDREN, MOST_WEIGHT_OF_FEW, Cache
from kimi_linear_operator.reconcile.cached_object import CachedObject, Key
from kimi_linear_operator.reconcile.decoded import share
from kimi_linear_operator.reconcile.errors import (
    BEHIND_RETRY_SECONDS,
    BehindError,
    GoneError,
    LeftoverError,
    NameTakenError,
)
from kimi_linear_operator.reconcile.live import blocked_if_held
from kimi_linear_operator.reconcile.repairs import MOST_FIELDS, Child, Repairs
from kimi_linear_operator.reconcile.writes import run_concurrently

logger = logging.getLogger(__name__)

# A resource has a few children to delete, but users can create thousands that look like its children. If the operator
# opened a connection for each of them at the same time, it could not renew the Lease.
_DELETIONS_AT_ONCE = 8

# Other children wait until objects of these kinds are gone. Only a watch event shows that, and causes the next pass.
# KEDA's finalizer holds a ScaledObject.
_GONE_BY_EVENT = (AUTOSCALER, DEPLOYMENT, SCALED_OBJECT)

# How many children to read in a pass, if there is no room for them. A server has at most two dozen children, but users
# can create hundreds of objects with its label.
_MOST_READS = 32

# How many attempts apply a child only if it is still in the state from which the step was computed.
_EXACT_ATTEMPTS = 3
# A message names only some of the children that finalizers hold, and says how many more there are.
_MOST_HELD = 32

_INVALID = 422

HasRead = Callable[[str, Iterable[Kind]], bool]
"""Returns whether all objects of some kinds in a namespace are read now."""


def has_read_all(_: str, __: Iterable[Kind]) -> bool:
    """Return True, because everything is read."""
    return True


@dataclass
class Children:
    """Writes the children of resources.

    Attributes:
        cluster: Where children are written.
        cache: Where children are read.
        enqueue: Enqueues the other resources that depend on a written child. The watch event of the write does not do
            this: the child is already cached, so the cache drops the event as a duplicate.
        clock: Returns monotonic seconds.
        has_read: Returns whether all objects of some kinds in a namespace are read now.
    """

    cluster: Cluster
    cache: Cache
    enqueue: Callable[[Iterable[Key]], None]
    clock: Callable[[], float] = time.monotonic
    has_read: HasRead = has_read_all
    _repairs: Repairs = field(init=False)
    # The owners of deleted children whose end only a watch event shows.
    _deleting: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Create the counts of repairs with the same clock."""
        self._repairs = Repairs(self.clock)

    async def apply(self, owner: Resource, wanted: Manifest) -> None:
        """Create or change one child to match the wanted manifest.

        Raises:
            NameTakenError, LeftoverError, GoneError, ApiError: The child could not be written.
        """
        step = await self._created_or_next(owner, wanted)
        if step:
            await self._carry_out(owner, step)

    async def create(self, owner: Resource, wanted: Manifest) -> Manifest:
        """Create a child that never changes, if it does not exist yet; return it.

        Raises:
            NameTakenError, LeftoverError, GoneError, ApiError: The child could not be written.
        """
        step = await self._created_or_next(owner, wanted)
        if isinstance(step, Blocked) or (isinstance(step, Apply) and not self._is_owned(owner, step.live)):
            await self._carry_out(owner, step)
        child = self._cached(owner, wanted)
        if child is None:
            raise BehindError(f"{wanted['kind']} {wanted['metadata']['name']} was deleted but exists again")
        return child

    async def remove_annotation(self, live: Manifest, name: str) -> None:
        """Remove an annotation of a child, also if other field managers own it.

        Raises:
            ApiError: The child could not be written.
        """
        kind = kind_of(live)
        self._note(self.cache.reader.read(kind, await self.cluster.remove_annotation(kind, live, name)))
        _log(f"Removed {name} from", live)

    async def scale(self, live: Manifest, replicas: int) -> None:
        """Set only the replicas of a child, even if others have changed other fields.

        Raises:
            ApiError: The child could not be written.
        """
        kind = kind_of(live)
        scaled = await self.cluster.scale(kind, live, replicas)
        self._note(self.cache.reader.read(kind, await self.cluster.unify(kind, scaled)))
        _log("Scaled", live)

    async def prune(self, owner: Resource, key: Key, kinds: Iterable[Kind], wanted: Iterable[Manifest]) -> None:
        """Delete the resource's own children of these kinds that are no longer wanted.

        A child stays while its kind cannot be read.

        Raises:
            ApiError: A child could not be deleted. The other children are still deleted.
        """
        uid, kept = owner.metadata.uid, {_key(owner, manifest) for manifest in wanted}
        readable = (kind for kind in kinds if self.has_read(key.namespace, (kind,)))
        unwanted = iter([child for kind in readable for child in self.cache.unwanted_children(kind, key, uid, kept)])
        errors: list[BaseException | None] = []
        while some := list(islice(unwanted, _DELETIONS_AT_ONCE)):
            # These children can be many, so each is decoded only when it is its turn.
            errors += await run_concurrently(self._delete(owner, child.manifest()) for child in some)
        for error in filter(None, errors):
            raise error

    async def read_whole(self, key: Key, kinds: Iterable[Kind]) -> None:
        """Let the current pass have the whole children that are cached only in part, because there is no room for them.

        Without this, the pass would write these children again, and would not know the pod templates that are kept. The
        number of reads has a bound. Together, they read at most as much as a pass reads of children of one kind.

        Args:
            key: The resource that their label names.
            kinds: The kinds of the children, the most important one first.

        Raises:
            ApiError: A child could not be read.
        """
        size = weight = 0
        known = [cached for kind in kinds for cached in self.cache.cached_children(kind, key)]
        for cached in known:
            if not cached.cut:
                share(cached)  # While the pass waits, there may be no more room for it.
        for cached in self._parts(key, known)[:_MOST_READS]:
            size += cached.cut
            if size > MOST_CHILDREN or weight > MOST_WEIGHT_OF_FEW:
                return
            if live := await self.cluster.get(cached.key.kind, cached.key.namespace, cached.key.name):
                whole = self.cache.reader.read(cached.key.kind, live)
                weight += whole.weight
                self.enqueue(self._take(whole) - {key})

    def _parts(self, key: Key, known: Iterable[CachedObject]) -> list[CachedObject]:
        """Return the children that are cached only in part.

        Users can make many such objects. So the children that the resource owns come first. Of these, the children with
        the name of the resource come first.
        """
        parts = [cached for cached in known if cached.cut and self.has_read(key.namespace, (cached.key.kind,))]
        owner = self.cache.get(key) if parts else None
        uid = owner["metadata"]["uid"] if owner else ""
        return sorted(parts, key=lambda cached: (uid not in cached.owners, cached.key.name != key.name))

    def _note(self, observed: CachedObject) -> None:
        """Cache a written child. Its owner needs no other pass."""
        self.enqueue(self._take(observed) - {observed.owner})

    def _take(self, observed: CachedObject) -> set[Key]:
        """Cache a child. If the cache has no room for it, the current pass still has the whole child."""
        to_enqueue = self.cache.take(observed)
        cached = self.cache.find(observed.key)
        if cached and cached.cut:
            share(observed)
        return to_enqueue

    def forget(self, owner: Key) -> None:
        """Forget what is known about the children of a deleted resource."""
        self._repairs.forget_owner(owner)
        self._deleting.discard(owner)

    def seconds_until_deletion(self, owner: Key) -> float | None:
        """Return the seconds until the next pass, if this pass has deleted children; otherwise None.

        Only a watch event shows the end of some children, and a watch may miss it. If such a child is still cached, the
        next pass deletes it again.
        """
        if owner not in self._deleting:
            return None
        self._deleting.remove(owner)
        return BEHIND_RETRY_SECONDS

    def contested(self, owner: Resource, manifests: Iterable[Manifest]) -> list[str]:
        """Return sentences that name the contested fields of a resource's children, and who changes them."""
        sentences = []
        for manifest in manifests:
            child = _child(owner, manifest)
            if fields := self._repairs.contested(child):
                rivals, key = self._repairs.rivals(child), child.key
                sentences.append(f"{key.kind.kind} {key.name}: {rivals} keeps changing {', '.join(sorted(fields))}")
        return sentences

    def held(self, key: Key, uid: str, kinds: Iterable[Kind]) -> list[Manifest]:
        """Return the heads of the first children of a resource that are being deleted, but that finalizers hold.

        They belong to the resource or, like a volume that outlives its weights, to nobody.

        Args:
            key: The resource.
            uid: Its UID.
            kinds: The kinds of the children. A child of a kind that cannot be read may be gone.
        """
        readable = (kind for kind in kinds if self.has_read(key.namespace, (kind,)))
        cached = (child for kind in readable for child in self.cache.cached_children(kind, key))
        held = (
            (uid not in child.owners, child.key.kind.kind, child.key.name, child.deletion)
            for child in cached
            if child.deletion and child.deletion.finalizers and (uid in child.owners or not child.owners)
        )
        # Users can create many objects without an owner, so the resource's own children come first.
        first = nsmallest(_MOST_HELD, held)
        return [deleted.manifest(kind, name) for _, kind, name, deleted in first]

    def _cached(self, owner: Resource, wanted: Manifest) -> Manifest | None:
        return self.cache.get(_key(owner, wanted))

    def _is_owned(self, owner: Resource, live: Manifest) -> bool:
        return metadata.is_owned_by(live, owner.metadata.uid)

    async def _created_or_next(self, owner: Resource, wanted: Manifest) -> Step | None:
        """Create a child if it is missing. Otherwise return the step for it, None if there is nothing to do."""
        step = await self._next(owner, wanted, self._cached(owner, wanted))
        return await self._create_missing(owner, wanted) if isinstance(step, Create) else step

    async def _next(self, owner: Resource, wanted: Manifest, live: Manifest | None) -> Step | None:
        """Return the step for one child. It never takes the child from another resource of ours."""
        return await blocked_if_held(self.cluster, self.cache.reader.kinds, owner, step_for(owner, wanted, live))

    async def _create_missing(self, owner: Resource, wanted: Manifest) -> Step | None:
        """Create a child that is not cached. Return the next step if an object with its name exists.

        The cache contains only labelled objects, and may be late. So an object with the name can exist. The operator
        reads this object only after the API server has reported it, which saves a request for each new child.
        """
        if "observedGeneration" in owner.status:
            # A resource without a reported status is too new to need this check, and there can be thousands of them.
            await self._check_owner(owner)
        kind = kind_of(wanted)
        try:
            created = await self.cluster.apply_new(kind, wanted)
        except ApiError as error:
            if error.status != CONFLICT:
                raise
            step = await self._current_step(owner, wanted)
            if isinstance(step, Create):
                raise
            return step
        self._note(self.cache.reader.read(kind, created))
        self._note_refused_fields(owner, created, wanted)
        _log("Created", created)
        return None

    async def _check_owner(self, owner: Resource) -> None:
        """Check that a resource still exists before it gets a child. The cache can be late.

        If a resource and its child were deleted, the child must not come back. If an orphan got an owner that no longer
        exists, Kubernetes' garbage collector would delete the orphan with its pods.

        Raises:
            GoneError: The resource does not exist, or is being deleted.
        """
        live = await self.cluster.get(owner.KIND, owner.metadata.namespace, owner.metadata.name)
        if live is None or live["metadata"]["uid"] != owner.metadata.uid or metadata.is_being_deleted(live):
            raise GoneError

    async def _carry_out(self, owner: Resource, step: Step) -> None:
        if isinstance(step, Blocked):
            raise LeftoverError(step.message) if step.is_passing else NameTakenError(step.message)
        if isinstance(step, Apply) and not self._has_to_wait(owner, step):
            await self._apply_to_current(owner, step)

    def _has_to_wait(self, owner: Resource, step: Apply) -> bool:
        child = _child(owner, step.wanted)
        return self._is_repair(child, step) and self._repairs.wait_seconds(child, step.fields) > 0

    def _is_repair(self, child: Child, step: Apply) -> bool:
        """Return whether a step repairs a child.

        After a restart, only the child's annotation with the fingerprint shows this, and a rival can change it.
        """
        return step.is_repair or self._repairs.was_applied(child, _fingerprint(step.wanted))

    async def _apply_to_current(self, owner: Resource, step: Apply) -> None:
        """Apply a child in the state from which the step was computed. If it has changed, compute the step again.

        Some clients write a child so often that its state changes during each attempt. So the last attempt accepts any
        state of the child in which the fields that it changes are the same. Only this attempt adds no owner: the child
        could be an orphan by then, and its former owner could be gone.

        Raises:
            NameTakenError, LeftoverError, GoneError, ApiError: The child could not be written.
        """
        child, current = _child(owner, step.wanted), step
        if self._is_repair(child, step):
            await self._count(child, step)
        for _ in range(_EXACT_ATTEMPTS):
            try:
                return await self._apply(owner, current)
            except ApiError as error:
                if error.status != CONFLICT:
                    raise
                again = await self._current_step(owner, step.wanted)
                if not isinstance(again, Apply):
                    raise
            current = again
        return await self._amend(owner, current)

    async def _current_step(self, owner: Resource, wanted: Manifest) -> Step | None:
        """Read a child, and return the step for it."""
        kind = kind_of(wanted)
        live = await self.cluster.get(kind, wanted["metadata"]["namespace"], wanted["metadata"]["name"])
        if live and self._is_owned(owner, live):
            self._note(self.cache.reader.read(kind, live))
        return await self._next(owner, wanted, live)

    async def _apply(self, owner: Resource, step: Apply) -> None:
        """Apply a child in the state from which the step was computed."""
        kind, wanted, live = kind_of(step.wanted), step.wanted, step.live
        if ownership.has_second_manager(live, metadata.MANAGER):
            live = await self._unified(kind, live)
        try:
            applied = await self._apply_exactly(owner, live, wanted)
        except ApiError as error:
            if not _has_doubled_items(error, wanted):
                raise
            live = await self.cluster.unify(kind, await self.cluster.overwrite(kind, for_state(live, wanted)))
            applied = await self._apply_exactly(owner, live, wanted)
        self._note_applied(owner, applied, wanted)

    async def _apply_exactly(self, owner: Resource, live: Manifest, wanted: Manifest) -> Manifest:
        """Apply a child in exactly this state; return the new state. An orphan gets only an owner that exists."""
        if not self._is_owned(owner, live):
            await self._check_owner(owner)
        return await self.cluster.apply(kind_of(wanted), for_state(live, wanted))

    async def _amend(self, owner: Resource, step: Apply) -> None:
        """Change a child even if other fields of it change at the same time. Do not change its owners.

        Raises:
            BehindError: The child is not owned, or somebody has changed it again.
            ApiError: The child could not be written.
        """
        kind, wanted, live = kind_of(step.wanted), step.wanted, step.live
        behind = BehindError(f"{wanted['kind']} {wanted['metadata']['name']} keeps changing")
        if not self._is_owned(owner, live):
            raise behind
        tried = await self._tried(kind, for_object(live, wanted))
        amended = await self.cluster.unify(kind, await self.cluster.amend(kind, live, tried))
        if not self._is_owned(owner, amended) or any(drift.differences(amended, wanted)):
            raise behind
        self._note_applied(owner, amended, wanted)

    async def _tried(self, kind: Kind, wanted: Manifest) -> Manifest:
        """Return a child as it would be after a write. Nothing is stored."""
        try:
            return await self.cluster.apply(kind, wanted, dry_run=True)
        except ApiError as error:
            if not _has_doubled_items(error, wanted):
                raise
            return await self.cluster.overwrite(kind, wanted, dry_run=True)

    def _note_applied(self, owner: Resource, applied: Manifest, wanted: Manifest) -> None:
        self._note(self.cache.reader.read(kind_of(wanted), applied))
        self._repairs.note_applied(_child(owner, wanted), _fingerprint(wanted))
        self._note_refused_fields(owner, applied, wanted)
        _log("Applied", wanted)

    async def _unified(self, kind: Kind, live: Manifest) -> Manifest:
        """Return the new state of an object after our two field managers have become one.

        Raises:
            BehindError: The object has changed.
        """
        current = await self.cluster.get(kind, live["metadata"]["namespace"], live["metadata"]["name"])
        if current is None or current["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]:
            raise BehindError(f"{live['kind']} {live['metadata']['name']} has changed")
        return await self.cluster.unify(kind, current)

    async def _count(self, child: Child, step: Apply) -> None:
        """Count a repair. If the fields are contested, find out who changes them."""
        self._repairs.record(child, step.fields)
        if not self._repairs.contested(child):
            return
        live = await self.cluster.get(child.key.kind, child.key.namespace, child.key.name) or step.live
        managed_fields = live["metadata"].get("managedFields") or ()
        counted = step.fields[:MOST_FIELDS]
        self._repairs.blame(child, ownership.owners_of(managed_fields, counted, metadata.MANAGER))

    def _note_refused_fields(self, owner: Resource, applied: Manifest, wanted: Manifest) -> None:
        """Note the fields that an admission webhook or policy has changed during the write."""
        if changed := tuple(drift.differences(applied, wanted)):
            child = _child(owner, wanted)
            self._repairs.record(child, changed, is_refused=True)
            self._repairs.blame(child, ["an admission webhook or policy"])

    async def _delete(self, owner: Resource, live: Manifest) -> None:
        kind = kind_of(live)
        # A Deployment stays until its pods have ended. So other children that the pods need can stay until then, too.
        await self.cluster.delete(kind, live, children_first=kind == DEPLOYMENT)
        if kind in _GONE_BY_EVENT:
            self._deleting.add(_child(owner, live).owner)
        else:
            # The watch event may come after the next pass, and that pass would delete the child again.
            self._note(self.cache.reader.read(kind, live, is_deleted=True))
        self._repairs.forget(_child(owner, live))
        _log("Deleted", live)


def _has_doubled_items(error: ApiError, wanted: Manifest) -> bool:
    """Return whether an apply may have failed because of list items that others have written.

    An apply keeps these items. So a changed port becomes two ports with the same name, which is invalid.
    """
    return (error.status, error.meaning) == (_INVALID, Meaning.WRONG_SPEC) and "spec" in wanted


def _log(verb: str, manifest: Manifest) -> None:
    """Log a write. Users do not need to know about revisions, so they are logged at debug level."""
    level = logging.DEBUG if manifest["kind"] == REVISION.kind else logging.INFO
    logger.log(
        level, "%s %s %s/%s", verb, manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    )


def _child(owner: Resource, manifest: Manifest) -> Child:
    return Child(Key(owner.metadata.namespace, owner.metadata.name, owner.KIND), _key(owner, manifest))


def _key(owner: Resource, manifest: Manifest) -> Key:
    """Return the key of a child of a resource."""
    return Key(owner.metadata.namespace, manifest["metadata"]["name"], kind_of(manifest))


def _fingerprint(wanted: Manifest) -> str:
    return metadata.annotations(wanted)[metadata.FINGERPRINT_ANNOTATION]
