"""Checks refused resources again, without the fields for which nobody asked.

With every write of an object, the API server stores the defaults of the current CRD. Fields with such defaults have no
owner. A default from the CRD of another version can have a type that this version cannot read, or can break a rule of
this version. The default stays in the object when the CRD is rolled back. The operator must still be able to reconcile
such a resource.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from itertools import islice
from typing import Generic, TypeVar

from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes import ownership, stored
from kimi_linear_operator.kubernetes.bounds import MOST_VALUES, count_values, excess
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.packed_paths import packed, unpacked
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.fair_memory import FairMemory
from kimi_linear_operator.reconcile.live import read_unchanged

R = TypeVar("R", bound=Resource)

# A CRD has about thirty defaults. If more fields have no owner, somebody has edited the managed fields.
_MOST_FIELDS = 100
# The search for the smallest set of fields makes a check in each step, and blocks the event loop. A check of the
# largest spec takes about 20 ms of processor time, a check of a usual spec 1 ms.
_MOST_CHECKS = 32
_MOST_VALUES_CHECKED = 2 * MOST_VALUES
# How many refused resources to remember, more than any cluster should have. A forgotten resource is read again.
_MOST_ANSWERS = 4096

Fields = tuple[FieldPath, ...]
"""Paths of fields in a spec."""


@dataclass(frozen=True)
class _Question:
    """A refused spec.

    Attributes:
        uid: The UID of the resource.
        generation: The generation of the spec.
        errors: A hash of the errors. Under another definition, the same spec can have other errors.
    """

    uid: str
    generation: int
    errors: int


class Rechecker(Generic[R]):
    """Checks refused resources of one kind again, without the fields for which nobody asked."""

    def __init__(self, cluster: Cluster, check: Callable[[Manifest], Checked[R]], kept: Collection[str] = ()) -> None:
        """Take what a check needs.

        Args:
            cluster: Where field managers are read.
            check: The check of a stored resource.
            kept: Fields of the spec that count as requested even without an owner. A write of an autoscaler to the
                /scale subresource leaves no owner.
        """
        self._cluster = cluster
        self._check = check
        self._kept = frozenset(kept)
        # The blocking fields of each resource, packed. One read for each spec is enough.
        self._answers: FairMemory[Key, tuple[_Question, bytes]] = FairMemory(_MOST_ANSWERS)

    async def recheck(self, key: Key, manifest: Manifest, checked: Checked[R]) -> Checked[R]:
        """Check a resource again without the blocking fields that have no owner.

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
        if not rechecked.is_valid:
            return checked
        return replace(rechecked, left_out={path: stored.value_at(manifest["spec"], path) for path in fields})

    def forget(self, key: Key) -> None:
        """Forget a deleted resource."""
        self._answers.forget(key.namespace, key)

    async def _blocking_fields(self, key: Key, manifest: Manifest, checked: Checked[R]) -> Fields:
        """Return the fields without an owner that must be dropped to make a spec valid.

        Empty if the spec is invalid even without all of them.

        This is the smallest set of such fields, or all of them if the search needs too many checks.
        """
        metadata = manifest["metadata"]
        question = _Question(metadata["uid"], metadata["generation"], hash(checked.message))
        answered, text = self._answers.get(key.namespace, key) or (None, b"[]")
        if answered == question:
            return unpacked(text)
        unowned = await self._unowned_fields(key, manifest)
        is_valid = bool(unowned) and self._check(_without(manifest, unowned)).is_valid
        fields = self._fewest_fields(manifest, unowned) if is_valid else ()
        self._answers.put(key.namespace, key, (question, packed(fields) or b"[]"))
        return fields

    async def _unowned_fields(self, key: Key, manifest: Manifest) -> Fields:
        """Return the fields of a spec without an owner.

        Empty without managed fields, or if there are too many fields, or if they take too much memory.
        """
        metadata = manifest["metadata"]
        live = await read_unchanged(self._cluster, key, metadata["uid"], metadata["generation"])
        managed_fields = live["metadata"].get("managedFields") or ()
        owned = ownership.owned_fields(managed_fields).get("f:spec", {})
        candidates = (path for path in ownership.unowned(manifest["spec"], owned) if path[0] not in self._kept)
        fields = tuple(islice(candidates, _MOST_FIELDS + 1)) if managed_fields else ()
        return fields if len(fields) <= _MOST_FIELDS and packed(fields) else ()

    def _fewest_fields(self, manifest: Manifest, fields: Fields) -> Fields:
        """Return the smallest set of these fields that must be dropped to make a spec valid.

        All of them if the search takes too long.
        """
        most = min(_MOST_CHECKS, _MOST_VALUES_CHECKED // count_values(manifest["spec"]))
        return _Search(self._check, manifest, most).fewest((), fields) or fields


class _Search(Generic[R]):
    """A search for the smallest set of fields that must be dropped to make a spec valid. Its checks are limited."""

    def __init__(self, check: Callable[[Manifest], Checked[R]], manifest: Manifest, checks: int) -> None:
        """Take the check, the resource, and how many checks the search may make."""
        self._check = check
        self._manifest = manifest
        self._checks_left = checks

    def fewest(self, dropped: Fields, fields: Fields) -> Fields | None:
        """Return the smallest set of these fields to drop in addition to the dropped fields.

        None if the search needs too many checks.

        The spec must be valid without all of these fields. Each check takes a millisecond or more. So the search does
        not try each field, but halves the set of fields in each step. Fields that can stay in the spec are not in the
        result.
        """
        if not fields:
            return ()
        if self._checks_left <= 0:
            return None
        self._checks_left -= 1
        if self._check(_without(self._manifest, dropped)).is_valid:
            return ()
        if len(fields) == 1:
            return fields
        half, rest = fields[: len(fields) // 2], fields[len(fields) // 2 :]
        needed = self.fewest((*dropped, *half), rest)
        more = None if needed is None else self.fewest((*dropped, *needed), half)
        return None if needed is None or more is None else (*needed, *more)


def _without(manifest: Manifest, fields: Fields) -> Manifest:
    """Return a resource without these fields of its spec and without objects that become empty."""
    spec = manifest["spec"]
    for path in fields:
        spec = stored.as_in(spec, path, {})
    return {**manifest, "spec": spec}
