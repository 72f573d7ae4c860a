"""The connection to the API server: the same proxy and namespace as kubectl's."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import yaml
from kubernetes.aio.client import Configuration

from kimi_linear_operator.cluster import credentials
from kimi_linear_operator.cluster.client import connect
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.watch_session import watch_session

PROXY = "http://proxy.corp:3128"


def write_kubeconfig(folder: Path, context: Mapping[str, str] = MappingProxyType({}), proxy: str = "") -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [
            {"name": "here", "cluster": {"server": "https://10.96.0.1:443", **({"proxy-url": proxy} if proxy else {})}}
        ],
        "users": [{"name": "me", "user": {"token": "x"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", **context}}],
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def in_cluster(client_configuration: Configuration) -> None:
    client_configuration.host = "https://10.96.0.1:443"


@pytest.mark.parametrize("where", ["kubeconfig", "pod"])
@pytest.mark.parametrize(
    ("no_proxy", "proxy"), [("10.96.0.0/12,.svc", None), ("10.96.0.1", None), ("10.0.0.0/16", PROXY), ("", PROXY)]
)
def test_client_and_watches_use_the_same_proxy(
    where: str, no_proxy: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    if where == "kubeconfig":
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path)))
    else:
        monkeypatch.setattr(credentials, "load_incluster_config", in_cluster)

    async def proxies() -> tuple[str | None, ...]:
        async with connect() as cluster:
            session = (await watch_session({})).client
            async with session:
                return _text(cluster.transport.session._default_proxy), _text(session._default_proxy)

    assert asyncio.run(proxies()) == (proxy, proxy)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def test_the_proxy_of_a_kubeconfig_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, proxy="http://own:1")))
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "*")
    assert asyncio.run(credentials.configuration()).proxy == "http://own:1"


def test_the_namespace_is_that_of_the_context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, {"namespace": "team-a"})))
    assert credentials.current_namespace() == "team-a"
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path)))
    assert credentials.current_namespace() == "default"


def test_without_a_kubeconfig_the_namespace_is_that_of_the_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert credentials.current_namespace() == "default"
    (tmp_path / "namespace").write_text("own\n")
    monkeypatch.setattr(credentials, "_POD_NAMESPACE", tmp_path / "namespace")
    assert credentials.current_namespace() == "own"


def test_a_broken_kubeconfig_gives_our_own_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("contexts: 1")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with pytest.raises(ApiError, match="no cluster"):
        credentials.current_namespace()
