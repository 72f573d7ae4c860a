"""A replica is not ready while it sees nothing of the cluster, and the metric of unreadable scopes agrees."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.counters import REGISTRY
from kimi_linear_operator.reconcile.resource_type import Options
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.health import Health
from kimi_linear_operator.runtime.process import Operator
from kimi_linear_operator.runtime.scopes import OWN_FAULT_SECONDS, Scope, Scopes
from kimi_linear_operator.runtime.unreadable import Unreadable
from kimi_linear_operator.runtime.watched_scopes import LONGEST_SILENCE_SECONDS, WatchedScopes
from passes import OPTIONAL, new_scopes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which the test sets."""
    now = [1000.0]
    for module in ("watched_scopes", "health", "process"):
        monkeypatch.setattr(f"kimi_linear_operator.runtime.{module}.time.monotonic", lambda: now[0])
    return now


def ignore(_: Scope) -> None:
    """Do nothing."""


def health_of(scopes: Scopes, watched: WatchedScopes) -> Health:
    watch: Any = SimpleNamespace(watched=watched, silent_seconds=lambda: 0.0)
    work: Any = SimpleNamespace(stuck_seconds=lambda: 0.0)
    health = Health(watch, scopes, Unreadable(), work)
    health.has_read = True
    return health


@pytest.mark.parametrize("missing", [0, 1, len(OPTIONAL)])
def test_a_replica_whose_watches_all_fail_is_not_ready_whichever_optional_kinds_exist(
    clock: list[float], missing: int
) -> None:
    scopes = new_scopes([])
    watched = WatchedScopes(ignore, scopes.is_dormant)
    watched.begin(scopes)
    absent = [scope for scope in scopes if scope.kind in OPTIONAL][:missing]
    for scope in scopes:
        scopes.begin(scope, clock[0])
        if scope in absent:
            scopes.fail(scope, ApiError(404, "no such kind"), clock[0])
        else:
            scopes.succeed(scope, clock[0])
            watched.note_answer(scope, "WATCH", 200)
    health = health_of(scopes, watched)
    for _ in range(3):
        clock[0] += LONGEST_SILENCE_SECONDS - 1
        assert health.readiness().problems == []
        for scope in scopes:
            if scope not in absent:
                watched.note_event(scope)
    for scope in scopes:
        if scope not in absent:
            watched.note_answer(scope, "WATCH", 0)
    clock[0] += LONGEST_SILENCE_SECONDS + 1
    assert health.readiness().problems == ["the operator cannot read any kind of objects"]


def unreadable_metric(scope: Scope) -> float | None:
    labels = {"resource": scope.kind.plural, "scope_namespace": scope.namespace or ""}
    return REGISTRY.get_sample_value("kimi_linear_operator_scope_unreadable", labels)


def test_a_scope_whose_list_only_waits_becomes_unreadable_in_the_metric_too(clock: list[float]) -> None:
    """No list of the scope ends, so nothing but the time makes it unreadable."""

    async def test() -> None:
        anything: Any = type("Anything", (), {"fenced": lambda *_: None})()
        working = Operator(anything, anything, namespaces=["a", "b"], types=TYPES, options=Options())
        waiting, *others = working.scopes
        for scope in working.scopes:
            working.scopes.begin(scope, clock[0])
        for _ in range(3):
            clock[0] += OWN_FAULT_SECONDS
            for scope in others:
                working.scopes.succeed(scope, clock[0])
        assert list(working.scopes.unreadable(clock[0])) == [waiting]
        list(working.exposition())
        assert unreadable_metric(waiting) == 1
        assert {unreadable_metric(scope) for scope in others} == {0}
        working.scopes.succeed(waiting, clock[0])
        list(working.exposition())
        assert unreadable_metric(waiting) == 0

    asyncio.run(test())
