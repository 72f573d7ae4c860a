"""A user can create thousands of fake records of a server's pod templates. A pass reads only a few of them."""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import pytest

from kimi_linear_operator.kubernetes.kinds import REVISION, Manifest
from kimi_linear_operator.kubernetes.metadata import ADOPT_ANNOTATION
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server import revision
from kimi_linear_operator.server import templates as module
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.template_choice import TemplateChoice
from kimi_linear_operator.server.templates import Templates
from make import MANAGED_LABELS, make_deployment, make_server, stored
from passes import SERVER_CHECK, check_stored, make_context, new_cache

KEY = Key("default", "kimi", SERVER)
TEMPLATE = {"metadata": {}, "spec": {"automountServiceAccountToken": False, "containers": []}}


def record(number: int, template: Manifest = TEMPLATE) -> Manifest:
    """Return a fake record of a server."""
    metadata = {
        "name": f"x{number:05}",
        "labels": {**MANAGED_LABELS, "kimi-linear.io/server": "kimi"},
        "annotations": {ADOPT_ANNOTATION: "true"},
    }
    data = {"inputs": {}, "template": template, "rollout": "", "uid": "", "generation": 0}
    of = {"apiVersion": "apps/v1", "kind": "ControllerRevision"}
    return stored({**of, "metadata": metadata, "data": data, "revision": number})


@dataclass
class Reading:
    """A cluster whose Deployment is the same as in the cache."""

    live: Manifest | None

    async def get(self, *_: object) -> Manifest | None:
        return self.live


def passing(records: list[Manifest], live: Manifest | None = None) -> tuple[Templates, KimiLinearServer]:
    cache = new_cache()
    cluster = cast(Any, Reading(live))
    for item in [make_server(), *records]:
        cache.put(SERVER if item["kind"] == SERVER.kind else REVISION, item)
    server = check_stored(make_server()).resource
    assert server
    now = "2026-11-24T09:00:00Z"
    return Templates(make_context(cluster, cache, now=lambda: now), SERVER_CHECK), server


def keep(records: list[Manifest], live: Manifest | None) -> TemplateChoice:
    templates, server = passing(records, live)
    return asyncio.run(templates.decide(KEY, server, live)).choice


def running(number: int) -> Manifest:
    deployment = make_deployment()
    deployment["metadata"]["annotations"] = {"kimi-linear.io/revision": str(number)}
    return deployment | {"spec": {"template": TEMPLATE}}


def test_the_template_is_built_once_for_any_number_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []

    def count(name: str) -> Any:
        original = getattr(module, name)

        def counting(*arguments: Any) -> Any:
            built.append(1)
            return original(*arguments)

        return counting

    monkeypatch.setattr(module, "build_pod_template", count("build_pod_template"))
    for number in (1, 1000):
        built.clear()
        keep([record(index + 1) for index in range(number)], None)
        assert len(built) == 1


def test_only_records_with_the_highest_numbers_and_the_running_one_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    original = revision.of_data

    def counting(data: Any, number: int) -> Any:
        read.append(number)
        return original(data, number)

    monkeypatch.setattr(revision, "of_data", counting)
    kept = keep([record(number) for number in range(1, 1001)], running(7))
    assert kept.running
    assert kept.running.number == 7
    assert {7, 1000} <= set(read)
    assert len(read) < 50


def test_a_record_that_reaches_beyond_its_pod_is_still_left_out() -> None:
    reaching = {"spec": {**TEMPLATE["spec"], "hostPID": True}}
    templates, server = passing([])
    allowed = templates._allowed_revisions([record(2, reaching), record(1)], server, None)
    assert [item.number for item in allowed] == [1]
