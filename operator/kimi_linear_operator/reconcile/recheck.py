"""Checks refused resources again, without the fields that nobody asked for.

With every write of an object, the API server stores the defaults of the current definition, which then have no owner. A
default from another version's definition may have a type that this version cannot read, or break one of this version's
rules. The default stays in the object when that definition is rolled back. Such a default must not keep the resource
from being reconciled.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes import ownership, stored
from kimi_linear_operator.kubernetes.bounds import excess
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.live import read_unchanged

R = TypeVar("R", bound=Resource)

# A definition has some thirty defaults. More fields have no owner only if somebody edited the managed fields.
_MOST_FIELDS = 100
# Refused resources to remember; more than any cluster should have. A forgotten one is read once more.
_MOST_ANSWERS = 4096

Fields = tuple[FieldPath, ...]
"""Paths of fields in a spec."""


@dataclass(frozen=True)
class _Question:
    """A refused spec.

    Attributes:
        uid: The UID of the resource.
        generation: The generation of the spec.
        errors: A hash of the errors. The same spec can have other errors under another definition.
    """

    uid: str
    generation: int
    errors: int


class Rechecker(Generic[R]):
    """Checks refused resources of one kind again, without the fields that nobody asked for."""

    def __init__(self, cluster: Cluster, check: Callable[[Manifest], Checked[R]], kept: Collection[str] = ()) -> None:
        """Take what a check needs.

        Args:
            cluster: Where field managers are read.
            check: The check of a stored resource.
            kept: Fields of the spec that count as wishes even without an owner. An autoscaler's write to the /scale
                subresource leaves no owner.
        """
        self._cluster = cluster
        self._check = check
        self._kept = frozenset(kept)
        # The blocking fields of each resource, the oldest entry first. One read for each spec is enough.
        self._answers: OrderedDict[Key, tuple[_Question, Fields]] = OrderedDict()

    async def recheck(self, key: Key, manifest: Manifest, checked: Checked[R]) -> Checked[R]:
        """Check a resource again without the blocking fields that nobody owns.

        Args:
            key: The key of the resource.
            manifest: The resource.
            checked: The result for the resource as it is stored.

        Returns:
            The new result if it is valid, else `checked`.

        Raises:
            BehindError: The spec has changed since it was cached.
            GoneError: The resource was deleted.
            ApiError: The resource could not be read.
        """
        if checked.is_valid or excess(manifest) or not isinstance(manifest.get("spec"), dict):
            return checked
        fields = await self._blocking_fields(key, manifest, checked)
        rechecked = self._check(_without(manifest, fields)) if fields else checked
        return rechecked if rechecked.is_valid else checked

    def forget(self, key: Key) -> None:
        """Forget a deleted resource."""
        self._answers.pop(key, None)

    async def _blocking_fields(self, key: Key, manifest: Manifest, checked: Checked[R]) -> Fields:
        """Return the fewest unowned fields to drop so that a spec is valid; none if dropping all is not enough."""
        metadata = manifest["metadata"]
        question = _Question(metadata["uid"], metadata["generation"], hash(checked.message))
        answered, fields = self._answers.get(key, (None, ()))
        if answered == question:
            return fields
        unowned = await self._unowned_fields(key, manifest)
        is_valid = bool(unowned) and self._check(_without(manifest, unowned)).is_valid
        fields = self._minimal_fields(manifest, (), unowned) if is_valid else ()
        self._answers.pop(key, None)
        self._answers[key] = question, fields
        if len(self._answers) > _MOST_ANSWERS:
            self._answers.popitem(last=False)
        return fields

    async def _unowned_fields(self, key: Key, manifest: Manifest) -> Fields:
        """Return the fields of a spec without an owner; none without managed fields, or if there are too many."""
        metadata = manifest["metadata"]
        live = await read_unchanged(self._cluster, key, metadata["uid"], metadata["generation"])
        managed_fields = live["metadata"].get("managedFields", ())
        owned = ownership.owned_fields(managed_fields).get("f:spec", {})
        candidates = (path for path in ownership.unowned(manifest["spec"], owned) if path[0] not in self._kept)
        fields = tuple(islice(candidates, _MOST_FIELDS + 1)) if managed_fields else ()
        return fields if len(fields) <= _MOST_FIELDS else ()

    def _minimal_fields(self, manifest: Manifest, dropped: Fields, fields: Fields) -> Fields:
        """Return the fewest of these fields to drop, in addition to the dropped ones, so that a spec is valid.

        Dropping all of them must make the spec valid. Fields that need not be dropped count as in any valid spec. Each
        check takes a millisecond or more, so this halves the fields instead of trying each.
        """
        if not fields or self._check(_without(manifest, dropped)).is_valid:
            return ()
        if len(fields) == 1:
            return fields
        half, rest = fields[: len(fields) // 2], fields[len(fields) // 2 :]
        needed = self._minimal_fields(manifest, (*dropped, *half), rest)
        return (*needed, *self._minimal_fields(manifest, (*dropped, *needed), half))


def _without(manifest: Manifest, fields: Fields) -> Manifest:
    """Return a resource without these fields of its spec."""
    spec = manifest["spec"]
    for path in fields:
        spec = stored.without(spec, path) if stored.holds(spec, path) else spec
    return {**manifest, "spec": spec}
