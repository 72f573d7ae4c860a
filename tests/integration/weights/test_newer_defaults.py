"""A default of another version replaces no Job that fetches weights. A change by the owner does."""

from integration.namespace import Namespace
from integration.processes_under_test import THIS_VERSION
from integration.sandbox import Sandbox
from integration.schema import MIRROR, PULL_POLICY, definition_of_mirrors
from integration.versions import go_on_as
from integration.waiting import stays, wait_for
from integration.weights_pods import OF_WEIGHTS, weights_manifest
from kimi_linear_operator.kubernetes.kinds import JOB, Manifest
from kimi_linear_operator.weights.spec import WEIGHTS

_QUIET_SECONDS = 3.0
_NAMES = ["labelled", "moved"]


def _apply(namespace: Namespace, name: str, size: str = "200Gi", **container: object) -> None:
    overlay = {"spec": {"containers": [{"name": "fetch", "tty": False, **container}]}}
    weights = weights_manifest(name, namespace.name, podTemplate=overlay, volume={"size": size})
    namespace.client.apply(WEIGHTS, weights, "gitops")


def _jobs(namespace: Namespace) -> dict[str, list[str]]:
    """Return the UIDs of the Jobs of each of the weights."""
    found: dict[str, list[str]] = {name: [] for name in _NAMES}
    for job in namespace.client.list(JOB, namespace.name, OF_WEIGHTS):
        found[job["metadata"]["ownerReferences"][0]["name"]].append(job["metadata"]["uid"])
    return found


def _has_observed(namespace: Namespace) -> None:
    for name in _NAMES:
        wait_for(
            lambda name=name: namespace.existing(WEIGHTS, name),  # type: ignore[misc]
            "the operator has seen the spec",
            lambda found: found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"],
        )


def test_a_default_of_another_version_replaces_no_job_but_a_change_by_the_owner_does(sandbox: Sandbox) -> None:
    namespace = sandbox.namespace
    for name in _NAMES:
        _apply(namespace, name)
    before = wait_for(
        lambda: _jobs(namespace), "all weights have a Job", lambda found: all(len(jobs) == 1 for jobs in found.values())
    )
    _has_observed(namespace)
    stays(lambda: None, "times differ by more than a second", lambda _: True, _QUIET_SECONDS)
    with definition_of_mirrors(namespace.client):
        for _ in range(2):
            for name in _NAMES:
                namespace.edit(WEIGHTS, name, {"metadata": {"labels": {"team": "search"}}})
                spec: Manifest = namespace.existing(WEIGHTS, name)["spec"]
                assert (spec["source"]["endpoint"], PULL_POLICY in str(spec["podTemplate"])) == (MIRROR, True)
            _has_observed(namespace)
            stays(lambda: _jobs(namespace), "no Job is replaced", before.__eq__, _QUIET_SECONDS)
            go_on_as(sandbox, THIS_VERSION)
        _apply(namespace, "moved", env=[{"name": "HF_HUB_DISABLE_XET", "value": "1"}])

        def moved() -> Manifest:
            [job] = wait_for(
                lambda: [
                    job
                    for job in namespace.client.list(JOB, namespace.name, OF_WEIGHTS)
                    if job["metadata"]["ownerReferences"][0]["name"] == "moved"
                    and job["metadata"]["uid"] not in before["moved"]
                ],
                "the requested change replaces the Job",
                lambda found: len(found) == 1,
            )
            return dict(job)

        assert MIRROR not in str(moved()["spec"])
    assert _jobs(namespace)["labelled"] == before["labelled"]
