"""An optional kind that cannot be read affects only resources that ask for it, and costs little while none asks."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from fast_loop import now, run
from kimi_linear_operator.cluster.errors import NOT_SERVED, ApiError, OtherVersionError
from kimi_linear_operator.cluster.pages import Page
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, Kind
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.errors import NotReadYetError
from kimi_linear_operator.runtime.lists import RESYNC_SECONDS, WATCH_SECONDS, Lists
from kimi_linear_operator.runtime.scopes import OWN_FAULT_SECONDS, Scope, Scopes
from kimi_linear_operator.runtime.watched_scopes import LONGEST_SILENCE_SECONDS, WatchedScopes
from kimi_linear_operator.server.spec import SERVER
from passes import new_cache

ROUTE = Kind("example.com", "v1", "Route", "routes", "the Route project")
KIMI, OTHER, ELSEWHERE = Key("a", "kimi", SERVER), Key("a", "other", SERVER), Key("b", "kimi", SERVER)
FORBIDDEN, MISSING, UNAVAILABLE = (ApiError(status, "why") for status in (403, 404, 503))


def scopes_of(*namespaces: str) -> Scopes:
    """Return scopes. All of them were read, except the optional kind."""
    scopes = Scopes([*namespaces], (DEPLOYMENT, ROUTE), {ROUTE})
    for scope in scopes:
        scopes.begin(scope, 0)
        if scope.kind == DEPLOYMENT:
            scopes.succeed(scope, 1)
    return scopes


def routes(namespace: str | None = None) -> Scope:
    return Scope(ROUTE, namespace)


def listed_again(scopes: Scopes, scope: Scope, error: ApiError | None, at: float = 2) -> bool:
    """List a scope again; return whether it has become unreadable."""
    scopes.begin(scope, at)
    if error:
        return scopes.fail(scope, error, at)
    scopes.succeed(scope, at)
    return False


@pytest.mark.parametrize("error", [None, FORBIDDEN, MISSING, UNAVAILABLE])
def test_an_optional_kind_that_no_server_asks_for_blocks_nothing_and_is_not_reported(error: ApiError | None) -> None:
    scopes = scopes_of()
    if error:
        scopes.fail(routes(), error, 1)
    assert scopes.may_lead(1)
    assert scopes.has_read_everything()
    assert scopes.unreadable(1 + OWN_FAULT_SECONDS) == {}


@pytest.mark.parametrize("error", [FORBIDDEN, MISSING])
def test_a_server_that_asks_gets_an_answer_after_a_new_list(error: ApiError) -> None:
    scopes = scopes_of("a", "b")
    listed_again(scopes, routes("a"), error)
    assert scopes.ask(KIMI, {ROUTE}) == [routes("a")], "the last list was minutes ago"
    with pytest.raises(NotReadYetError):
        scopes.unreadable_kinds("a", {ROUTE})
    assert listed_again(scopes, routes("a"), error)
    assert scopes.unreadable_kinds("a", {ROUTE}) == {ROUTE: error}
    assert scopes.unreadable(3) == {routes("a"): str(error)}
    assert scopes.ask(OTHER, {ROUTE}) == [], "the scope is now listed several times per minute"
    assert scopes.askers(routes("a")) == {KIMI, OTHER}
    assert scopes.may_lead(3)


def test_a_list_that_began_before_the_question_does_not_answer_it() -> None:
    scopes = scopes_of()
    listed_again(scopes, routes(), MISSING)
    scopes.begin(routes(), 10)
    scopes.ask(KIMI, {ROUTE})
    assert not scopes.fail(routes(), MISSING, 11)
    with pytest.raises(NotReadYetError):
        scopes.unreadable_kinds("a", {ROUTE})


def test_a_missing_kind_is_reported_until_no_server_asks_for_it() -> None:
    scopes = scopes_of("a", "b")
    for key, place in ((KIMI, "a"), (OTHER, "a"), (ELSEWHERE, "b")):
        scopes.ask(key, {ROUTE})
        listed_again(scopes, routes(place), MISSING)
    scopes.ask(KIMI, ())
    scopes.ask(ELSEWHERE, ())
    assert [*scopes.unreadable(3)] == [routes("a")]
    scopes.ask(OTHER, ())
    assert scopes.unreadable(3) == {}
    scopes.ask(OTHER, {ROUTE})
    scopes.forget_askers()
    assert scopes.unreadable(3) == {}, "a replica that does not lead does not know who asks"


def test_a_readable_kind_is_not_withheld_and_its_loss_is_reported_once() -> None:
    scopes = scopes_of()
    listed_again(scopes, routes(), None)
    assert scopes.ask(KIMI, {ROUTE}) == []
    assert scopes.unreadable_kinds("a", {ROUTE}) == {}
    assert [listed_again(scopes, routes(), MISSING, at) for at in (3, 4)] == [True, False]
    assert scopes.unreadable_kinds("a", {ROUTE}) == {ROUTE: MISSING}


def test_a_kind_that_fails_for_long_is_finally_withheld() -> None:
    scopes = scopes_of()
    scopes.ask(KIMI, {ROUTE})
    scopes.fail(routes(), UNAVAILABLE, 1)
    with pytest.raises(NotReadYetError):
        scopes.unreadable_kinds("a", {ROUTE})
    listed_again(scopes, Scope(DEPLOYMENT, None), None, OWN_FAULT_SECONDS)
    assert scopes.fail(routes(), UNAVAILABLE, OWN_FAULT_SECONDS)
    assert scopes.unreadable_kinds("a", {ROUTE}) == {ROUTE: UNAVAILABLE}


def test_a_refused_kind_is_not_watched_and_later_has_the_usual_time_to_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("kimi_linear_operator.runtime.watched_scopes.time.monotonic", lambda: clock[0])
    scopes = scopes_of()
    watched = WatchedScopes(lambda _: None, scopes.is_dormant)
    watched.begin(scopes)
    assert watched.may_watch(routes()), "whether the kind can be read is not known yet"
    listed_again(scopes, routes(), MISSING)
    clock[0] = 1000
    assert not watched.may_watch(routes())
    assert watched.unwatched() == [Scope(DEPLOYMENT, None)]
    listed_again(scopes, routes(), None)
    clock[0] += LONGEST_SILENCE_SECONDS - 1
    assert watched.may_watch(routes())
    assert watched.unwatched() == [Scope(DEPLOYMENT, None)]
    clock[0] += 2
    assert routes() in watched.unwatched()


@dataclass
class Api:
    """Lists a missing kind until it is installed."""

    is_installed: bool = False
    error: ApiError = MISSING
    asked: list[float] = field(default_factory=list)

    async def pages(self, kind: Kind, _: str | None, __: str) -> AsyncIterator[Page]:
        if kind == ROUTE:
            self.asked.append(now())
            if not self.is_installed:
                raise self.error
        yield Page([], 10)

    def lists_between(self, begin: float, end: float) -> int:
        return sum(begin < time <= end for time in self.asked)


def test_a_missing_kind_is_listed_rarely_until_a_server_asks_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        api: Any = Api()
        scopes, read, lost = Scopes([], (DEPLOYMENT, ROUTE), {ROUTE}), list[Scope](), list[Scope]()
        lists = Lists(api, new_cache(), scopes, lambda scope, *_: read.append(scope), now, lost=lost.append)
        running = asyncio.ensure_future(lists.run())
        await asyncio.sleep(1800)
        assert api.lists_between(WATCH_SECONDS, 1800) <= 1800 / (0.8 * RESYNC_SECONDS)
        assert not caplog.records
        lost.clear()
        lists.list_at_once(scopes.ask(KIMI, {ROUTE}))
        await asyncio.sleep(1)
        assert (lost, scopes.unreadable_kinds("a", {ROUTE})) == ([routes()], {ROUTE: MISSING})
        begin = now()
        await asyncio.sleep(600)
        assert api.lists_between(begin, now()) <= 600 / 15 + 5
        [line] = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert line.getMessage() == (
            "Cannot list routes in all namespaces (is the Route project installed?), retrying until it works: 404: why"
        )
        api.is_installed, read[:] = True, []
        await asyncio.sleep(31)
        assert routes() in read
        assert scopes.unreadable_kinds("a", {ROUTE}) == {}
        running.cancel()

    run(test())


def test_nobody_is_asked_to_install_a_kind_that_the_cluster_has_in_another_version(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        text = f"{NOT_SERVED} routes of example.com/v1, but of example.com/v2"
        api: Any = Api(error=OtherVersionError(404, text))
        scopes = Scopes([], (DEPLOYMENT, ROUTE), {ROUTE})
        lists = Lists(api, new_cache(), scopes, lambda *_: None, now, lost=lambda _: None)
        running = asyncio.ensure_future(lists.run())
        await asyncio.sleep(60)
        lists.list_at_once(scopes.ask(KIMI, {ROUTE}))
        await asyncio.sleep(1)
        [line] = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert line.getMessage() == f"Cannot list routes in all namespaces, retrying until it works: 404: {text}"
        running.cancel()

    run(test())


def test_a_kind_that_is_refused_again_before_its_watch_begins_is_listed_at_once() -> None:
    scopes, requested = scopes_of(), list[Scope]()
    watched = WatchedScopes(requested.append, scopes.is_dormant)
    watched.note_answer(routes(), "LIST", 404)
    listed_again(scopes, routes(), MISSING)
    assert not watched.may_watch(routes())
    listed_again(scopes, routes(), None)
    assert watched.may_watch(routes())
    watched.note_answer(routes(), "LIST", 404)
    assert requested == [routes(), routes()]
