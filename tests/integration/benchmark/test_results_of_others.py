"""A newer version has stored results with new words and a new field. After a rollback, they stay as they are."""

import json
from typing import Any

from integration.client_pods import benchmark, create_benchmark, end_suite, left_of, pods_made, wait_for_reason
from integration.namespace import Namespace
from integration.sandbox import Sandbox
from integration.schema import definition_of_energy
from integration.waiting import stays, wait_for
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, Manifest

FAILED: Manifest = {"outcome": "Failed", "reason": "OutOfMemory", "message": "no memory"}
BUDGET: Manifest = {"findings": [{"rule": "Budget", "passed": True, "message": "cheap enough"}]}
_QUIET_SECONDS = 2.0


def _create(namespace: Namespace, name: str, *suites: str) -> None:
    """Create a benchmark of an address that no other benchmark measures, and let its first suite end."""
    address = {"url": f"http://{name}.{namespace.name}.example.com"}
    create_benchmark(namespace, name, serverRef=None, endpoint=address, suites=[{"name": suite} for suite in suites])
    end_suite(namespace, name, suites[0])


def _first_result(namespace: Namespace, name: str) -> Manifest:
    return dict(benchmark(namespace, name)["status"]["results"][0])


def _store_as_newer_version(namespace: Namespace, name: str, **change: Any) -> None:
    """Store the first result as a newer version would, with the field energy."""
    [first, *others] = benchmark(namespace, name)["status"]["results"]
    results = [{**first, **change, "energy": 5}, *others]
    namespace.client.patch(BENCHMARK, namespace.name, name, {"status": {"results": results}}, "status")
    assert _first_result(namespace, name)["energy"] == 5


def _kept(namespace: Namespace, name: str) -> list[Manifest]:
    text = namespace.existing(CONFIG_MAP, f"{name}-results")["data"]["results.json"]
    return list(json.loads(text)["results"])


def test_results_of_a_newer_version_survive_a_rollback_of_operator_and_definitions(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    complete: dict[str, Manifest] = {"failed": FAILED, "cheap": BUDGET}
    for name in complete:
        _create(namespace, name, "speed-low")
        wait_for_reason(namespace, name, "ThresholdsMet")
    _create(namespace, "runs", "speed-low", "gsm8k")
    wait_for(lambda: left_of(namespace, "runs"), "the first Job is gone", lambda left: "speed" not in str(left))
    with sandbox.operator.stopped():
        with definition_of_energy(namespace.client):
            for name, change in {**complete, "runs": FAILED}.items():
                _store_as_newer_version(namespace, name, **change)
        assert all("energy" not in _first_result(namespace, name) for name in (*complete, "runs"))
        before = {name: benchmark(namespace, name)["status"] for name in complete}
        ended = _first_result(namespace, "runs")
    for name in complete:
        namespace.edit(BENCHMARK, name, {"metadata": {"labels": {"team": "search"}}})
        wait_for(
            lambda name=name: _kept(namespace, name),
            f"the ConfigMap of {name} has the results",
            before[name]["results"].__eq__,
        )  # type: ignore[misc]
    end_suite(namespace, "runs", "gsm8k")
    after = wait_for_reason(namespace, "runs", "ClientFailed")["status"]
    assert (after["verdict"], after["results"][0], len(after["results"])) == ("Invalid", ended, 2)
    assert _kept(namespace, "runs") == after["results"]
    assert pods_made(namespace, "runs") == 2
    stays(
        lambda: {name: benchmark(namespace, name)["status"] for name in complete},
        "nothing is written",
        before.__eq__,
        _QUIET_SECONDS,
    )


def test_a_result_that_the_older_definition_refuses_is_kept_as_text(
    sandbox: Sandbox,
) -> None:
    namespace = sandbox.namespace
    _create(namespace, "odd", "speed-low", "gsm8k")
    wait_for(lambda: left_of(namespace, "odd"), "the first Job is gone", lambda left: "speed" not in str(left))
    with sandbox.operator.stopped():
        with definition_of_energy(namespace.client):
            _store_as_newer_version(namespace, "odd", completed="10 of 10")
        assert "energy" not in _first_result(namespace, "odd")
    end_suite(namespace, "odd", "gsm8k")
    status = wait_for_reason(namespace, "odd", "ResultUnknown")["status"]
    first, second = status["results"]
    assert (status["verdict"], first["outcome"], second["outcome"]) == ("Invalid", "Unknown", "Succeeded")
    assert '"completed":"10 of 10"' in first["message"]
    assert pods_made(namespace, "odd") == 2
