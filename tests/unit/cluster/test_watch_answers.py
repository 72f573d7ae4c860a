"""Odd answers to one list or watch do not affect others.

kopf goes on, and watches this path again when the answers are right.
"""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from kimi_linear_operator.cluster import answer
from kimi_linear_operator.kubernetes.kinds import POD
from kimi_linear_operator.reconcile.cached_object import CachedObject
from kimi_linear_operator.runtime.kopf_watch import Watch
from kimi_linear_operator.runtime.scopes import Scope
from make import make_pod
from passes import READER

PAGE = b"<html>maintenance</html>\n"
HTML, JSON = "text/html", "application/json"
# For each namespace that gets an odd answer: the kind of request, and the answer's status, content type, headers and
# body.
FAULTS: dict[str, tuple[str, int, str, dict[str, str], bytes]] = {
    "list-html": ("LIST", 200, HTML, {}, PAGE),
    "list-html-as-json": ("LIST", 200, JSON, {}, PAGE),
    "list-status": ("LIST", 200, JSON, {}, b'{"status":"maintenance"}'),
    "list-array": ("LIST", 200, JSON, {}, b"[]"),
    "list-without-version": ("LIST", 200, JSON, {}, b'{"metadata":{},"items":[]}'),
    "list-metadata-null": ("LIST", 200, JSON, {}, b'{"metadata":null,"items":null}'),
    "list-binary": ("LIST", 500, JSON, {}, b"\xff\xfe\x00"),
    "list-odd-error": ("LIST", 429, JSON, {}, b'{"kind":"Status","details":{"retryAfterSeconds":"soon"}}'),
    "list-moved": ("LIST", 302, JSON, {"Location": "/login"}, b""),
    "list-no-content": ("LIST", 204, JSON, {}, b""),
    "watch-html": ("WATCH", 200, HTML, {}, PAGE),
    "watch-html-as-json": ("WATCH", 200, JSON, {}, PAGE),
    "watch-binary": ("WATCH", 200, JSON, {}, b"\xff\xfe\n"),
    "watch-empty": ("WATCH", 200, JSON, {}, b""),
    "watch-array": ("WATCH", 200, JSON, {}, b"[1]\n"),
    "watch-string": ("WATCH", 200, JSON, {}, b'{"type":"ADDED","object":"x"}\n'),
    "watch-null": ("WATCH", 200, JSON, {}, b'{"type":"ADDED","object":{"metadata":null}}\n'),
    "watch-nobody": ("WATCH", 200, JSON, {}, b'{"type":"ADDED","object":{"metadata":{}}}\n'),
    "watch-odd-error": ("WATCH", 200, JSON, {}, b'{"object":null,"type":"ERROR"}\n'),
    "watch-moved": ("WATCH", 302, JSON, {"Location": "/login"}, b""),
    "watch-date": ("WATCH", 429, JSON, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"{}"),
    "watch-infinite": ("WATCH", 429, JSON, {"Retry-After": "inf"}, b"{}"),
    "watch-for-long": ("WATCH", 429, JSON, {"Retry-After": "300"}, b"{}"),
    "watch-refused": ("WATCH", 415, JSON, {}, b"{}"),
}
FINE = "fine"


class ApiServer:
    """Answers with the faults while they are switched on. Refuses requests for all kinds except pods."""

    def __init__(self) -> None:
        self.is_faulty = True
        self.forbidden: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/pods"):
            self.forbidden.append(request.path)
            return web.Response(status=403)
        namespace = request.path.split("/")[-2]
        asked = "WATCH" if "watch" in request.query else "LIST"
        verb, status, content_type, headers, body = FAULTS.get(namespace, ("", 0, "", {}, b""))
        if self.is_faulty and asked == verb:
            return web.Response(status=status, body=body, content_type=content_type, headers=headers)
        if asked == "LIST":
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        watch = web.StreamResponse()
        await watch.prepare(request)
        await watch.write(json.dumps({"type": "ADDED", "object": make_pod(namespace=namespace)}).encode() + b"\n")
        await asyncio.sleep(60)
        return watch


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def test_odd_answers_in_one_scope_end_no_watch_and_are_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answer, "LONGEST_RETRY_SECONDS", 2.0)
    caplog.set_level("WARNING", "kimi_linear_operator")
    namespaces = [*FAULTS, FINE]
    scopes = tuple(Scope(POD, namespace) for namespace in namespaces)
    seen, listed = set[str](), list[Scope]()

    def observe(sight: CachedObject) -> None:
        seen.add(sight.key.namespace)

    async def test() -> None:
        server = ApiServer()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", server.answer)
        async with TestServer(application, shutdown_timeout=0.1) as running:
            write_kubeconfig(tmp_path / "config", str(running.make_url("")).rstrip("/"))
            monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
            watch = Watch(namespaces, scopes, READER, observe, listed.append)
            watching = asyncio.create_task(asyncio.to_thread(watch.run))
            try:
                await until(lambda: FINE in seen)
                await asyncio.sleep(1.5)
                assert seen == {FINE}
                assert FINE in {scope.namespace for scope in listed}
                server.is_faulty = False
                await until(lambda: seen == set(namespaces))
            finally:
                watch.stop()
                await watching
        assert server.forbidden == [], "kopf requests only the watched kinds"

    asyncio.run(test())
    assert "Watching ended" not in caplog.text


def write_kubeconfig(file: Path, address: str) -> None:
    named = {
        "clusters": [{"name": "it", "cluster": {"server": address}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
    }
    file.write_text(yaml.safe_dump({**named, "current-context": "it"}))
