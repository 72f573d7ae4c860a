"""What can be read decides what is looked after, and whether a replica may lead."""

from itertools import cycle

import pytest

from kimi_linear_operator.benchmark.address import TargetKey
from kimi_linear_operator.cluster import ApiError
from kimi_linear_operator.handlers.scopes import CHILDREN, OWN_FAULT_SECONDS, Scope, Scopes
from kimi_linear_operator.resources import (
    BENCHMARK,
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    KINDS,
    POD,
    RESOURCES,
    SERVER,
    SERVICE,
    Kind,
)
from kimi_linear_operator.resources.kinds import NEEDED
from kimi_linear_operator.store import Key

FORBIDDEN, MISSING, UNAVAILABLE, UNANSWERED = (ApiError(status, "why") for status in (403, 404, 503, 0))
SERVER_A, SERVER_B = Key("a", "kimi"), Key("b", "kimi")
BENCHMARK_A = Key("a", "nightly", BENCHMARK)
OF_SERVER, OF_ENDPOINT = TargetKey("a", "kimi"), TargetKey("", "http://else.where")


def read(scopes: Scopes, *but: Scope, now: float = 0.0) -> Scopes:
    """Read everything but some scopes."""
    for scope in scopes:
        scopes.begin(scope, now)
    for scope in scopes:
        if scope not in but:
            scopes.succeed(scope, now + 1)
    return scopes


def test_every_kind_is_listed_in_every_namespace_once() -> None:
    assert len(list(Scopes([]))) == len(CHILDREN) + len(RESOURCES)
    assert len(list(Scopes(["a", "b", "a"]))) == 2 * (len(CHILDREN) + len(RESOURCES))


def test_everything_that_is_written_is_needed_by_somebody() -> None:
    assert {kind for kinds in NEEDED.values() for kind in kinds} == {*KINDS, POD, *RESOURCES}


def test_a_replica_may_lead_when_everything_was_read() -> None:
    scopes = Scopes(["a"])
    assert not scopes.is_settled(0)
    missing = Scope(POD, "a")
    assert not read(scopes, missing).is_settled(2)
    assert scopes.succeed(missing, 2)
    assert scopes.is_settled(2)
    assert scopes.unreadable(2) == {}


@pytest.mark.parametrize("error", [FORBIDDEN, MISSING])
def test_what_is_refused_keeps_nobody_from_leading_and_is_named(error: ApiError) -> None:
    pods = Scope(POD, "b")
    scopes = read(Scopes(["a", "b"]), pods)
    scopes.fail(pods, error, 2)
    assert scopes.is_settled(2)
    assert scopes.unreadable(2) == {pods: str(error)}


@pytest.mark.parametrize("error", [UNAVAILABLE, UNANSWERED])
def test_an_api_server_that_does_not_answer_is_waited_for(error: ApiError) -> None:
    scopes = Scopes(["a"])
    for scope in scopes:
        scopes.begin(scope, 0)
        scopes.fail(scope, error, 0)
    assert not scopes.is_settled(1_000_000)
    assert scopes.unreadable(1_000_000) == {}


def test_where_nothing_may_be_read_nobody_leads() -> None:
    scopes = Scopes(["a"])
    for scope in scopes:
        scopes.begin(scope, 0)
        scopes.fail(scope, FORBIDDEN, 0)
    assert not scopes.is_settled(1)


def test_what_fails_for_long_while_others_are_read_keeps_nobody_from_leading() -> None:
    """For example one object that cannot be decoded, or a conversion webhook that is away."""
    pods = Scope(POD, "a")
    scopes = read(Scopes(["a"]), pods)
    scopes.fail(pods, ApiError(500, "conversion webhook failed"), 2)
    assert not scopes.is_settled(OWN_FAULT_SECONDS - 1)
    assert scopes.is_settled(OWN_FAULT_SECONDS)
    assert scopes.unreadable(OWN_FAULT_SECONDS) == {pods: "500: conversion webhook failed"}


def test_what_fails_because_nobody_is_answered_any_more_is_not_told_of_one_scope() -> None:
    scopes = read(Scopes(["a"]))
    for scope in scopes:
        scopes.begin(scope, 100)
        scopes.fail(scope, UNANSWERED, 100)
    assert scopes.unreadable(1_000_000) == {}


@pytest.mark.parametrize("kind", [SERVER, DEPLOYMENT, SERVICE, POD])
def test_a_server_is_left_alone_until_all_was_read_that_it_needs_in_its_namespace(kind: Kind) -> None:
    missing = Scope(kind, "a")
    scopes = read(Scopes(["a", "b"]), missing)
    scopes.fail(missing, FORBIDDEN, 2)
    assert (scopes.is_known(SERVER_A, None), scopes.is_known(SERVER_B, None)) == (False, True)
    assert scopes.succeed(missing, 5), "everything in it is new"
    assert scopes.is_known(SERVER_A, None)


