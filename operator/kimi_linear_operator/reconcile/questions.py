"""Asks the API server who set fields of a spec, and remembers the answers.

Only managed fields show who set a field, and the cache does not contain managed fields.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes import stored
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.kubernetes.unrequested import Answer, Answers, UncertainFields
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.fair_memory import FairMemory
from kimi_linear_operator.reconcile.live import read_unchanged

# The answers about all resources of a kind take at most this many bytes. A spec can have thousands of fields that
# nobody asked for, so answers are kept as JSON text. There is room for the usual answers about 16,384 resources, more
# than a cluster should have. A forgotten resource is read again.
_MOST_BYTES = 16 * 2**20
# The bytes of one answer besides its text: keys, digests, and Python's objects around them.
_BYTES_BESIDES_TEXT = 1024

Judge = Callable[[Manifest, Mapping[FieldPath, Any]], Answers]
"""Returns the fields that nobody asked for. It gets the stored resource, and the fields of earlier answers."""


@dataclass(frozen=True)
class _Question:
    """Fields of a spec that perhaps nobody asked for.

    Attributes:
        uid: The UID of the resource.
        generation: The generation of the spec.
        digest: A digest of the fields and their values. After a restore of etcd, the same generation can have other
            values.
    """

    uid: str
    generation: int
    digest: bytes


_Texts = Mapping[_Question, bytes]
"""Questions about a resource, each with its answers as JSON text."""


def _size(texts: _Texts) -> int:
    return sum(len(text) + _BYTES_BESIDES_TEXT for text in texts.values())


class Questions:
    """The questions about the resources of one kind, and their answers."""

    def __init__(self, cluster: Cluster) -> None:
        """Take the cluster in which resources are read."""
        self._cluster = cluster
        # The texts of each resource.
        self._memory: FairMemory[Key, _Texts] = FairMemory(_MOST_BYTES, _size)

    def forget(self, key: Key) -> None:
        """Forget a deleted resource."""
        self._memory.forget(key.namespace, key)

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
        known = self._memory.get(key.namespace, key) or {}
        earlier = {item: text for item, text in known.items() if item.uid == question.uid}
        if question in earlier:
            return _decoded(earlier[question])
        live = await read_unchanged(self._cluster, key, question.uid, question.generation)
        seen = {path: answer.value for text in earlier.values() for path, answer in _decoded(text).items()}
        answers = judge(live, seen)
        same_spec = {item: text for item, text in earlier.items() if item.generation == question.generation}
        self._memory.put(key.namespace, key, {**same_spec, question: _encoded(answers)})
        return answers


def _encoded(answers: Answers) -> bytes:
    return jsontext.encode([[path, answer.value, answer.is_doubtful] for path, answer in answers.items()])


def _decoded(text: bytes) -> Answers:
    entries = jsontext.decode(text)
    return {tuple(path): Answer(value, is_doubtful) for path, value, is_doubtful in entries}


def _question(resource: Resource, paths: tuple[FieldPath, ...]) -> _Question:
    spec = resource.manifest()["spec"]
    values = [[path, stored.value_at(spec, path)] for path in paths]
    digest = hashlib.sha256(jsontext.encode(values)).digest()
    return _Question(resource.metadata.uid, resource.metadata.generation, digest)
