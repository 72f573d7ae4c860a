"""Objects of others with the name or the labels of a child.

The operator reports them, does not change them, and adopts them only if allowed.
"""

import pytest

from integration.client import path_of
from integration.client_pods import benchmark, create_benchmark
from integration.namespace import Namespace, condition_of
from integration.processes_under_test import Operator
from integration.waiting import stays, wait_for
from kimi_linear_operator.benchmark import job
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.kubernetes.kinds import (
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    JOB,
    SERVICE,
    Kind,
    Manifest,
)
from kimi_linear_operator.server.spec import SERVER

pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture(scope="module")
def released(operator_process: Operator, shared_namespace: Namespace) -> Namespace:
    """A namespace in which an object has blocked a server until now."""
    operator_process.start()
    _foreign(shared_namespace, "held-up", SERVICE, {"app": "web"})
    shared_namespace.create_server("held-up")
    shared_namespace.wait_for_condition("held-up", "Accepted", "False", "NameConflict")
    shared_namespace.delete(SERVICE, "held-up")
    return shared_namespace


@pytest.fixture(scope="module", autouse=True)
def _in_the_background(released: Namespace) -> None:
    """Objects that recover by themselves take a while, so they start before the first test."""


def _foreign(namespace: Namespace, name: str, kind: Kind, labels: dict[str, str]) -> Manifest:
    """Create an object of another client with the name of a child."""
    specs = {
        DEPLOYMENT: {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web"}]}},
        },
        SERVICE: {"selector": labels, "ports": [{"port": 80, "name": "web"}]},
    }
    metadata = {"name": name, "namespace": namespace.name, "annotations": {"made-by": "someone"}}
    manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": specs[kind]}
    return namespace.client.create(kind, manifest)


@pytest.mark.parametrize("kind", [DEPLOYMENT, SERVICE], ids=lambda kind: kind.kind)
def test_an_unwanted_object_with_the_servers_owner_reference_is_deleted(namespace: Namespace, kind: Kind) -> None:
    namespace.create_server("kimi")
    namespace.wait_until_ready("kimi")
    original = namespace.deployment("kimi")
    claims = {key: original["metadata"][key] for key in ("labels", "ownerReferences")}
    specs = {DEPLOYMENT: {**original["spec"], "replicas": 0}, SERVICE: {"ports": [{"port": 80}]}}
    metadata = {"name": "claimed", "namespace": namespace.name, **claims}
    namespace.client.create(
        kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": specs[kind]}
    )
    wait_for(lambda: namespace.find(kind, "claimed") is None, "the object is gone")
    assert namespace.deployment("kimi")["metadata"]["uid"] == original["metadata"]["uid"]


@pytest.mark.parametrize("kind", [DEPLOYMENT, SERVICE], ids=lambda kind: kind.kind)
def test_a_foreign_object_is_left_alone_until_its_adoption_is_allowed(namespace: Namespace, kind: Kind) -> None:
    foreign = _foreign(namespace, "kimi", kind, {"kimi-linear.io/server": "kimi"})
    namespace.create_server("kimi")
    accepted = namespace.wait_for_condition("kimi", "Accepted", "False", "NameConflict")
    assert f"{kind.kind} kimi exists" in accepted["message"]
    assert "kimi-linear.io/adopt=true" in accepted["message"]
    assert condition_of(namespace.server("kimi"), "Stalled")["status"] == "True"
    live = namespace.existing(kind, "kimi")
    assert (live["metadata"]["uid"], live["spec"]) == (foreign["metadata"]["uid"], foreign["spec"])
    assert "ownerReferences" not in live["metadata"]

    namespace.edit(kind, "kimi", {"metadata": {"annotations": {"kimi-linear.io/adopt": "true"}}})
    _poke(namespace)
    namespace.wait_until_ready("kimi")
    adopted = namespace.existing(kind, "kimi")
    assert adopted["metadata"]["uid"] == foreign["metadata"]["uid"]
    assert [owner["name"] for owner in adopted["metadata"]["ownerReferences"]] == ["kimi"]
    assert adopted["metadata"]["annotations"]["made-by"] == "someone"


def test_a_child_of_another_server_is_not_taken_even_if_its_adoption_is_allowed(namespace: Namespace) -> None:
    namespace.create_server("kimi", {"suspend": True, "service": {"headless": True}})
    wait_for(lambda: namespace.find(SERVICE, "kimi-headless"), "the Service is there")
    namespace.edit(SERVICE, "kimi-headless", {"metadata": {"annotations": {"kimi-linear.io/adopt": "true"}}})
    namespace.create_server("kimi-headless", {"suspend": True})
    accepted = namespace.wait_for_condition("kimi-headless", "Accepted", "False", "NameConflict")
    assert "Service kimi-headless belongs to KimiLinearServer kimi: rename this server" in accepted["message"]

    def live() -> tuple[list[str], str]:
        metadata = namespace.existing(SERVICE, "kimi-headless")["metadata"]
        return [owner["name"] for owner in metadata["ownerReferences"]], metadata["resourceVersion"]

    before = live()
    assert before[0] == ["kimi"]
    stays(live, "nobody writes the Service", before.__eq__, 5)
    assert namespace.condition("kimi", "Synced")["status"] == "True"


