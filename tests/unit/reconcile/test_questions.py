"""The answers about fields of a spec: when the API server is asked again."""

import asyncio
from typing import Any, cast

import pytest

from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.unrequested import Answer, UncertainFields
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.questions import Questions
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from make import make_server
from refusing import DefaultingCluster

KEY = Key("default", "kimi", SERVER)
PATH = ("engine", "memoryFractionStatic")


class _Asked:
    """Questions about one server."""

    def __init__(self) -> None:
        self.cluster = DefaultingCluster({})
        self.questions = Questions(cast(Cluster, self.cluster))
        self.seen: list[Any] = []

    def ask(self, fraction: float, generation: int = 2, *paths: tuple[str, ...]) -> int:
        """Ask about a server with this value; return how often the API server was asked until now."""
        manifest = make_server(engine={"memoryFractionStatic": fraction})
        manifest["metadata"]["generation"] = generation
        self.cluster.live["KimiLinearServer/kimi"] = manifest

        def judge(_: Manifest, seen: Any) -> dict[Any, Answer]:
            self.seen.append(seen)
            return {PATH: Answer(fraction, is_doubtful=True)}

        uncertain = UncertainFields((PATH, *paths))
        server = KimiLinearServer.model_validate(manifest)
        asyncio.run(self.questions.answer(KEY, server, uncertain, judge))
        return len(self.cluster.reads)


@pytest.mark.parametrize(
    ("again", "reads"),
    [((0.85,), 1), ((0.85, 3), 2), ((0.9,), 2), ((0.85, 2, ("hardware",)), 2)],
    ids=["the same", "another generation", "other values after a restore of etcd", "another field"],
)
def test_the_api_server_is_asked_once_for_each_spec(again: tuple[Any, ...], reads: int) -> None:
    asked = _Asked()
    assert asked.ask(0.85) == 1
    assert asked.ask(*again) == reads
    assert asked.ask(*again) == reads


def test_a_later_question_knows_the_earlier_answers() -> None:
    asked = _Asked()
    asked.ask(0.85)
    asked.ask(0.85, 3)
    assert asked.seen == [{}, {PATH: 0.85}]
