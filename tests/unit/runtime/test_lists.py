"""Each scope is listed on its own: a slow or failing scope delays no other. Time is the loop's own."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from fast_loop import now, run
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.pages import Page
from kimi_linear_operator.cluster.transport import LIST_SECONDS
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, POD, Kind
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.runtime.lanes import LISTS_AT_ONCE, LONG_SECONDS
from kimi_linear_operator.runtime.lists import GATHER_SECONDS, RESYNC_SECONDS, RETRY, WATCH_SECONDS, Lists
from kimi_linear_operator.runtime.scopes import OWN_FAULT_SECONDS, Scope
from kimi_linear_operator.runtime.unreadable import MOST_NAMED
from kimi_linear_operator.server.resource_type import SERVER_TYPE
from kimi_linear_operator.server.spec import SERVER
from make import make_pod, make_server
from passes import new_cache, new_scopes

A, B = "default", "other"
KIMI = Key(A, "kimi", SERVER)
PODS_A, PODS_B, SERVERS_A = Scope(POD, A), Scope(POD, B), Scope(SERVER, A)


@dataclass
class Objects:
    """The API server's lists, and their failures."""

    pages: dict[Scope, list[list[Any]]] = field(default_factory=dict)
    errors: dict[Scope, Exception] = field(default_factory=dict)
    seconds: dict[Scope, float] = field(default_factory=dict)
    asked: list[tuple[float, Scope]] = field(default_factory=list)

    async def list_pages(self, kind: Kind, namespace: str | None, _: str) -> AsyncIterator[Page]:
        scope = Scope(kind, namespace)
        self.asked.append((now(), scope))
        for manifests in self.pages.get(scope, [[]]):
            await asyncio.sleep(self.seconds.get(scope, 0))
            yield Page(manifests, 10)
        if error := self.errors.get(scope):
            raise error

    def times(self, scope: Scope) -> list[float]:
        return [time for time, asked in self.asked if asked == scope]


