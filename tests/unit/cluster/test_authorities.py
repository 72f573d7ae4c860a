"""The certificate authority of a cluster is replaced while the operator runs.

The operator continues without a restart.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from answering import stored_object
from kimi_linear_operator.cluster.client import connect
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.watch_session import watch_session
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, Manifest

# Two authorities that are also the certificates of an API server at 127.0.0.1, with their keys. Only tests trust them.
_AUTHORITIES = Path(__file__).parent / "authorities"
_MANIFEST: Manifest = {"metadata": {"name": "kimi", "namespace": "default"}}


def _use(context: ssl.SSLContext, name: str) -> None:
    """Let the API server use the certificate of this authority."""
    context.load_cert_chain(_AUTHORITIES / f"{name}.crt", _AUTHORITIES / f"{name}.key")


def _trust(file: Path, *names: str) -> None:
    """Write these authorities into the file of the cluster's authorities."""
    file.write_text("".join((_AUTHORITIES / f"{name}.crt").read_text() for name in names))


def _write_kubeconfig(file: Path, address: str, authority: Path) -> None:
    cluster = {"server": address, "certificate-authority": str(authority)}
    content = {
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": cluster}],
        "users": [{"name": "me", "user": {"token": "x"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    }
    file.write_text(yaml.safe_dump(content))


@asynccontextmanager
async def _api_server(context: ssl.SSLContext, kubeconfig: Path, authority: Path) -> AsyncIterator[None]:
    """Run an API server that closes each connection, and name it and its authority in a kubeconfig."""

    async def answer(_: web.Request) -> web.Response:
        response = web.json_response(stored_object(CONFIG_MAP, "kimi"))
        response.force_close()
        return response

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(application)
    await server.start_server(ssl=context)
    try:
        _write_kubeconfig(kubeconfig, str(server.make_url("")).rstrip("/"), authority)
        yield
    finally:
        await server.close()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of the cluster's authority, with the first one."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    file = tmp_path / "ca.crt"
    _trust(file, "first")
    return file


def test_requests_continue_after_the_authority_was_replaced(authority: Path, tmp_path: Path) -> None:
    async def test() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _use(context, "first")
        async with _api_server(context, tmp_path / "kubeconfig", authority), connect() as cluster:
            assert await cluster.get(CONFIG_MAP, "default", "kimi")
            _trust(authority, "first", "second")
            _use(context, "second")
            assert await cluster.get(CONFIG_MAP, "default", "kimi")
            assert await cluster.create(CONFIG_MAP, _MANIFEST)

    asyncio.run(test())


def test_watches_continue_after_the_authority_was_replaced(authority: Path, tmp_path: Path) -> None:
    async def test() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _use(context, "first")
        async with _api_server(context, tmp_path / "kubeconfig", authority):
            session = await watch_session({})
            async with session.client as client:
                assert (await client.get(f"{session.server}/api")).status == 200
                _trust(authority, "second")
                _use(context, "second")
                with pytest.raises(aiohttp.ClientSSLError):
                    await client.get(f"{session.server}/api")
                assert (await client.get(f"{session.server}/api")).status == 200, "kopf tries again"

    asyncio.run(test())


def test_a_server_with_an_untrusted_certificate_gets_no_request(authority: Path, tmp_path: Path) -> None:
    async def test() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _use(context, "second")
        async with _api_server(context, tmp_path / "kubeconfig", authority), connect() as cluster:
            for _ in range(2):
                with pytest.raises(ApiError, match="certificate verify failed"):
                    await cluster.create(CONFIG_MAP, _MANIFEST)

    asyncio.run(test())
