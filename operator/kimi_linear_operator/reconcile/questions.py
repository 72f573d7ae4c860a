"""Asks the API server who set fields of a spec, and remembers the answers.

Only managed fields show this, and the cache does not contain managed fields.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes import stored
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.kubernetes.unrequested import Answers, UncertainFields
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.live import read_unchanged

# The answers about at most this many resources are remembered. A cluster should have fewer. A forgotten resource is
# read again.
_MOST_ANSWERS = 16_384

Judge = Callable[[Manifest, Mapping[FieldPath, Any]], Answers]
"""Returns the fields that nobody asked for. It gets the stored resource, and the fields of earlier answers."""


@dataclass(frozen=True)
class _Question:
    """Fields of a spec that perhaps nobody asked for.

    Attributes:
        uid: The UID of the resource.
        generation: The generation of the spec.
        values: The fields with their values, as JSON. After a restore of etcd, the same generation can have others.
    """

    uid: str
    generation: int
    values: bytes


class Questions:
    """The questions about the resources of one kind, and their answers."""

    def __init__(self, cluster: Cluster) -> None:
        """Take the cluster in which resources are read."""
        self._cluster = cluster
        # The resource that was first asked about comes first.
        self._answers: OrderedDict[Key, dict[_Question, Answers]] = OrderedDict()

    def forget(self, key: Key) -> None:
        """Forget a deleted resource."""
        self._answers.pop(key, None)

    async def answer(self, key: Key, resource: Resource, uncertain: UncertainFields, judge: Judge) -> Answers:
        """Return those of the uncertain fields that nobody asked for. Read the resource once for each spec.

        Args:
            key: The key of the resource.
            resource: The resource.
            uncertain: The uncertain fields.
            judge: Finds the answers.

        Raises:
            BehindError: The cached spec is not the newest one.
            GoneError: The resource was deleted.
            ApiError: The resource could not be read.
        """
        if not uncertain.paths:
            self.forget(key)
            return {}
        question = _question(resource, uncertain.paths)
        earlier = {item: found for item, found in self._answers.get(key, {}).items() if item.uid == question.uid}
        answers = {item: found for item, found in earlier.items() if item.generation == question.generation}
        if question not in answers:
            live = await read_unchanged(self._cluster, key, question.uid, question.generation)
            seen = {path: answer.value for found in earlier.values() for path, answer in found.items()}
            answers[question] = judge(live, seen)
            self._answers[key] = answers
            if len(self._answers) > _MOST_ANSWERS:
                self._answers.popitem(last=False)
        return answers[question]


def _question(resource: Resource, paths: tuple[FieldPath, ...]) -> _Question:
    spec = resource.manifest()["spec"]
    values = [[path, stored.value_at(spec, path)] for path in paths]
    return _Question(resource.metadata.uid, resource.metadata.generation, jsontext.encode(values))
