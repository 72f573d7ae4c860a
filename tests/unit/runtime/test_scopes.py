"""The readable scopes decide which resources are reconciled, and whether a replica may lead."""

from itertools import cycle
from typing import Any

import pytest

from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, JOB, POD, SERVICE, Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Options
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.scopes import OWN_FAULT_SECONDS, Scope, Scopes
from kimi_linear_operator.runtime.work import Work
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_server
from passes import CHILDREN, RESOURCES, WRITTEN, new_cache, new_scopes

FORBIDDEN, MISSING, UNAVAILABLE, UNANSWERED = (ApiError(status, "why") for status in (403, 404, 503, 0))
SERVER_A, SERVER_B = Key("a", "kimi", SERVER), Key("b", "kimi", SERVER)
BENCHMARK_A = Key("a", "nightly", BENCHMARK)
OF_SERVER = {"serverRef": {"name": "kimi"}}
OF_ENDPOINT = {"endpoint": {"url": "http://else.where"}}


def work(scopes: Scopes, **target: Any) -> Work:
    """Return which resources are reconciled: a benchmark of this target, and servers."""
    cache = new_cache()
    for key in (SERVER_A, SERVER_B):
        cache.put(SERVER, placed(make_server(key.name), key))
    if target:
        cache.put(BENCHMARK, placed(make_benchmark(BENCHMARK_A.name, **target), BENCHMARK_A))
    return Work(TYPES, scopes, cache, Options())


def placed(manifest: Manifest, key: Key) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": key.namespace}}


def is_known(scopes: Scopes, key: Key, **target: Any) -> bool:
    return work(scopes, **target)._may_reconcile(key)


def read(scopes: Scopes, *but: Scope, now: float = 0.0) -> Scopes:
    """Read everything but some scopes."""
    for scope in scopes:
        scopes.begin(scope, now)
    for scope in scopes:
        if scope not in but:
            scopes.succeed(scope, now + 1)
    return scopes


def test_every_kind_is_listed_in_every_namespace_once() -> None:
    assert len(list(new_scopes([]))) == len(CHILDREN) + len(RESOURCES)
    assert len(list(new_scopes(["a", "b", "a"]))) == 2 * (len(CHILDREN) + len(RESOURCES))


def test_every_written_kind_is_needed_by_a_resource_type() -> None:
    assert {kind for found in TYPES.values() for kind in (*found.own_kinds, *found.optional_children)} == {
        *WRITTEN,
        POD,
        *RESOURCES,
    }


def test_a_replica_may_lead_when_everything_was_read() -> None:
    scopes = new_scopes(["a"])
    assert not scopes.may_lead(0)
    missing = Scope(POD, "a")
    assert not read(scopes, missing).may_lead(2)
    assert scopes.succeed(missing, 2)
    assert scopes.may_lead(2)
    assert scopes.unreadable(2) == {}


def test_a_scope_that_fails_from_the_start_does_not_prevent_leading() -> None:
    """The list waits for its watch, which cannot begin either. In the meantime, all other scopes were read."""
    scopes, pods = new_scopes(["a", "b"]), Scope(POD, "b")
    for scope in scopes:
        if scope != pods:
            scopes.begin(scope, 1)
            scopes.succeed(scope, 2)
    scopes.begin(pods, 10)
    scopes.fail(pods, ApiError(500, "broken"), 10)
    assert not scopes.may_lead(OWN_FAULT_SECONDS)
    assert scopes.may_lead(1 + OWN_FAULT_SECONDS)
    assert scopes.unreadable(1 + OWN_FAULT_SECONDS) == {pods: "500: broken"}
    scopes.fail(pods, ApiError(500, "broken"), 1 + OWN_FAULT_SECONDS)
    assert scopes.has_read_everything()


def test_resources_that_need_everything_wait_for_a_list_in_line_however_long() -> None:
    scopes, late = new_scopes(["a", "b"]), Scope(JOB, "b")
    read(scopes, late)
    assert scopes.may_lead(OWN_FAULT_SECONDS)
    assert not scopes.has_read_everything()
    scopes.fail(late, UNAVAILABLE, OWN_FAULT_SECONDS - 1)
    assert not scopes.has_read_everything(), "the fault may be short, and the next list is in line"
    scopes.fail(late, UNAVAILABLE, OWN_FAULT_SECONDS)
    assert scopes.has_read_everything()
    scopes.succeed(late, 200)
    assert scopes.has_read_everything()


