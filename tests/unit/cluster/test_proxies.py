"""The proxy for the API server is the proxy that kubectl would use.

Go's httpproxy gave the same answers in all of these cases.
"""

import pytest

from kimi_linear_operator.cluster import proxies

PROXY = "http://proxy.corp:3128"


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        ("https://10.96.0.1:443", "10.96.0.1"),
        ("https://10.96.0.1:443", "10.96.0.0/12,.svc"),
        ("https://10.96.0.1:443", "example.com, 10.0.0.0/8 "),
        ("https://10.96.0.1:443", "10.96.0.1:443"),
        ("https://10.96.0.1", "10.96.0.1:443"),
        ("https://[fd00::1]:443", "fd00::/8"),
        ("https://[fd00::1]:443", "fd00::1"),
        ("https://[fd00::1]:443", "[fd00::1]:443"),
        ("https://[::ffff:10.96.0.1]:443", "10.96.0.0/12"),
        ("https://10.96.0.1:443", "*"),
        ("https://api.corp.example.com:6443", "*"),
        ("https://api.corp.example.com:6443", "example.com"),
        ("https://example.com:6443", "example.com"),
        ("https://API.Corp.Example.com:6443", "EXAMPLE.COM"),
        ("https://api.corp.example.com:6443", ".example.com"),
        ("https://api.corp.example.com:6443", "*.example.com"),
        ("https://api.corp.example.com:6443", "corp.example.com:6443"),
        ("https://kubernetes.default.svc", ".svc"),
        ("https://kubernetes.default.svc", "svc"),
        ("https://localhost:6443", ""),
        ("https://127.9.9.9:6443", ""),
        ("https://[::1]:6443", ""),
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_hosts_in_no_proxy_are_reached_directly(url: str, no_proxy: str, name: str) -> None:
    assert proxies.proxy_for(url, {"HTTPS_PROXY": PROXY, name: no_proxy}) is None


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        ("https://10.96.0.1:443", ""),
        ("https://10.96.0.1:443", "10.96.0.2,10.96."),
        ("https://10.96.0.1:443", "10.97.0.0/16"),
        ("https://10.96.0.1:443", "10.96.0.1/33"),
        ("https://10.96.0.1:443", "10.96.0.1:6443"),
        ("https://[fd00::1]:443", "[fd00::1]:6443"),
        ("https://[fd00::1]:443", "10.0.0.0/8,0.0.0.0/0"),
        ("https://notexample.com", "example.com"),
        ("https://example.com", ".example.com"),
        ("https://example.com", "*.example.com"),
        ("https://example.com", "example.com:80"),
        ("https://example.com", "foo.*,:443,,"),
        ("https://kubernetes.default.svc", "svc."),
    ],
)
def test_hosts_that_are_not_in_no_proxy_are_reached_through_the_proxy(url: str, no_proxy: str) -> None:
    assert proxies.proxy_for(url, {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}) == PROXY


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://example.com", {"https_proxy": PROXY}, PROXY),
        ("https://example.com", {"HTTPS_PROXY": "", "https_proxy": PROXY}, PROXY),
        ("https://example.com", {"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"}, "http://a:1"),
        ("https://example.com", {"HTTP_PROXY": PROXY}, None),
        ("http://example.com", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://example.com", {"HTTPS_PROXY": PROXY}, None),
        ("https://example.com", {"HTTPS_PROXY": "proxy.corp:3128"}, PROXY),
        ("https://example.com", {"HTTPS_PROXY": "proxy.corp"}, "http://proxy.corp"),
        ("https://example.com", {"ALL_PROXY": PROXY}, None),
        ("https://example.com", {}, None),
    ],
)
def test_the_scheme_chooses_the_variable(url: str, environment: dict[str, str], proxy: str | None) -> None:
    assert proxies.proxy_for(url, environment) == proxy
