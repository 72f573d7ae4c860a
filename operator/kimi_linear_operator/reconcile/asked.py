"""What somebody asked for, where this version refuses what is stored.

The API server stores the defaults of its definition with any write of an object, and makes nobody their owner. One of
another version's definition may be of a shape that this version cannot read, or break one of its rules, and stays when
the definition is taken back. It must not keep an object from being looked after.
"""

from collections import OrderedDict
from collections.abc import Callable
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
from kimi_linear_operator.reconcile.children import BehindError, GoneError

R = TypeVar("R", bound=Resource)

_CONFLICT = 409
# A definition has some thirty defaults. Whoever takes owners out of managed fields may leave thousands without one.
_MOST_FIELDS = 100
# Refused objects that are remembered; more than any cluster should have. A forgotten one is read once more.
_MOST_ANSWERS = 4096

Fields = tuple[FieldPath, ...]
"""Fields of a spec."""


@dataclass(frozen=True)
class _Question:
    """A spec that is refused.

    Attributes:
        uid: The UID of the object.
        generation: The generation of the spec.
        errors: A number that is another one for other errors: the same spec is read otherwise under other definitions.
    """

    uid: str
    generation: int
    errors: int


class Asked(Generic[R]):
    """Looks at refused resources of one kind without what nobody asked for."""

    def __init__(self, cluster: Cluster, check: Callable[[Manifest], Checked[R]]) -> None:
        """Take the cluster, which knows who set what, and what checks a resource as it is stored."""
        self._cluster = cluster
        self._check = check
        # What is in the way and nobody's, the oldest first: to read once for each spec is enough.
        self._answers: OrderedDict[Key, tuple[_Question, Fields]] = OrderedDict()

    async def recheck(self, key: Key, manifest: Manifest, checked: Checked[R]) -> Checked[R]:
        """Return what a check finds without the fields that are in the way and nobody asked for.

        Where somebody asked for what is wrong, it is what was found at first.

        Args:
            key: Which resource, with its own kind.
            manifest: The resource.
            checked: What a check has found of it as it is stored.

        Raises:
            BehindError: The spec was changed since it was seen.
            GoneError: The resource was deleted.
            ApiError: It could not be read.
        """
        if checked.is_valid or excess(manifest) or not isinstance(manifest.get("spec"), dict):
            return checked
        fields = await self._in_the_way(key, manifest, checked)
        again = self._check(_without(manifest, fields)) if fields else checked
        return again if again.is_valid else checked

    def forget(self, key: Key) -> None:
        """Forget a resource that is gone."""
        self._answers.pop(key, None)

    async def _in_the_way(self, key: Key, manifest: Manifest, checked: Checked[R]) -> Fields:
        """Return the fields without which a spec is valid, and that are nobody's; none if there are no such fields."""
        metadata = manifest["metadata"]
        question = _Question(metadata["uid"], metadata["generation"], hash(checked.message))
        known, fields = self._answers.get(key, (None, ()))
        if known == question:
            return fields
        nobodys = await self._nobodys(key, manifest)
        is_valid = bool(nobodys) and self._check(_without(manifest, nobodys)).is_valid
        fields = self._fewest(manifest, (), nobodys) if is_valid else ()
        self._answers.pop(key, None)
        self._answers[key] = question, fields
        if len(self._answers) > _MOST_ANSWERS:
            self._answers.popitem(last=False)
        return fields

    async def _nobodys(self, key: Key, manifest: Manifest) -> Fields:
        """Return the fields of a spec that nobody owns; none if it is not recorded who owns what."""
        seen = manifest["metadata"]
        found = await self._cluster.get(key.kind, key.namespace, key.name)
        if found is None or found["metadata"]["uid"] != seen["uid"]:
            raise GoneError
        if found["metadata"]["generation"] != seen["generation"]:
            raise BehindError(_CONFLICT, "the latest change of the spec was not seen yet")
        managed_fields = found["metadata"].get("managedFields", ())
        owned = ownership.owned_fields(managed_fields).get("f:spec", {})
        fields = tuple(islice(ownership.unowned(manifest["spec"], owned), _MOST_FIELDS + 1)) if managed_fields else ()
        return fields if len(fields) <= _MOST_FIELDS else ()

    def _fewest(self, manifest: Manifest, dropped: Fields, fields: Fields) -> Fields:
        """Return as few of some fields as have to be dropped beside others, so that a spec is valid as without all.

        All else counts as in a spec that is valid. Each check takes a millisecond or more, so they are halved.
        """
        if not fields or self._check(_without(manifest, dropped)).is_valid:
            return ()
        if len(fields) == 1:
            return fields
        one, other = fields[: len(fields) // 2], fields[len(fields) // 2 :]
        needed = self._fewest(manifest, (*dropped, *one), other)
        return (*needed, *self._fewest(manifest, (*dropped, *needed), one))


def _without(manifest: Manifest, fields: Fields) -> Manifest:
    spec = manifest["spec"]
    for path in fields:
        spec = stored.without(spec, path) if stored.holds(spec, path) else spec
    return {**manifest, "spec": spec}