@pytest.mark.parametrize("error", [FORBIDDEN, MISSING, UNAVAILABLE])
def test_after_a_takeover_resources_that_need_everything_wait_for_scopes_that_failed_before(error: ApiError) -> None:
    """The scope may now be readable, but its list waits behind slow lists."""
    scopes, late = new_scopes(["a", "b"]), Scope(JOB, "b")
    read(scopes, late)
    scopes.fail(late, error, OWN_FAULT_SECONDS)
    assert scopes.has_read_everything()
    scopes.begin(late, 199)
    scopes.forget([*scopes])
    scopes.fail(late, error, 201)
    read(scopes, late, now=202)
    assert not scopes.has_read_everything()
    scopes.fail(late, error, 210)
    assert scopes.has_read_everything()


@pytest.mark.parametrize("error", [FORBIDDEN, MISSING])
def test_a_refused_scope_does_not_prevent_leading_and_is_named(error: ApiError) -> None:
    pods = Scope(POD, "b")
    scopes = read(new_scopes(["a", "b"]), pods)
    scopes.fail(pods, error, 2)
    assert scopes.may_lead(2)
    assert scopes.unreadable(2) == {pods: str(error)}


@pytest.mark.parametrize("error", [UNAVAILABLE, UNANSWERED])
def test_an_api_server_that_does_not_answer_is_waited_for(error: ApiError) -> None:
    scopes = new_scopes(["a"])
    for scope in scopes:
        scopes.begin(scope, 0)
        scopes.fail(scope, error, 0)
    assert not scopes.may_lead(1_000_000)
    assert scopes.unreadable(1_000_000) == {}


def test_a_replica_that_may_read_nothing_does_not_lead() -> None:
    scopes = new_scopes(["a"])
    for scope in scopes:
        scopes.begin(scope, 0)
        scopes.fail(scope, FORBIDDEN, 0)
    assert not scopes.may_lead(1)


def test_a_scope_that_fails_for_long_alone_does_not_prevent_leading() -> None:
    """For example, an object cannot be decoded, or a conversion webhook does not answer."""
    pods = Scope(POD, "a")
    scopes = read(new_scopes(["a"]), pods)
    scopes.fail(pods, ApiError(500, "conversion webhook failed"), 2)
    assert not scopes.may_lead(OWN_FAULT_SECONDS - 1)
    assert scopes.may_lead(OWN_FAULT_SECONDS)
    assert scopes.unreadable(OWN_FAULT_SECONDS) == {pods: "500: conversion webhook failed"}


def test_no_scope_is_reported_while_the_api_server_answers_nobody() -> None:
    scopes = read(new_scopes(["a"]))
    for scope in scopes:
        scopes.begin(scope, 100)
        scopes.fail(scope, UNANSWERED, 100)
    assert scopes.unreadable(1_000_000) == {}


@pytest.mark.parametrize("kind", [SERVER, DEPLOYMENT, SERVICE, POD])
def test_a_server_is_left_alone_until_all_its_kinds_in_its_namespace_were_read(kind: Kind) -> None:
    missing = Scope(kind, "a")
    scopes = read(new_scopes(["a", "b"]), missing)
    scopes.fail(missing, FORBIDDEN, 2)
    assert (is_known(scopes, SERVER_A), is_known(scopes, SERVER_B)) == (False, True)
    assert scopes.succeed(missing, 5), "everything in the scope is new"
    assert is_known(scopes, SERVER_A)


@pytest.mark.parametrize("kind", [BENCHMARK, CONFIG_MAP, JOB])
def test_servers_do_not_need_the_kinds_of_benchmarks(kind: Kind) -> None:
    scopes = read(new_scopes([]), Scope(kind, None))
    assert is_known(scopes, SERVER_A)
    assert not is_known(scopes, BENCHMARK_A, **OF_ENDPOINT)


