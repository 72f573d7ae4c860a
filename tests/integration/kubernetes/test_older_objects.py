"""Objects that are older than a rule. Their status says that they break it, and everything else still works.

They are stored while the API server has no rules, and the operator starts when it has them again. This is the situation
after an upgrade that adds a rule.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from breaking import Example, examples
from integration.client import STRICT_DRY_RUN, Answer, Client, path_of
from integration.client_pods import benchmark_manifest
from integration.namespace import Namespace, condition_of, temporary_namespace
from integration.processes_under_test import Operator
from integration.schema import UNREADABLE, relaxed_schema
from integration.waiting import wait_for
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import GROUP, VERSION, Kind, Manifest
from kimi_linear_operator.kubernetes.problem import one_line
from kimi_linear_operator.server.spec import SERVER
from passes import RESOURCES

EXAMPLES = examples()
_SERVER_OF_BENCHMARKS = {"serverRef": {"name": "kimi"}}
# The correction of each example's spec.
_RIGHT: dict[str, Manifest] = {
    "KimiLinearServer": {"replicas": 0},
    "KimiLinearBenchmark": _SERVER_OF_BENCHMARKS,
    "KimiLinearWeights": {"volume": {"existingClaim": "models"}},
}


@dataclass(frozen=True)
class Older:
    """A stored object that is older than the rule that it breaks."""

    namespace: Namespace
    kind: Kind
    name: str
    example: Example

    @property
    def client(self) -> Client:
        return self.namespace.client

    def stored(self) -> Manifest:
        return self.namespace.existing(self.kind, self.name)

    def edit(self, patch: object, subresource: str = "") -> Manifest:
        return self.client.patch(self.kind, self.namespace.name, self.name, patch, subresource)

    def replace_spec(self, spec: Manifest) -> Answer:
        return replace_spec(self.namespace, self.kind, self.name, spec)


def replace_spec(namespace: Namespace, kind: Kind, name: str, spec: Manifest) -> Answer:
    """Replace the whole spec."""
    patch = [{"op": "replace", "path": "/spec", "value": spec}]
    path = path_of(kind, namespace.name, name)
    return namespace.client.send("PATCH", path, patch, content_type="application/json-patch+json")


@pytest.fixture(scope="module")
def stored(client: Client, operator_process: Operator) -> Iterator[dict[str, Older]]:
    """An object for every rule. Each object is older than its rule. The operator started after that."""
    operator_process.stop()
    with temporary_namespace(client) as namespace:
        with relaxed_schema(client):
            found = {str(example): _cache(namespace, number, example) for number, example in enumerate(EXAMPLES)}
            namespace.create_server("unreadable", UNREADABLE)
        operator_process.start()
        yield found


@pytest.fixture
def older(stored: dict[str, Older], request: pytest.FixtureRequest) -> Older:
    return stored[str(request.param)]


every_rule = pytest.mark.parametrize("older", EXAMPLES, ids=str, indirect=True)
# A name cannot be changed.
every_rule_of_a_spec = pytest.mark.parametrize(
    "older", [example for example in EXAMPLES if not example.name], ids=str, indirect=True
)


def _cache(namespace: Namespace, number: int, example: Example) -> Older:
    kind = next(kind for kind in RESOURCES if kind.kind == example.kind)
    # One rule compares a benchmark's name with its baseline.
    own_name = example.spec.get("baseline", {}).get("benchmark", "")
    name = example.name or own_name or f"older-{number}"
    metadata = {"name": name, "namespace": namespace.name}
    namespace.client.create(
        kind,
        {"apiVersion": f"{GROUP}/{VERSION}", "kind": example.kind, "metadata": metadata, "spec": example.spec},
    )
    return Older(namespace, kind, name, example)


@every_rule
def test_the_status_of_an_older_object_quotes_the_rule_that_it_breaks(older: Older) -> None:
    accepted = wait_for(
        lambda: condition_of(older.stored(), "Accepted"),
        "the spec is refused",
        lambda found: found.get("status") == "False",
    )
    assert (accepted["reason"], older.example.problem.path in accepted["message"]) == ("InvalidSpec", True)
    assert one_line(older.example.problem.message) in accepted["message"]


@every_rule
def test_an_older_object_can_still_be_labelled_scaled_suspended_or_grown(older: Older) -> None:
    older.edit({"metadata": {"annotations": {"note": "kept"}, "labels": {"team": "search"}}})
    if older.kind == SERVER:
        older.edit({"spec": {"replicas": 2}}, "scale")
        assert older.stored()["spec"]["replicas"] == 2
    elif older.kind == BENCHMARK:
        older.edit({"spec": {"suspend": True}})
        assert older.stored()["spec"]["suspend"] is True
    else:
        older.edit({"spec": {"volume": {"size": "300Gi"}}})
        assert older.stored()["spec"]["volume"]["size"] == "300Gi"


@every_rule
def test_the_rule_applies_to_new_objects(older: Older) -> None:
    metadata = {"name": "x" * 64 if older.example.name else older.name, "namespace": "default"}
    manifest = {**older.stored(), "metadata": metadata, "spec": older.example.spec}
    answer = older.client.send("POST", path_of(older.kind, "default"), manifest, STRICT_DRY_RUN)
    _assert_refused(answer, older.example)


@every_rule_of_a_spec
def test_an_older_object_can_be_corrected_and_then_not_broken_again(older: Older) -> None:
    broken = older.stored()["spec"]
    assert older.replace_spec(_RIGHT[older.example.kind]).status == 200
    _assert_refused(older.replace_spec(broken), older.example)
    wait_for(
        lambda: condition_of(older.stored(), "Accepted"),
        "the spec is accepted",
        lambda found: found["status"] == "True",
    )


def _assert_refused(answer: Answer, example: Example) -> None:
    assert answer.status == 422, f"{answer.status}: {answer.message}"
    assert example.problem.path in answer.message
    assert one_line(example.problem.message) in answer.message


def test_an_object_of_an_unknown_shape_is_reported_and_can_be_corrected(
    stored: dict[str, Older], client: Client
) -> None:
    namespace = next(iter(stored.values())).namespace
    accepted = namespace.wait_for_condition("unreadable", "Accepted", "False", "InvalidSpec")
    assert "spec.tensorParallelism" in accepted["message"]
    client.patch(SERVER, namespace.name, "unreadable", {"metadata": {"annotations": {"note": "kept"}}})
    client.patch(SERVER, namespace.name, "unreadable", {"spec": {"replicas": 2}}, "scale")
    namespace.change_server("unreadable", {"tensorParallelism": 1, "replicas": 1})
    namespace.wait_until_ready("unreadable")


def _gpus(count: int) -> dict[str, Any]:
    container = {"name": "sglang", "resources": {"limits": {"amd.com/gpu": count}}}
    return {"podTemplate": {"spec": {"containers": [container]}}}


def test_fields_that_a_rule_does_not_read_can_change_although_the_rule_is_broken(
    client: Client, namespace: Namespace
) -> None:
    with relaxed_schema(client):
        spec = namespace.create_server("kimi", _gpus(8))["spec"]
    labelled = {**spec["podTemplate"], "metadata": {"labels": {"a": "b"}}}
    for allowed in ({"engine": {"extraArgs": ["--log-level=info"]}}, {"podTemplate": labelled}):
        assert replace_spec(namespace, SERVER, "kimi", spec | allowed).status == 200, allowed
    for refused in ({"tensorParallelism": 2}, _gpus(2)):
        assert replace_spec(namespace, SERVER, "kimi", spec | refused).status == 422, refused
    assert replace_spec(namespace, SERVER, "kimi", spec | {"tensorParallelism": 8}).status == 200


def test_a_started_benchmark_that_breaks_a_rule_can_only_be_suspended(client: Client, namespace: Namespace) -> None:
    suspended = {**_SERVER_OF_BENCHMARKS, "suspend": True}
    spec = client.create(BENCHMARK, benchmark_manifest("nightly", namespace.name, suspended))["spec"]
    client.patch(BENCHMARK, namespace.name, "nightly", {"status": {"startTime": "2026-11-24T02:00:00Z"}}, "status")
    assert replace_spec(namespace, BENCHMARK, "nightly", spec | {"suspend": False}).status == 200
    answer = replace_spec(namespace, BENCHMARK, "nightly", spec | {"backoffLimit": 2})
    assert (answer.status, "cannot change after the first suite has started" in answer.message) == (422, True)
