"""A server has one key and one label for all ways in which a benchmark can name it.

Two servers never share a key or a label.
"""

import re

import pytest

from kimi_linear_operator.benchmark.address import TargetKey, key_of, label_of, target_of
from make import make_benchmark

KIMI = TargetKey("default", "kimi")


@pytest.mark.parametrize(
    "url",
    [
        "http://kimi.default.svc:30000",
        "http://kimi.default.svc.cluster.local:30000",
        "http://kimi.default.svc.cluster.local.:30000",
        "http://kimi.default.svc.corp.example:30000",
        "http://kimi.default:30000",
        "http://kimi",
        "HTTP://Kimi.Default.SVC",
        "https://kimi.default.svc:8443",
        "http://kimi-headless.default.svc:30000",
        "http://10-0-0-1.kimi-headless.default.svc.cluster.local",
    ],
)
def test_every_spelling_of_a_services_name_gives_the_key_of_the_reference(url: str) -> None:
    assert key_of(url, "default") == KIMI == target_of(make_benchmark(serverRef={"name": "kimi"}))


@pytest.mark.parametrize(
    ("url", "namespace", "expected"),
    [
        ("http://kimi.default.svc", "elsewhere", KIMI),
        ("http://kimi", "elsewhere", TargetKey("elsewhere", "kimi")),
        ("http://llm.example.com", "default", TargetKey("", "llm.example.com:80")),
        ("https://LLM.example.com.", "default", TargetKey("", "llm.example.com:443")),
        ("https://llm.example.com:443", "default", TargetKey("", "llm.example.com:443")),
        ("http://llm.example.com:8080", "default", TargetKey("", "llm.example.com:8080")),
        ("http://10.0.0.1:30000", "default", TargetKey("", "10.0.0.1:30000")),
        ("http://[FD00:0::10]:30000", "default", TargetKey("", "[fd00::10]:30000")),
        ("http://[fd00::10]", "default", TargetKey("", "[fd00::10]:80")),
        ("not an address", "default", TargetKey("", "not an address")),
        ("http://a:b:c", "default", TargetKey("", "http://a:b:c")),
    ],
)
def test_the_key_of_any_other_address_is_host_and_port(url: str, namespace: str, expected: TargetKey) -> None:
    assert key_of(url, namespace) == expected


def test_labels_are_valid_and_differ_for_different_keys() -> None:
    keys = [
        KIMI,
        TargetKey("kimi", "default"),
        TargetKey("d", "kimi.default"),
        TargetKey("default", "x" * 63),
        TargetKey("default", "x" * 62 + "y"),
        TargetKey("", "kimi.default"),
        TargetKey("", "[fd00::10]:80"),
        TargetKey("a", "-odd-"),
    ]
    labels = [label_of(key) for key in keys]
    assert labels[0] == "kimi.default"
    assert len(set(labels)) == len(keys)
    assert all(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", label) for label in labels)
