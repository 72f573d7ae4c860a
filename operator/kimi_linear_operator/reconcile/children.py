"""Writing the objects of a resource: only what differs, and nothing that belongs to others."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from kimi_linear_operator import cputime
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError, Meaning
from kimi_linear_operator.kubernetes import drift, metadata, ownership
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import REVISION, Kind, Manifest, kind_of
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.plan import Apply, Blocked, Create, Step, step_for, unwanted
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.repairs import Repairs

logger = logging.getLogger(__name__)

# How often to look whether something that no watch shows has gone out of the way.
BLOCKED_RETRY_SECONDS = 15.0
# How often to look whether a field is still contested.
CONTESTED_RETRY_SECONDS = 30.0

_CONFLICT = 409
_INVALID = 422


class NameTakenError(Exception):
    """An object of a child's name exists and belongs to someone else."""


class GoneError(Exception):
    """The resource was deleted, and no watch has told so yet."""


class LeftoverError(Exception):
    """An object of a child's name belonged to a deleted resource of the same name, and will be gone soon."""


class BehindError(ApiError):
    """What the store shows is older than what the cluster has."""


def lasting_reason(error: NameTakenError | LeftoverError | ApiError) -> Reason:
    """Return what an error of a write means for the resource.

    Raises:
        ApiError: It will pass by itself; nobody need be told.
    """
    if isinstance(error, NameTakenError):
        return Reason("NameConflict", str(error), blames_spec=True)
    if isinstance(error, LeftoverError):
        return Reason("Replacing", str(error))
    if error.is_passing:
        raise error
    return Reason("ApplyFailed", error.message, blames_spec=error.is_about_content)


@dataclass(frozen=True)
class Failures:
    """What kept children from being right.

    Attributes:
        obstacle: The worst of what does not pass by itself.
        passing: An error that may pass by itself.
    """

    lasting: Reason | None = None
    passing: ApiError | None = None