@dataclass
class Listed:
    """Running lists, and their results."""

    objects: Objects
    namespaces: list[str] = field(default_factory=lambda: [A, B])
    unwatched: set[Scope] = field(default_factory=set)
    lists: Lists = field(init=False)
    told: list[tuple[Scope, set[Key], bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        cluster: Any = type("Cluster", (), {"pages": staticmethod(self.objects.list_pages)})
        self.lists = Lists(cluster, new_cache(), new_scopes(self.namespaces), lambda *told: self.told.append(told), now)
        self.lists.is_watched = lambda scope: scope not in self.unwatched

    @contextmanager
    def running(self) -> Iterator[None]:
        task = asyncio.ensure_future(self.lists.run())
        try:
            yield
        finally:
            task.cancel()


def test_every_scope_is_listed_when_its_watch_has_begun_or_should_have() -> None:
    async def test() -> None:
        listed = Listed(Objects())
        with listed.running():
            await asyncio.sleep(1)
            listed.lists.ask_for(PODS_A)
            await asyncio.sleep(GATHER_SECONDS + 0.1)
            assert [scope for _, scope in listed.objects.asked] == [PODS_A]
            await listed.lists.wait_until_everything_is_read()
            assert now() == pytest.approx(WATCH_SECONDS)
            assert sorted(map(str, (scope for _, scope in listed.objects.asked))) == sorted(
                map(str, listed.lists.scopes)
            )

    run(test())


def test_the_newest_listed_object_of_each_scope_is_known_until_the_cluster_is_restored() -> None:
    """A watch that continues from an older version has to deliver this object."""

    async def test() -> None:
        pods = [[make_pod("a", version=3), make_pod("b", version=7)], [make_pod("c", version=5)]]
        listed = Listed(Objects({PODS_A: pods}))
        with listed.running():
            await listed.lists.wait_until_everything_is_read()
            assert [listed.lists.newest_version(scope) for scope in (PODS_A, PODS_B)] == [7, 0]
            listed.lists.relist_all()
            assert listed.lists.newest_version(PODS_A) == 0

    run(test())


def test_a_watch_that_starts_again_lists_only_its_own_scope() -> None:
    async def test() -> None:
        listed = Listed(Objects())
        with listed.running():
            await asyncio.sleep(60)
            listed.objects.asked.clear()
            listed.lists.ask_for(PODS_B)
            await asyncio.sleep(30)
            assert [scope for _, scope in listed.objects.asked] == [PODS_B]

    run(test())


def test_a_watch_that_always_starts_again_makes_lists_rarer_and_rarer() -> None:
    async def test() -> None:
        listed = Listed(Objects())
        with listed.running():
            for _ in range(3600 // 3):
                await asyncio.sleep(3)
                listed.lists.ask_for(PODS_A)
                if now() > 600:
                    break
            assert len(listed.objects.times(PODS_A)) < 30
            assert max(map(len, map(listed.objects.times, (PODS_B, SERVERS_A)))) <= 4

    run(test())


def test_only_retry_after_delays_scopes_that_must_be_listed_again() -> None:
    """After a change of the leader or a restored backup, earlier lists, pauses and failures do not count."""

    async def test() -> None:
        failing: dict[Scope, Exception] = {
            PODS_B: ApiError(500, "etcd is away"),
            SERVERS_A: ApiError(429, "later", retry_seconds=120.0),
        }
        listed = Listed(Objects(errors=failing))
        with listed.running():
            await asyncio.sleep(200)
            for _ in range(20):
                listed.lists.ask_for(PODS_A)
                await asyncio.sleep(5)
            listed.objects.asked.clear()
            began = now()
            listed.lists.relist_all()
            await asyncio.sleep(3 * GATHER_SECONDS)
            assert all(listed.objects.times(scope)[0] - began <= GATHER_SECONDS for scope in (PODS_A, PODS_B))
            assert listed.objects.times(SERVERS_A) == []

    run(test())


def test_an_untouched_lease_needs_lists_only_of_scopes_with_broken_watches() -> None:
    async def test() -> None:
        listed = Listed(Objects())
        with listed.running():
            await asyncio.sleep(100)
            listed.lists.ask_for(PODS_A)  # A watch has begun again.
            listed.objects.asked.clear()
            listed.lists.relist_broken({PODS_B})
            unread = [scope for scope in listed.lists.scopes if not listed.lists.scopes.has_read(*place(scope))]
            assert unread == [PODS_A, PODS_B]
            await asyncio.sleep(3 * GATHER_SECONDS)
            assert {scope for scope in listed.lists.scopes if listed.objects.times(scope)} == {PODS_A, PODS_B}
            listed.lists.relist_broken(set())
            assert all(listed.lists.scopes.has_read(*place(scope)) for scope in listed.lists.scopes)

    run(test())


def place(scope: Scope) -> tuple[str, list[Kind]]:
    return scope.namespace or "", [scope.kind]


def test_a_list_is_repeated_periodically() -> None:
    async def test() -> None:
        listed = Listed(Objects())
        with listed.running():
            await asyncio.sleep(WATCH_SECONDS + 2 * (RESYNC_SECONDS + 20))
            for scope in listed.lists.scopes:
                assert len(listed.objects.times(scope)) == 3

    run(test())


@pytest.mark.parametrize("status", [403, 404])
def test_a_refused_scope_delays_no_other_and_comes_back_by_itself(status: int) -> None:
    async def test() -> None:
        listed = Listed(Objects(errors={PODS_B: ApiError(status, "why")}))
        with listed.running():
            await listed.lists.wait_until_everything_is_read()
            assert now() == pytest.approx(WATCH_SECONDS)
            await asyncio.sleep(200)
            assert not listed.lists.scopes.has_read(Key(B, "kimi", SERVER).namespace, SERVER_TYPE.own_kinds)
            del listed.objects.errors[PODS_B]
            await asyncio.sleep(RETRY.longest)
            assert listed.lists.scopes.has_read(Key(B, "kimi", SERVER).namespace, SERVER_TYPE.own_kinds)
            assert (PODS_B, set(), True) in listed.told

    run(test())


def test_a_refused_list_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        with Listed(Objects(errors={PODS_B: ApiError(403, "why")})).running():
            await asyncio.sleep(1000)

    run(test())
    [line] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert line.getMessage() == "Cannot list pods in namespace other, retrying until it works: 403: why"


def test_a_slow_list_delays_no_other() -> None:
    async def test() -> None:
        listed = Listed(Objects(seconds={PODS_B: 60}))
        with listed.running():
            await asyncio.sleep(WATCH_SECONDS + 1)
            assert listed.lists.scopes.has_read(KIMI.namespace, SERVER_TYPE.own_kinds)
            await listed.lists.wait_until_everything_is_read()
            assert now() == pytest.approx(WATCH_SECONDS + 60)

    run(test())


def test_a_list_that_never_ends_does_not_prevent_leading() -> None:
    async def test() -> None:
        listed = Listed(Objects(seconds={PODS_B: 100_000}))
        with listed.running():
            await listed.lists.wait_until_everything_is_read()
            assert now() == pytest.approx(WATCH_SECONDS + OWN_FAULT_SECONDS, abs=1.1)
            assert listed.lists.scopes.unreadable(now()) == {PODS_B: "it is still being listed"}

    run(test())


def test_an_api_server_that_does_not_answer_is_waited_for() -> None:
    async def test() -> None:
        scopes = new_scopes([A, B])
        listed = Listed(Objects(errors={scope: ApiError(0, "no answer") for scope in scopes}))
        with listed.running():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(listed.lists.wait_until_everything_is_read(), 1000)
            listed.objects.errors.clear()
            await asyncio.wait_for(listed.lists.wait_until_everything_is_read(), RETRY.longest)

    run(test())


def test_objects_of_the_first_pages_are_reported_although_a_later_page_fails() -> None:
    async def test() -> None:
        listed = Listed(Objects())
        with listed.running():
            await listed.lists.wait_until_everything_is_read()
            await asyncio.sleep(30)
            listed.told.clear()
            listed.objects.pages[PODS_A] = [[make_pod(namespace=A, version=7)]]
            listed.objects.errors[PODS_A] = ApiError(503, "no second page")
            listed.lists.ask_for(PODS_A)
            await asyncio.sleep(GATHER_SECONDS + 0.1)
            assert listed.told == [(PODS_A, {KIMI}, False)]

    run(test())


def test_objects_missing_in_a_list_are_dropped_even_if_the_list_is_empty() -> None:
    async def test() -> None:
        listed = Listed(Objects(pages={PODS_A: [[make_pod(namespace=A)]]}))
        with listed.running():
            await listed.lists.wait_until_everything_is_read()
            await asyncio.sleep(30)
            assert len(listed.lists.cache.children(POD, KIMI)) == 1
            listed.objects.pages[PODS_A] = [[]]
            listed.told.clear()
            listed.lists.ask_for(PODS_A)
            await asyncio.sleep(1)
            assert listed.lists.cache.children(POD, KIMI) == []
            assert listed.told == [(PODS_A, {KIMI}, False)]

    run(test())


def test_listed_objects_are_in_the_cache_when_the_list_is_reported() -> None:
    async def test() -> None:
        listed = Listed(Objects(pages={SERVERS_A: [[make_server()], [make_server("second")]]}))
        with listed.running():
            await listed.lists.wait_until_everything_is_read()
            assert listed.lists.cache.resources() == [KIMI, Key(A, "second", SERVER)]
            assert (SERVERS_A, {KIMI, Key(A, "second", SERVER)}, True) in listed.told
            assert (Scope(DEPLOYMENT, A), set(), True) in listed.told

    run(test())


def test_an_unreadable_object_affects_no_other_and_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        listed = Listed(
            Objects(pages={PODS_A: [[odd_pod(), make_pod(namespace=A)], [make_pod("kimi-1", namespace=A)]]})
        )
        lists = listed.lists
        with listed.running():
            await lists.wait_until_everything_is_read()
            assert now() == pytest.approx(WATCH_SECONDS)
            assert len(lists.cache.children(POD, KIMI)) == 2
            assert lists.unreadable.messages() == ["cannot read Pod default/odd: ValueError"]
            await asyncio.sleep(3 * RESYNC_SECONDS)
            assert len(listed.objects.times(PODS_A)) <= 5, "the list has not failed"
            assert lists.scopes.unreadable(now()) == {}
            listed.objects.pages[PODS_A] = [[make_pod("odd", namespace=A)]]
            await asyncio.sleep(RESYNC_SECONDS)
            assert lists.unreadable.messages() == []

    run(test())
    [line] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.getMessage().startswith("Cannot read Pod default/odd. ")
    assert line.exc_info, "a bug is logged with its trace"


def test_only_a_few_of_thousands_of_unreadable_objects_are_named(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        odd = [odd_pod(f"odd-{number:04}") for number in range(2_000)]
        listed = Listed(Objects(pages={PODS_A: [odd], PODS_B: [[{}]]}))
        with listed.running():
            await asyncio.sleep(WATCH_SECONDS + 2 * RESYNC_SECONDS)
            told = listed.lists.unreadable.messages()
            assert (len(told), told[-1]) == (MOST_NAMED + 1, f"cannot read {2_001 - MOST_NAMED} more pods")

    run(test())
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == MOST_NAMED + 2
    assert (
        f"More than {MOST_NAMED} objects of pods in namespace default cannot be read. The log does not name the others"
        in lines
    )


def odd_pod(name: str = "odd") -> Any:
    """Return a pod that cannot be read, because no API server uses such a version."""
    pod = make_pod(name, namespace=A)
    return {**pod, "metadata": {**pod["metadata"], "resourceVersion": "no number"}}


def test_a_watch_that_starts_again_does_not_speed_up_a_failing_list() -> None:
    async def test() -> None:
        errors: dict[Scope, Exception] = {PODS_A: ApiError(429, "busy", 60), PODS_B: ApiError(500, "broken")}
        listed = Listed(Objects(errors=errors))
        with listed.running():
            for _ in range(1200):
                await asyncio.sleep(1)
                listed.lists.ask_for(PODS_A)
                listed.lists.ask_for(PODS_B)
            asked = listed.objects.times(PODS_A)
            assert min(later - earlier for earlier, later in pairwise(asked)) >= 60
            assert len(listed.objects.times(PODS_B)) < 1200 / (RETRY.longest / 2) + 10

    run(test())


def test_a_kind_whose_lists_all_hang_prevents_no_lead_and_delays_no_other_kind() -> None:
    async def test() -> None:
        namespaces = [f"n{number}" for number in range(25)]
        hanging = {Scope(POD, namespace) for namespace in namespaces}
        listed = Listed(Objects(seconds=dict.fromkeys(hanging, 100_000)), namespaces)
        with listed.running():
            await asyncio.sleep(WATCH_SECONDS + 1)
            others = set(listed.lists.scopes) - hanging
            assert others <= {scope for _, scope in listed.objects.asked}
            await listed.lists.wait_until_everything_is_read()
            assert now() == pytest.approx(WATCH_SECONDS + OWN_FAULT_SECONDS, abs=1.1)
            assert set(listed.lists.scopes.unreadable(now())) == hanging

    run(test())


@dataclass
class Hanging(Objects):
    """Lists of pods in some namespaces get no answer until the operator cancels them."""

    places: set[str] = field(default_factory=set)
    under_way: int = 0
    most: int = 0

    async def list_pages(self, kind: Kind, namespace: str | None, selector: str) -> AsyncIterator[Page]:
        self.under_way += kind == POD
        self.most = max(self.most, self.under_way)
        try:
            if kind == POD and namespace in self.places:
                await asyncio.sleep(LIST_SECONDS)
                raise ApiError(0, "no answer")
            async for page in Objects.list_pages(self, kind, namespace, selector):
                yield page
        finally:
            self.under_way -= kind == POD


def hanging_in(count: int) -> tuple[Hanging, Listed]:
    """Return lists over some namespaces. In this number of them, the lists of pods hang."""
    namespaces = [f"n{number}" for number in range(count + 2)]
    objects = Hanging(places=set(namespaces[:count]))
    return objects, Listed(objects, namespaces)


async def seconds_until_the_rest_is_known(objects: Hanging, listed: Listed) -> float:
    """Return the seconds after a change of the leader until all scopes are read, except scopes with hanging lists."""
    began, scopes = now(), listed.lists.scopes
    listed.lists.relist_all()
    rest = [scope for scope in scopes if scope.kind != POD or scope.namespace not in objects.places]
    while not all(scopes.has_read(scope.namespace or "", [scope.kind]) for scope in rest):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return now() - began


def test_two_namespaces_whose_lists_begin_to_hang_delay_others_only_by_seconds() -> None:
    async def test() -> None:
        objects, listed = hanging_in(2)
        hang, objects.places = objects.places, set()
        with listed.running():
            await listed.lists.wait_until_everything_is_read()
            await asyncio.sleep(30)
            objects.places = hang
            for place in hang:
                listed.lists.ask_for(Scope(POD, place))
            await asyncio.sleep(2 * GATHER_SECONDS)
            assert objects.under_way == LISTS_AT_ONCE
            assert await seconds_until_the_rest_is_known(objects, listed) <= LONG_SECONDS + 2 * GATHER_SECONDS

    run(test())


def test_namespaces_known_to_have_hanging_lists_delay_no_other() -> None:
    async def test() -> None:
        objects, listed = hanging_in(20)
        with listed.running():
            await asyncio.sleep(WATCH_SECONDS + 20 / LISTS_AT_ONCE * LIST_SECONDS)
            for _ in range(5):
                assert await seconds_until_the_rest_is_known(objects, listed) <= 2 * GATHER_SECONDS
                await asyncio.sleep(30)

    run(test())


def test_at_most_two_lists_of_a_kind_and_two_slow_ones_run_at_once() -> None:
    async def test() -> None:
        objects, listed = hanging_in(20)
        with listed.running():
            await asyncio.sleep(1000)
            assert objects.most == 2 * LISTS_AT_ONCE
            objects.places.clear()
            await asyncio.sleep(LIST_SECONDS + RETRY.longest + GATHER_SECONDS)
            assert (listed.lists.scopes.unreadable(now()), objects.under_way) == ({}, 0)
            assert not listed.lists._lanes[POD]._late

    run(test())


def test_a_scope_that_is_neither_listed_nor_watched_becomes_unknown_and_comes_back() -> None:
    async def test() -> None:
        listed = Listed(Objects())
        scopes, resource = listed.lists.scopes, Key(B, "kimi", SERVER)
        with listed.running():
            await listed.lists.wait_until_everything_is_read()
            listed.objects.errors[PODS_B] = ApiError(500, "broken")
            await asyncio.sleep(2 * RESYNC_SECONDS)
            assert (scopes.has_read(resource.namespace, SERVER_TYPE.own_kinds), scopes.unreadable(now())) == (True, {})
            listed.unwatched.add(PODS_B)
            await asyncio.sleep(RESYNC_SECONDS)
            assert (scopes.has_read(resource.namespace, SERVER_TYPE.own_kinds), scopes.unreadable(now())) == (
                False,
                {PODS_B: "500: broken"},
            )
            listed.objects.errors.clear()
            await asyncio.sleep(RETRY.longest)
            assert (scopes.has_read(resource.namespace, SERVER_TYPE.own_kinds), scopes.unreadable(now())) == (True, {})

    run(test())


@pytest.mark.parametrize("seconds", [0.1, 2.0, 8.0])
def test_lists_end_although_a_list_is_requested_in_the_moment_of_the_end(seconds: float) -> None:
    """They wait for their watch, gather requests, or rest after a list. A waiting task could miss its cancellation."""

    async def test() -> None:
        listed = Listed(Objects())
        task = asyncio.ensure_future(listed.lists.run())
        await asyncio.sleep(0.01)
        if seconds > 1:
            listed.lists.relist_all()
        await asyncio.sleep(seconds)
        listed.lists.relist_all()
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=30)
        assert done == {task}

    run(test())