def test_benchmarks_need_servers_only_to_measure_them() -> None:
    scopes = read(new_scopes([]), Scope(SERVER, None))
    assert is_known(scopes, BENCHMARK_A, **OF_ENDPOINT)
    assert is_known(scopes, BENCHMARK_A)
    assert is_known(scopes, BENCHMARK_A, endpoint={"url": "http://kimi.elsewhere.svc:30000"})
    assert not is_known(scopes, BENCHMARK_A, **OF_SERVER)


def test_a_scope_that_was_read_stays_known_while_its_lists_fail() -> None:
    scopes = read(new_scopes(["a"]))
    pods = Scope(POD, "a")
    scopes.begin(pods, 300)
    scopes.fail(pods, UNANSWERED, 300)
    assert is_known(scopes, SERVER_A)
    assert not scopes.succeed(pods, 301), "only what changed is new"


@pytest.mark.parametrize("is_watched", [True, False])
def test_a_scope_that_fails_alone_for_long_stays_known_while_its_watch_lives(is_watched: bool) -> None:
    scopes = read(new_scopes(["a"]))
    pods, other = Scope(POD, "a"), Scope(SERVICE, "a")
    scopes.begin(pods, 300)
    scopes.succeed(other, 301)
    scopes.fail(pods, UNAVAILABLE, 301, is_watched=is_watched)
    assert is_known(scopes, SERVER_A), "the fault may be short"
    scopes.fail(pods, UNAVAILABLE, 300 + OWN_FAULT_SECONDS, is_watched=is_watched)
    assert is_known(scopes, SERVER_A) == is_watched
    assert scopes.unreadable(1_000) == ({} if is_watched else {pods: str(UNAVAILABLE)})


def test_no_scope_is_both_known_and_reported_as_unreadable() -> None:
    scopes = new_scopes(["a"])
    for scope, error in zip(scopes, cycle((FORBIDDEN, MISSING, UNAVAILABLE, UNANSWERED)), strict=False):
        scopes.begin(scope, 0)
        if error.status != 404:
            scopes.succeed(scope, 1)
        scopes.fail(scope, error, 1)
    scopes.succeed(Scope(SERVER, "a"), 2)
    known = {scope for scope in scopes if scopes._states[scope].is_read}
    assert not known & scopes.unreadable(1_000_000).keys()


def test_a_refused_scope_is_unknown_until_it_is_read_again() -> None:
    scopes = read(new_scopes(["a"]))
    pods = Scope(POD, "a")
    for error in (FORBIDDEN, UNANSWERED):
        scopes.begin(pods, 300)
        scopes.fail(pods, error, 300)
        assert not is_known(scopes, SERVER_A)
    assert scopes.succeed(pods, 301)
    assert is_known(scopes, SERVER_A)


def test_a_scope_enqueues_the_resources_in_it_that_need_it() -> None:
    assert enqueued(Scope(DEPLOYMENT, "a")) == [SERVER_A, BENCHMARK_A]
    assert enqueued(Scope(JOB, "a")) == [BENCHMARK_A]
    assert enqueued(Scope(SERVER, "a")) == [SERVER_A, BENCHMARK_A]
    assert enqueued(Scope(POD, None)) == [SERVER_A, SERVER_B, BENCHMARK_A]


def enqueued(scope: Scope) -> list[Key]:
    """Return the resources that get a pass once a scope has been read."""
    working, asked = work(new_scopes(["a", "b"]), **OF_SERVER), list[Key]()
    working.enqueue = asked.extend  # type: ignore[method-assign,assignment]
    working.enqueue_scope(scope)
    return asked


def test_the_text_of_a_scope_names_kind_and_namespace() -> None:
    assert str(Scope(POD, "a")) == "pods in namespace a"
    assert str(Scope(POD, None)) == "pods in all namespaces"


def test_an_outdated_scope_is_unknown_until_a_new_list_has_ended() -> None:
    scopes = new_scopes([])
    for scope in scopes:
        scopes.begin(scope, 0)
    scopes.forget([*scopes])
    assert not any(scopes.succeed(scope, 1) for scope in scopes)
    assert not scopes.may_lead(1)
    # No scope counts as unreadable, so the replica stays Ready.
    assert scopes.is_anything_readable()
    for scope in scopes:
        scopes.begin(scope, 2)
    assert all(scopes.succeed(scope, 3) for scope in scopes)
    assert scopes.may_lead(3)
