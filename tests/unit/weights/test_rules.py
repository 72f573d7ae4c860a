"""Errors and warnings of weights: each rule alone, and wrong shapes with their remedies."""

from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.problem import Problem
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.weights.rules import RULES
from make import make_weights


def problems(**spec: Any) -> list[Problem]:
    return list(check(make_weights(**spec)).problems)


def overlay(**container: Any) -> Manifest:
    return {"podTemplate": {"spec": {"containers": [{"name": "fetch", **container}]}}}


def inherited(**parts: Any) -> Manifest:
    return {"inheritedMetadata": parts}


# For each rule, a spec that breaks only this rule: the spec, the path, and words of the message.
BROKEN: list[tuple[Manifest, str, str]] = [
    ({"source": {"revision": "a..b"}}, "spec.source.revision", "is not the name of a branch"),
    (
        {"volume": {"existingClaim": "models", "storageClassName": "nfs"}},
        "spec.volume.storageClassName",
        "already has a storage class",
    ),
    (overlay(resources={"limits": {"amd.com/gpu": 1}}), "spec.podTemplate.spec.containers", "requests amd.com/gpu"),
    (overlay(command=["sh"]), "spec.podTemplate.spec.containers", "use spec.image and spec.source"),
    (overlay(securityContext={"privileged": True}), "spec.podTemplate.spec.containers", "only writes to its volume"),
    ({"podTemplate": {"spec": {"hostNetwork": True}}}, "spec.podTemplate.spec.hostNetwork", "the node's network"),
    (
        {"podTemplate": {"metadata": {"labels": {"kimi-linear.io/weights": "x"}}}},
        "spec.podTemplate.metadata.labels",
        "contains a label",
    ),
    (inherited(labels={"kimi-linear.io/weights": "x"}), "spec.inheritedMetadata.labels", "that the operator sets"),
    (inherited(labels={"-": "x"}), "spec.inheritedMetadata.labels", "contains a key that Kubernetes refuses"),
    (inherited(annotations={"kimi-linear.io/x": "x"}), "spec.inheritedMetadata.annotations", "the operator"),
    (inherited(annotations={"-": "x"}), "spec.inheritedMetadata.annotations", "contains a key that Kubernetes refuses"),
]
WARNED: list[tuple[Manifest, str, str]] = [
    ({"volume": {"accessModes": ["ReadWriteOnce"]}}, "spec.volume.accessModes", "only one node"),
]


@pytest.mark.parametrize(("spec", "path", "words"), [*BROKEN, *WARNED], ids=str)
def test_each_rule_names_the_field_and_the_remedy(spec: Manifest, path: str, words: str) -> None:
    (problem,) = problems(**spec)
    assert (problem.path, words in problem.message) == (path, True), problem.message


def test_every_rule_has_an_example() -> None:
    specs = [spec for spec, *_ in (*BROKEN, *WARNED)]
    told = {(item.severity, item.path, item.message) for spec in specs for item in problems(**spec)}
    told |= {(item.severity, item.path, item.message) for item in check(make_weights("w" * 51)).problems}
    assert told == {(rule.severity, rule.path, rule.message) for rule in RULES}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"source": {"revision": "0123456789abcdef0123456789abcdef01234567"}},
        {"source": {"endpoint": "https://hub.example.com:8443/mirror", "tokenSecretRef": {"name": "hf"}}},
        {"volume": {"existingClaim": "models"}},
        {"volume": {"size": "1Ti", "storageClassName": "nfs", "deletionPolicy": "Delete"}},
    ],
    ids=str,
)
def test_valid_weights_have_no_problems(spec: Manifest) -> None:
    assert problems(**spec) == []


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"source": {"endpoint": "https://user:secret@hub"}}, "spec.source.endpoint: "),
        ({"source": {"endpoint": "hub.example.com"}}, "spec.source.endpoint: "),
        ({"volume": {"size": 200}}, "spec.volume.size: "),
        ({"volume": {"accessModes": []}}, "spec.volume.accessModes: "),
        ({"claim": "models"}, "spec.claim: unknown field"),
    ],
    ids=str,
)
def test_a_wrong_shape_is_reported_with_its_path(spec: Manifest, line: str) -> None:
    (problem,) = problems(**spec)
    assert str(problem).startswith(line)
