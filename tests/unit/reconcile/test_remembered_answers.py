"""What the operator remembers about the owners of fields takes a bounded part of its memory."""

import asyncio
import gc
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.kubernetes.unrequested import Answer, Answers, UncertainFields
from kimi_linear_operator.reconcile import questions
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.questions import Questions
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from make import make_server


class Cluster:
    """A cluster that answers each read with the resource itself, and counts the reads."""

    reads = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        self.reads += 1
        return a_server(namespace, name)


def a_server(namespace: str, name: str) -> Manifest:
    server = make_server(name)
    return {**server, "metadata": {**server["metadata"], "namespace": namespace, "generation": 1}}


CLUSTER = Cluster()
SMALL: Answers = {("engine", "image"): Answer(None, is_doubtful=False), ("list", 0, "a"): Answer({"b": [1, 1.5]}, True)}


def ask(asked: Questions, namespace: str, name: str, answers: Answers = SMALL) -> Answers:
    def judge(_: Manifest, __: Mapping[FieldPath, Any]) -> Answers:
        return answers

    server = KimiLinearServer.model_validate(a_server(namespace, name))
    uncertain = UncertainFields(tuple(answers))
    return asyncio.run(asked.answer(Key(namespace, name, SERVER), server, uncertain, judge))


def large() -> Answers:
    """Return answers whose values take little as JSON, and twenty times as much as Python's objects."""
    return {("podTemplate", "spec", "newer"): Answer([[] for _ in range(4000)], is_doubtful=True)}


def test_answers_are_remembered_as_they_were() -> None:
    asked, reads = Questions(CLUSTER), CLUSTER.reads  # type: ignore[arg-type]
    assert ask(asked, "default", "kimi") == ask(asked, "default", "kimi") == SMALL
    assert CLUSTER.reads == reads + 1


def test_the_remembered_answers_take_a_bounded_part_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "_MOST_BYTES", 2**18)
    asked = Questions(CLUSTER)  # type: ignore[arg-type]
    ask(asked, "default", "warm-up")
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(60):
            ask(asked, "evil", f"s{number}", large())
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 1.5 * questions._MOST_BYTES
    finally:
        tracemalloc.stop()


def test_large_answers_of_one_namespace_do_not_displace_those_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "_MOST_BYTES", 2**18)
    asked = Questions(CLUSTER)  # type: ignore[arg-type]
    ask(asked, "default", "kimi")
    for number in range(60):
        ask(asked, "evil", f"s{number}", large())
    reads = CLUSTER.reads
    ask(asked, "default", "kimi")
    assert CLUSTER.reads == reads
