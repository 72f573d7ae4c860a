"""Two releases of SGLang's router in front of three replicas: what happens to requests."""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from client.processes import StandIn
from integration.waiting import stays, wait_for
from router.processes import (
    HOSTS,
    KEY,
    RELEASES,
    Router,
    container,
    free_port,
    load,
    parsed,
    question,
    running,
    start_replica,
)

FIRST, SECOND, THIRD = HOSTS
_SECONDS_TO_END = 30


class Replicas:
    """The replicas by their hosts, all on one port."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.port = free_port(FIRST)
        self._folder, self._stack = folder, stack
        self._by_host: dict[str, StandIn] = {}
        for host in HOSTS:
            self.start(host)

    def start(self, host: str) -> None:
        self._by_host[host] = self._stack.enter_context(start_replica(host, self.port, self._folder / host))
        assert self._by_host[host].url

    def kill(self, host: str) -> None:
        self._by_host[host].process.kill()
        self._by_host[host].process.wait()

    def drain(self, host: str) -> int:
        """End a replica like the kubelet. Return its exit code."""
        self._by_host[host].stop()
        return self._by_host[host].process.wait(_SECONDS_TO_END)


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    with ExitStack() as stack:
        yield Replicas(tmp_path_factory.mktemp("replicas"), stack)


@pytest.fixture(scope="module", params=RELEASES)
def router(request: pytest.FixtureRequest, replicas: Replicas, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(request.param, tmp_path_factory.mktemp("router"), replicas.port) as started:
        yield started


def test_a_request_is_answered_only_with_the_key(router: Router) -> None:
    assert router.ask("/readiness", key=None)[0] == 200
    assert router.ask("/v1/chat/completions", question(1), key=None)[0] == 401
    status, answer = router.ask("/v1/chat/completions", question(1))
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "You said: x")


def test_the_key_is_on_no_command_line_and_in_no_log(router: Router) -> None:
    assert "launch_router" in router.command_lines()
    assert KEY not in router.command_lines()
    assert KEY not in router.log


def test_a_replica_that_drains_gets_no_new_request_and_loses_none(router: Router, replicas: Replicas) -> None:
    outcome: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: outcome.update(asyncio.run(load(router, users=9, seconds=8))))
    thread.start()
    try:
        # The endpoints change when a pod is deleted. SIGTERM comes after the pause of the preStop hook.
        router.publish([FIRST, THIRD])
        router.wait_until_listed(FIRST, THIRD)
        # The replica ends as soon as it has no request. So it gets no new request, although eight users send requests.
        replicas.drain(SECOND)
    finally:
        thread.join()
        replicas.start(SECOND)
        router.publish(HOSTS)
        router.wait_until_listed(*HOSTS)
    assert set(outcome) == {"200"}, outcome
    assert outcome["200"] > 50


def test_no_request_is_lost_when_a_replica_is_killed(router: Router, replicas: Replicas) -> None:
    outcome: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: outcome.update(asyncio.run(load(router, users=9, seconds=6))))
    thread.start()
    try:
        threading.Event().wait(2)
        replicas.kill(SECOND)
    finally:
        thread.join()
        replicas.start(SECOND)
        wait_for(lambda: router.ask("/readiness")[1]["healthy_workers"], "the replica is back", lambda seen: seen == 3)
    assert set(outcome) == {"200"}, outcome


def test_invalid_requests_of_one_client_close_no_replica_to_others(router: Router) -> None:
    answers = {router.ask("/v1/chat/completions", question(1, messages=[]))[0] for _ in range(40)}
    assert answers == {400}
    assert {router.ask("/v1/chat/completions", question(1))[0] for _ in range(6)} == {200}


def test_a_replica_that_somebody_adds_is_removed(router: Router) -> None:
    # A release may need several attempts.
    assert router.ask("/workers", {"url": router_url(router, "127.0.0.1")})[0] == 202
    stays(lambda: router.ask("/v1/chat/completions", question(1))[0], "200", lambda seen: seen == 200, seconds=2)
    router.wait_until_listed(*HOSTS)


def router_url(router: Router, host: str) -> str:
    return f"http://{host}:{router.replicas_port}"


def test_replicas_stay_for_a_while_without_an_address_in_dns(router: Router) -> None:
    router.publish([])
    stays(lambda: router.listed, "the router keeps all replicas", lambda seen: seen == set(HOSTS), seconds=3)
    router.publish(HOSTS)


def test_a_request_counts_even_if_no_replica_answers_and_a_probe_does_not(router: Router) -> None:
    before = counted(router)
    assert router.ask("/liveness", key=None)[0] == 200
    assert router.ask("/workers")[0] == 200
    assert counted(router) == before
    router.publish([])
    router.wait_until_listed()
    try:
        assert router.ask("/v1/chat/completions", question(1))[0] == 503
        assert counted(router) == before + 1
    finally:
        router.publish(HOSTS)
        router.wait_until_listed(*HOSTS)


def counted(router: Router) -> float:
    """Return the sum of the counter that the query of a ScaledObject reads."""
    with urlopen(f"http://127.0.0.1:{router.metrics_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(r"^smg_router_requests_total{.*} (\S+)$", text, re.MULTILINE))


# This is the last test with each router, because it ends the router.
def test_a_router_that_ends_finishes_its_open_requests(router: Router) -> None:
    outcome: list[int] = []
    thread = threading.Thread(target=lambda: outcome.append(router.ask("/v1/chat/completions", question(300))[0]))
    thread.start()
    threading.Event().wait(1)
    router.stop()
    thread.join()
    assert outcome == [200]
    # The launcher ends like the router.
    assert router.process.wait(_SECONDS_TO_END) == 0


@pytest.mark.parametrize("release", RELEASES)
def test_the_routers_own_parser_reads_every_flag(release: str) -> None:
    policies = ("LeastLoad", "CacheAware", "RoundRobin")
    commands = [container(router={"policy": policy}, drain={"timeoutSeconds": 77})["args"][3:] for policy in policies]
    read = parsed(release, commands)
    assert [arguments["policy"] for arguments in read] == ["cache_aware", "cache_aware", "round_robin"]
    assert (read[0]["balance_abs_threshold"], read[0]["balance_rel_threshold"]) == (0, 1.0)
    for command, arguments in zip(commands, read, strict=True):
        for word in command[3:]:
            name, _, value = word.removeprefix("--").partition("=")
            assert str(arguments[name.replace("-", "_")]) == (value or "True")
    assert {arguments["shutdown_grace_period_secs"] for arguments in read} == {77}