@pytest.mark.parametrize("kind", [BENCHMARK, CONFIG_MAP, JOB])
def test_servers_need_nothing_of_benchmarks(kind: Kind) -> None:
    scopes = read(Scopes([]), Scope(kind, None))
    assert scopes.is_known(SERVER_A, None)
    assert not scopes.is_known(BENCHMARK_A, OF_ENDPOINT)


def test_benchmarks_need_servers_only_to_measure_them() -> None:
    scopes = read(Scopes([]), Scope(SERVER, None))
    assert scopes.is_known(BENCHMARK_A, OF_ENDPOINT)
    assert scopes.is_known(BENCHMARK_A, None)
    assert scopes.is_known(BENCHMARK_A, TargetKey("elsewhere", "kimi"))
    assert not scopes.is_known(BENCHMARK_A, OF_SERVER)


def test_what_was_read_stays_known_while_lists_fail() -> None:
    scopes = read(Scopes(["a"]))
    pods = Scope(POD, "a")
    scopes.begin(pods, 300)
    scopes.fail(pods, UNANSWERED, 300)
    assert scopes.is_known(SERVER_A, None)
    assert not scopes.succeed(pods, 301), "only what changed is new"


@pytest.mark.parametrize("is_watched", [True, False])
def test_what_fails_alone_for_long_stays_known_as_long_as_its_watch_lives(is_watched: bool) -> None:
    scopes = read(Scopes(["a"]))
    pods, other = Scope(POD, "a"), Scope(SERVICE, "a")
    scopes.begin(pods, 300)
    scopes.succeed(other, 301)
    scopes.fail(pods, UNAVAILABLE, 301, is_watched=is_watched)
    assert scopes.is_known(SERVER_A, None), "it may be a matter of moments"
    scopes.fail(pods, UNAVAILABLE, 300 + OWN_FAULT_SECONDS, is_watched=is_watched)
    assert scopes.is_known(SERVER_A, None) == is_watched
    assert scopes.unreadable(1_000) == ({} if is_watched else {pods: str(UNAVAILABLE)})


def test_what_is_called_unreadable_is_unknown_and_what_is_known_is_not_called_so() -> None:
    scopes = Scopes(["a"])
    for scope, error in zip(scopes, cycle((FORBIDDEN, MISSING, UNAVAILABLE, UNANSWERED)), strict=False):
        scopes.begin(scope, 0)
        if error.status != 404:
            scopes.succeed(scope, 1)
        scopes.fail(scope, error, 1)
    scopes.succeed(Scope(SERVER, "a"), 2)
    known = {scope for scope in scopes if scopes._states[scope].is_read}
    assert not known & scopes.unreadable(1_000_000).keys()


def test_what_was_read_is_unknown_once_it_is_refused_until_it_is_read_again() -> None:
    scopes = read(Scopes(["a"]))
    pods = Scope(POD, "a")
    for error in (FORBIDDEN, UNANSWERED):
        scopes.begin(pods, 300)
        scopes.fail(pods, error, 300)
        assert not scopes.is_known(SERVER_A, None)
    assert scopes.succeed(pods, 301)
    assert scopes.is_known(SERVER_A, None)


def test_a_scope_concerns_those_in_it_that_need_it() -> None:
    scopes, keys = Scopes(["a", "b"]), [SERVER_A, SERVER_B, BENCHMARK_A]
    assert scopes.concerned(Scope(DEPLOYMENT, "a"), keys) == [SERVER_A]
    assert scopes.concerned(Scope(JOB, "a"), keys) == [BENCHMARK_A]
    assert scopes.concerned(Scope(SERVER, "a"), keys) == [SERVER_A, BENCHMARK_A]
    assert Scopes([]).concerned(Scope(POD, None), keys) == keys


def test_a_scope_says_what_it_is() -> None:
    assert str(Scope(POD, "a")) == "pods in namespace a"
    assert str(Scope(POD, None)) == "pods in all namespaces"


def test_what_may_be_old_is_unknown_until_a_list_that_begins_afterwards_has_ended() -> None:
    scopes = Scopes([])
    for scope in scopes:
        scopes.begin(scope, 0)
    scopes.forget()
    assert not any(scopes.succeed(scope, 1) for scope in scopes)
    assert not scopes.is_settled(1)
    # Nothing is known to be unreadable: the replica stays Ready.
    assert scopes.is_anything_readable()
    for scope in scopes:
        scopes.begin(scope, 2)
    assert all(scopes.succeed(scope, 3) for scope in scopes)
    assert scopes.is_settled(3)
