"""This version refuses a default from the CRD of another version. No server is blocked by such a default."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from integration.client import Client
from integration.client_pods import benchmark, benchmark_manifest, create_benchmark, end_suite, running_pod
from integration.client_pods import wait_for_reason as wait_for_benchmark
from integration.kubelet import HELD
from integration.namespace import condition_of, server_manifest
from integration.processes_under_test import THIS_VERSION
from integration.sandbox import Sandbox
from integration.schema import another_definition
from integration.waiting import wait_for
from kimi_linear_operator.benchmark.definition import DEFINITION as BENCHMARK_DEFINITION
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.crd import Definition
from kimi_linear_operator.server.definition import DEFINITION as SERVER_DEFINITION
from kimi_linear_operator.server.spec import SERVER

_TARGET = {"serverRef": {"name": "kimi"}}
_SPEC = {"tensorParallelism": 1}


@contextmanager
def _default(client: Client, definition: Definition, path: str, value: Any) -> Iterator[None]:
    """Let the API server use the CRD of another version for a while, with a default for a field and other rules."""
    (part, name), other = path.split("."), copy.deepcopy(definition.manifest())
    [version] = other["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    schema = spec["properties"][part]
    schema.pop("x-kubernetes-validations", None)
    schema["properties"][name].pop("pattern", None)
    schema["properties"][name]["default"] = value
    for default in (schema["default"], *([spec["default"][part]] if "default" in spec else [])):
        default[name] = value
    valid = {} if definition.model.KIND == SERVER else _TARGET
    with another_definition(client, definition, other, valid, lambda found: found[part].get(name) == value):
        yield


def _restart(sandbox: Sandbox) -> None:
    sandbox.operator.kill()
    sandbox.operator.program = THIS_VERSION
    sandbox.restart_after_crash()


def _replica_sets(sandbox: Sandbox) -> list[str]:
    return sorted(item["metadata"]["name"] for item in sandbox.namespace.replica_sets("kimi"))


def _scale(sandbox: Sandbox, replicas: int) -> None:
    namespace = sandbox.namespace
    namespace.client.patch(SERVER, namespace.name, "kimi", {"spec": {"replicas": replicas}}, "scale")
    wait_for(lambda: len(namespace.pods("kimi")), f"there are {replicas} pods", replicas.__eq__)
    namespace.wait_until_ready("kimi")


def test_a_server_continues_under_and_after_a_default_that_breaks_a_rule(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    written = server_manifest("kimi", namespace.name, {**_SPEC, "model": {"path": "/models/kimi"}})
    namespace.client.apply(SERVER, written, "somebody")
    namespace.wait_until_ready("kimi")
    before = _replica_sets(sandbox)
    with _default(namespace.client, SERVER_DEFINITION, "model.revision", "pinned"):
        _restart(sandbox)
        _scale(sandbox, 2)
        assert namespace.server("kimi")["spec"]["model"]["revision"] == "pinned"
        assert namespace.condition("kimi", "Accepted")["status"] == "True"
    # The value is now stored, and stays.
    _restart(sandbox)
    _scale(sandbox, 3)
    assert namespace.server("kimi")["spec"]["model"]["revision"] == "pinned"
    assert namespace.condition("kimi", "TemplateCurrent")["reason"] == "Newest"
    assert _replica_sets(sandbox) == before


def test_a_benchmark_continues_under_and_after_a_default_that_breaks_a_rule(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    namespace.create_server("kimi", _SPEC)
    namespace.wait_until_ready("kimi")
    spec = {**_TARGET, "suites": [{"name": "speed-low"}, {"name": "gsm8k"}], "baseline": {"source": "none"}}
    held = {"podTemplate": {"metadata": {"annotations": {HELD: "true"}}}}
    namespace.client.apply(BENCHMARK, benchmark_manifest("nightly", namespace.name, {**spec, **held}), "somebody")
    running_pod(namespace, "nightly", "speed-low")
    with _default(namespace.client, BENCHMARK_DEFINITION, "baseline.maxRegressionPercent", 5):
        _restart(sandbox)
        end_suite(namespace, "nightly", "speed-low")
        running_pod(namespace, "nightly", "gsm8k")
        namespace.edit(BENCHMARK, "nightly", {"metadata": {"labels": {"team": "search"}}})
    _restart(sandbox)
    assert benchmark(namespace, "nightly")["spec"]["baseline"]["maxRegressionPercent"] == 5
    end_suite(namespace, "nightly", "gsm8k")
    done = wait_for_benchmark(namespace, "nightly", "ThresholdsMet")
    assert (done["status"]["verdict"], condition_of(done, "Accepted")["status"]) == ("Passed", "True")


def test_a_server_with_an_unreadable_default_is_still_measured(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    namespace.create_server("kimi", _SPEC)
    namespace.wait_until_ready("kimi")
    create_benchmark(namespace, "nightly", suites=[{"name": "speed-low"}, {"name": "gsm8k"}])
    running_pod(namespace, "nightly", "speed-low")
    with _default(namespace.client, SERVER_DEFINITION, "engine.attentionBackend", "AITER-v2"):
        _restart(sandbox)
        wait_for_benchmark(namespace, "nightly", "ServerReady", kind="TargetReady")
        end_suite(namespace, "nightly", "speed-low")
        running_pod(namespace, "nightly", "gsm8k")
        namespace.edit(SERVER, "kimi", {"metadata": {"labels": {"team": "search"}}})
    end_suite(namespace, "nightly", "gsm8k")
    done = wait_for_benchmark(namespace, "nightly", "ThresholdsMet")
    assert done["status"]["verdict"] == "Passed"