@dataclass
class Children:
    """The objects of resources.

    Attributes:
        cluster: Where objects are written.
        store: Where objects are read.
        clock: Monotonic seconds.
    """

    cluster: Cluster
    cache: Cache
    clock: Callable[[], float] = time.monotonic
    _repairs: Repairs = field(init=False)

    def __post_init__(self) -> None:
        """Count repairs by the same clock."""
        self._repairs = Repairs(self.clock)

    async def apply(self, owner: Resource, wanted: Manifest) -> None:
        """Bring one child to what is wanted.

        Raises:
            NameTakenError, LeftoverError, GoneError, ApiError: It was not possible.
        """
        step = step_for(owner, wanted, self._known(owner, wanted))
        if isinstance(step, Create):
            step = await self._make(owner, wanted)
        if step:
            await self._change(step)

    async def create(self, owner: Resource, wanted: Manifest) -> Manifest:
        """Make a child that never changes, unless it is there; return it.

        Raises:
            NameTakenError, LeftoverError, GoneError, ApiError: It was not possible.
        """
        step = step_for(owner, wanted, self._known(owner, wanted))
        if isinstance(step, Create):
            step = await self._make(owner, wanted)
        if isinstance(step, Blocked) or (isinstance(step, Apply) and not self._is_owned(owner, step.live)):
            await self._change(step)
        found = self._known(owner, wanted)
        if found is None:
            raise BehindError(
                _CONFLICT, f"{wanted['kind']} {wanted['metadata']['name']} was deleted and is there again"
            )
        return found

    async def scale(self, live: Manifest, replicas: int) -> None:
        """Set how many replicas a child has, whatever else somebody has changed in it.

        Raises:
            ApiError: It was not possible.
        """
        kind = kind_of(live)
        scaled = await self.cluster.scale(kind, live, replicas)
        self.cache.put(kind, await self.cluster.unify(kind, scaled))
        _log("Scaled", live)

    async def prune(self, owner: Resource, key: Key, kinds: Iterable[Kind], wanted: Iterable[Manifest]) -> None:
        """Delete the children of these kinds that are the resource's own and no longer wanted.

        Raises:
            ApiError: One could not be deleted; the others were.
        """
        live = [manifest for kind in kinds for manifest in self.cache.children(kind, key, owner.metadata.uid)]
        steps = list(unwanted(owner, list(wanted), live))
        for outcome in await _together(self._delete(step.live) for step in steps):
            if outcome:
                raise outcome

    def contested(self, manifests: Iterable[Manifest]) -> list[str]:
        """Return what others keep changing in children, and who, as sentences."""
        told = []
        for manifest in manifests:
            child = _address(manifest)
            if fields := self._repairs.contested(child):
                who = self._repairs.rivals(child)
                told.append(f"{child.kind.kind} {child.name}: {who} keeps changing {', '.join(sorted(fields))}")
        return told

    def _known(self, owner: Resource, wanted: Manifest) -> Manifest | None:
        return self.cache.get(Key(owner.metadata.namespace, wanted["metadata"]["name"], kind_of(wanted)))

    def _is_owned(self, owner: Resource, live: Manifest) -> bool:
        return metadata.is_owned_by(live, owner.metadata.uid)

    async def _make(self, owner: Resource, wanted: Manifest) -> Step | None:
        """Create a child; return what has to be done instead if there is an object of its name.

        The watch shows labelled objects only, and it may be late. So the object is read when the API server refuses to
        create another one, which costs nothing where there is none.
        """
        if not await self._is_there(owner):
            raise GoneError
        kind = kind_of(wanted)
        try:
            made = await self.cluster.apply_new(kind, wanted)
        except ApiError as error:
            if error.status != _CONFLICT:
                raise
            found = await self.cluster.get(kind, wanted["metadata"]["namespace"], wanted["metadata"]["name"])
            if found is None:
                raise
            if self._is_owned(owner, found):
                self.cache.put(kind, found)
            return step_for(owner, wanted, found)
        self.cache.put(kind, made)
        self._note(kind, made, wanted)
        _log("Created", made)
        return None

    async def _is_there(self, owner: Resource) -> bool:
        """Return whether a resource whose child is missing still exists: both may have gone, and must not come back.

        One that was never reported on is too new to have gone unnoticed, and thousands of these are not read once more.
        """
        if "observedGeneration" not in owner.status:
            return True
        found = await self.cluster.get(owner.KIND, owner.metadata.namespace, owner.metadata.name)
        return found is not None and bool(found["metadata"]["uid"] == owner.metadata.uid)

    async def _change(self, step: Step) -> None:
        if isinstance(step, Blocked):
            raise LeftoverError(step.message) if step.is_passing else NameTakenError(step.message)
        if isinstance(step, Apply) and not self._has_to_wait(step):
            await self._apply(step)

    def _has_to_wait(self, step: Apply) -> bool:
        return step.is_repair and self._repairs.wait_seconds(_address(step.wanted), step.fields) > 0

    async def _apply(self, step: Apply) -> None:
        kind, wanted = kind_of(step.wanted), step.wanted
        if step.is_repair:
            await self._count(step)
        if ownership.has_second_manager(step.live, metadata.MANAGER):
            await self._unify(kind, wanted)
        try:
            applied = await self.cluster.apply(kind, wanted)
        except ApiError as error:
            if (error.status, error.meaning) != (_INVALID, Meaning.WRONG_SPEC) or "spec" not in wanted:
                raise
            # Apply keeps items of others in lists: a changed port becomes two ports of one name, which is invalid.
            await self.cluster.unify(kind, await self.cluster.overwrite(kind, wanted))
            applied = await self.cluster.apply(kind, wanted)
        self.cache.put(kind, applied)
        self._note(kind, applied, wanted)
        _log("Applied", wanted)

    async def _unify(self, kind: Kind, wanted: Manifest) -> None:
        if live := await self.cluster.get(kind, wanted["metadata"]["namespace"], wanted["metadata"]["name"]):
            await self.cluster.unify(kind, live)

    async def _count(self, step: Apply) -> None:
        """Count a repair, and find out who makes it necessary when it was necessary too often."""
        child = _address(step.wanted)
        self._repairs.record(child, step.fields)
        if not self._repairs.contested(child):
            return
        live = await self.cluster.get(child.kind, child.namespace, child.name) or step.live
        managed_fields = live["metadata"].get("managedFields", ())
        self._repairs.blame(child, ownership.owners_of(managed_fields, step.fields, metadata.MANAGER))

    def _note(self, kind: Kind, applied: Manifest, wanted: Manifest) -> None:
        """Note which fields are not as they were written: an admission webhook or policy has changed them."""
        if changed := tuple(drift.differences(applied, wanted)):
            child = _address(wanted)
            self._repairs.record(child, changed, is_refused=True)
            self._repairs.blame(child, ["an admission webhook or policy"])

    async def _delete(self, live: Manifest) -> None:
        kind = kind_of(live)
        await self.cluster.delete(kind, live)
        self._repairs.forget(_address(live))
        _log("Deleted", live)


async def settle(works: Iterable[Coroutine[Any, Any, None]]) -> Failures:
    """Bring children to what is wanted, all at the same time; one that fails keeps no other from being right.

    Raises:
        GoneError: The resource was deleted.
    """
    lasting, passing = [], None
    for outcome in await _together(works):
        if isinstance(outcome, ApiError) and outcome.is_passing:
            passing = outcome
        elif isinstance(outcome, NameTakenError | LeftoverError | ApiError):
            lasting.append(lasting_reason(outcome))
        elif isinstance(outcome, BaseException):
            raise outcome
    return Failures(min(lasting, key=lambda lasting: not lasting.blames_spec, default=None), passing)


async def _together(works: Iterable[Coroutine[Any, Any, None]]) -> list[BaseException | None]:
    """Do everything at the same time; return what went wrong with each. Their processor time is that of who waits."""
    tasks = [cputime.Measured(work) for work in works]
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    cputime.count(sum(task.seconds for task in tasks))
    return outcomes


def _log(done: str, manifest: Manifest) -> None:
    """Log a write. Records of pod templates are the operator's own books."""
    level = logging.DEBUG if manifest["kind"] == REVISION.kind else logging.INFO
    logger.log(
        level, "%s %s %s/%s", done, manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    )


def _address(manifest: Manifest) -> Key:
    meta = manifest["metadata"]
    return Key(meta["namespace"], meta["name"], kind_of(manifest))