def test_a_name_conflict_ends_by_itself_when_the_foreign_object_is_deleted(released: Namespace) -> None:
    released.wait_until_ready("held-up", seconds=25)


def test_a_deployment_that_cannot_be_adopted_says_why(namespace: Namespace) -> None:
    foreign = _foreign(namespace, "kimi", DEPLOYMENT, {"app": "web"})
    namespace.edit(DEPLOYMENT, "kimi", {"metadata": {"annotations": {"kimi-linear.io/adopt": "true"}}})
    namespace.create_server("kimi")
    ready = namespace.wait_for_condition("kimi", "Ready", "False", "ApplyFailed")
    assert "field is immutable" in ready["message"]
    assert namespace.deployment("kimi")["spec"] == foreign["spec"]


def _poke(namespace: Namespace) -> None:
    """Change an unimportant annotation of the server, so that the operator makes a pass now."""
    namespace.edit(SERVER, "kimi", {"metadata": {"annotations": {"poked": "true"}}})


def test_a_child_whose_name_is_taken_does_not_block_other_children(namespace: Namespace) -> None:
    namespace.create_server("kimi", {"replicas": 2, "service": {"headless": True}})
    namespace.wait_until_ready("kimi")
    namespace.delete(SERVICE, "kimi-headless")
    _take_over(namespace)
    namespace.wait_for_condition("kimi", "Accepted", "False", "NameConflict")
    namespace.change_server("kimi", {"suspend": True, "service": {"headless": False}})
    wait_for(lambda: namespace.pods("kimi"), "no pod runs", lambda pods: not pods)
    wait_for(lambda: namespace.find(SERVICE, "kimi-headless") is None, "the unwanted Service is gone")
    assert namespace.condition("kimi", "Accepted")["reason"] == "NameConflict"
    assert namespace.service("kimi")["spec"]["selector"] == {"app": "web"}


def _take_over(namespace: Namespace) -> None:
    """Replace the server's Service by a Service of somebody else."""
    metadata = {"name": "kimi", "namespace": namespace.name}
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    manifest: Manifest = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}

    def is_taken() -> bool:
        namespace.delete(SERVICE, "kimi")
        answer = namespace.client.send("POST", path_of(SERVICE, namespace.name), manifest)
        return answer.status == 201

    wait_for(is_taken, "somebody else is faster than the operator")


def test_a_foreign_service_without_a_selector_is_not_adopted_either(namespace: Namespace) -> None:
    """The operator's apply does not conflict with such a Service, so without a check it would merge both."""
    metadata = {"name": "kimi", "namespace": namespace.name}
    spec = {"ports": [{"port": 80, "name": "web"}]}
    stranger = namespace.client.create(
        SERVICE, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    )
    namespace.create_server("kimi")
    namespace.wait_for_condition("kimi", "Accepted", "False", "NameConflict")
    assert namespace.service("kimi") == stranger


def test_a_budget_and_a_job_of_somebody_else_are_not_adopted(namespace: Namespace) -> None:
    budget = _put(namespace, DISRUPTION_BUDGET, "kimi", {"maxUnavailable": 0, "selector": {}})
    namespace.create_server("kimi", {"replicas": 2})
    refused = namespace.wait_for_condition("kimi", "Accepted", "False", "NameConflict")
    assert "PodDisruptionBudget kimi" in refused["message"]
    assert namespace.existing(DISRUPTION_BUDGET, "kimi")["spec"] == budget["spec"]

    # A suite's Job has the benchmark's UID in its name. A user who reads the UID can create that Job while the
    # benchmark waits.
    made = create_benchmark(namespace, "nightly", suites=[{"name": "speed-low"}])
    waiting = KimiLinearBenchmark.model_validate(made)
    pod = {"containers": [{"name": "web", "image": "web"}], "restartPolicy": "Never"}
    stranger = _put(
        namespace, JOB, job.name(waiting, waiting.spec.suites[0]), {"suspend": True, "template": {"spec": pod}}
    )
    namespace.delete(DISRUPTION_BUDGET, "kimi")
    namespace.wait_until_ready("kimi")
    told = wait_for(
        lambda: condition_of(benchmark(namespace, "nightly"), "Accepted"),
        "the benchmark's name is taken",
        lambda found: found["reason"] == "NameConflict",
    )
    assert stranger["metadata"]["name"] in told["message"]
    assert namespace.existing(JOB, stranger["metadata"]["name"])["metadata"]["uid"] == stranger["metadata"]["uid"]


def _put(namespace: Namespace, kind: Kind, name: str, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": namespace.name}
    return namespace.client.create(
        kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}
    )
