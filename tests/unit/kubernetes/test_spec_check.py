"""Values that the operator takes from a record give a pod nothing that the rules or the administrator refuse."""

from typing import Any

import pytest

from kimi_linear_operator.benchmark.definition import CHECKER as BENCHMARKS
from kimi_linear_operator.benchmark.job import own_pod_templates as of_benchmark
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.spec_check import SpecCheck
from kimi_linear_operator.server.definition import CHECKER as SERVERS
from kimi_linear_operator.server.manifests import build_pod_templates as of_server
from kimi_linear_operator.weights.definition import CHECKER as WEIGHTS
from kimi_linear_operator.weights.job import own_pod_templates as of_weights
from make import make_benchmark, make_server, make_weights

_VOLUME: Manifest = {"volume": {"size": "200Gi"}}
KINDS: dict[str, Any] = {
    "server": (SERVERS, of_server, make_server(router={})),
    "weights": (WEIGHTS, of_weights, make_weights(**_VOLUME)),
    "benchmark": (BENCHMARKS, of_benchmark, make_benchmark()),
}
REACHING: dict[str, Manifest] = {
    "files": {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]},
    "port": {"containers": [{"name": "side", "image": "a", "ports": [{"containerPort": 1, "hostPort": 1}]}]},
    "processes": {"hostPID": True},
    "privileges": {"containers": [{"name": "side", "image": "a", "securityContext": {"privileged": True}}]},
    "init": {"initContainers": [{"name": "side", "image": "a", "securityContext": {"privileged": True}}]},
    "ephemeral": {"ephemeralContainers": [{"name": "side", "securityContext": {"privileged": True}}]},
    "capabilities": {
        "containers": [{"name": "side", "image": "a", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]
    },
    "account": {"serviceAccountName": "admin"},
    "token": {"automountServiceAccountToken": True},
    "token by a null": {"automountServiceAccountToken": None},
    "token in a volume": {
        "volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]
    },
}
HARMLESS: Manifest = {"terminationGracePeriodSeconds": 30, "containers": [{"name": "side", "image": "a"}]}


def _result(kind: str, *, allows_node_access: bool = False, **recorded: Any) -> bool:
    """Return whether a resource gets these fields from a record."""
    checker, build_templates, stored = KINDS[kind]
    specs = SpecCheck(checker, build_templates, allows_node_access=allows_node_access)
    resource = checker.check_stored(stored).resource
    spec = {**stored["spec"], **recorded}
    changed = resource.model_copy(update={"spec": type(resource.spec).model_validate(spec)})
    found = specs.unless_refused(resource, changed)
    assert found in (resource, changed)
    return bool(found is changed)


@pytest.mark.parametrize("pod", [{"hostNetwork": True}, *REACHING.values()], ids=["network", *REACHING])
@pytest.mark.parametrize("kind", KINDS)
def test_a_record_gives_no_pod_access_beyond_itself(kind: str, pod: Manifest) -> None:
    assert not _result(kind, podTemplate={"spec": pod})


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_gives_what_the_administrator_allows(kind: str) -> None:
    given = {name: _result(kind, allows_node_access=True, podTemplate={"spec": pod}) for name, pod in REACHING.items()}
    assert given == dict.fromkeys(REACHING, True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_gives_harmless_values(kind: str) -> None:
    assert _result(kind, podTemplate={"spec": HARMLESS})


@pytest.mark.parametrize("allows", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_record_gives_nothing_that_a_rule_refuses(kind: str, allows: bool) -> None:
    labels = {"app.kubernetes.io/name": "mine"}
    assert not _result(kind, allows_node_access=allows, inheritedMetadata={"labels": labels})
