"""The autoscaler of a server: its limits, its speed, and when it must wait."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_linear_operator.kubernetes.drift import has_drifted
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server.autoscaler import Limits, build_autoscaler, needs_autoscaler, seconds_until_more
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_deployment, make_pod, make_server
from refusing import RefusingCluster, one_pass

FOUR: Manifest = {"maxReplicas": 4}


def server(**spec: Any) -> KimiLinearServer:
    checked = check(make_server(**spec))
    assert checked.errors == []
    assert isinstance(checked.resource, KimiLinearServer)
    return checked.resource


NOW = "2026-11-24T10:00:00Z"


def until_more(deployment: Manifest | None, *pods: Manifest, **spec: Any) -> float:
    return seconds_until_more(server(**spec).spec, deployment, pods, NOW)


def autoscaler(deployment: Manifest | None = None, **spec: Any) -> Manifest:
    built: Manifest = build_autoscaler(server(**spec), Limits(may_grow=not until_more(deployment, **spec)))["spec"]
    return built


def ready_pod(name: str, since: str) -> Manifest:
    return make_pod(name, conditions=[{"type": "Ready", "status": "True", "lastTransitionTime": since}])


def bounds(deployment: Manifest | None, **spec: Any) -> tuple[int, int]:
    built = autoscaler(deployment, **spec)
    return built["minReplicas"], built["maxReplicas"]


def test_a_server_without_spec_autoscaling_has_no_autoscaler() -> None:
    assert not needs_autoscaler(server())
    assert needs_autoscaler(server(autoscaling=FOUR))


def test_a_suspended_server_has_no_autoscaler_that_could_change_its_replicas() -> None:
    assert not needs_autoscaler(server(autoscaling=FOUR, suspend=True))


def test_the_autoscaler_scales_the_server_and_not_its_deployment() -> None:
    target = {"apiVersion": "kimi-linear.io/v1alpha1", "kind": "KimiLinearServer", "name": "kimi"}
    assert autoscaler(autoscaling=FOUR)["scaleTargetRef"] == target


def test_the_load_comes_from_sglangs_own_metrics() -> None:
    metrics = autoscaler(autoscaling={**FOUR, "target": {"queuedRequests": 7, "runningRequests": 30}})["metrics"]
    assert [(item["pods"]["metric"]["name"], item["pods"]["target"]["averageValue"]) for item in metrics] == [
        ("sglang_num_queue_reqs", "7"),
        ("sglang_num_running_reqs", "30"),
    ]


@pytest.mark.parametrize(
    ("replicas", "serving", "expected"),
    [
        (1, 1, (1, 4)),
        (1, 0, (1, 1)),
        (2, 1, (1, 2)),
        (3, 1, (1, 3)),
        (3, 3, (1, 4)),
        # After a scale-down, the Deployment still counts the replica that is being removed.
        (2, 3, (1, 4)),
        (9, 2, (1, 4)),
        (0, 0, (1, 4)),
    ],
)
def test_no_replica_is_added_while_another_one_does_not_serve(
    replicas: int, serving: int, expected: tuple[int, int]
) -> None:
    deployment = make_deployment(availableReplicas=serving)
    assert bounds(deployment, replicas=replicas, autoscaling=FOUR) == expected


def test_a_new_replica_has_time_to_take_its_share_of_the_load() -> None:
    two = make_deployment(availableReplicas=2)
    pods = (ready_pod("kimi-0", "2026-11-24T08:00:00Z"), ready_pod("kimi-1", "2026-11-24T09:59:40Z"))
    assert until_more(two, *pods, replicas=2, autoscaling=FOUR) == 40
    assert until_more(two, pods[0], replicas=2, autoscaling=FOUR) == 0
    at_once = {**FOUR, "scaleUp": {"stabilizationSeconds": 0}}
    assert until_more(two, *pods, replicas=2, autoscaling=at_once) == 0


def test_the_wait_for_a_replica_that_does_not_serve_has_no_limit() -> None:
    loading = make_pod("kimi-1", conditions=[{"type": "Ready", "status": "False", "lastTransitionTime": NOW}])
    assert until_more(make_deployment(availableReplicas=1), loading, replicas=2, autoscaling=FOUR) == math.inf


def test_the_minimum_of_replicas_is_started_at_the_same_time() -> None:
    deployment = make_deployment(availableReplicas=0)
    assert bounds(deployment, replicas=1, autoscaling={"minReplicas": 3, "maxReplicas": 4}) == (3, 3)


def test_the_autoscaler_of_a_new_server_adds_no_replica_before_the_first_one_serves() -> None:
    cluster = RefusingCluster({})
    one_pass(cluster, autoscaling=FOUR)
    [made] = [child for child in cluster.applied if child["kind"] == "HorizontalPodAutoscaler"]
    assert made["spec"]["maxReplicas"] == 1


def test_the_autoscaler_of_a_server_without_a_deployment_has_the_specs_bounds() -> None:
    assert bounds(None, autoscaling=FOUR) == (1, 4)


@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 30), st.none() | st.integers(0, 30), st.integers(0, 3600))
def test_the_autoscalers_bounds_and_times_are_always_valid_in_kubernetes(
    fewest: int, more: int, replicas: int, serving: int | None, drain: int
) -> None:
    deployment = None if serving is None else make_deployment(availableReplicas=serving)
    scaling = {"minReplicas": fewest, "maxReplicas": fewest + more}
    built = autoscaler(deployment, replicas=replicas, autoscaling=scaling, drain={"timeoutSeconds": drain})
    assert fewest <= built["minReplicas"] <= built["maxReplicas"] <= fewest + more
    for rules in built["behavior"].values():
        assert 0 <= rules["stabilizationWindowSeconds"] <= 3600
        assert all(0 < policy["periodSeconds"] <= 1800 for policy in rules["policies"])


def test_a_replica_is_removed_only_after_the_one_before_it_has_drained() -> None:
    behaviour = autoscaler(autoscaling=FOUR, drain={"timeoutSeconds": 300})["behavior"]
    assert behaviour == {
        "scaleUp": {
            "stabilizationWindowSeconds": 60,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 3600,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 315}],
        },
    }


def test_numbers_rewritten_by_kubernetes_are_no_drift() -> None:
    wanted = build_autoscaler(server(autoscaling={**FOUR, "target": {"runningRequests": 2000}}))
    queued, running = wanted["spec"]["metrics"]
    stored = {**running, "pods": {**running["pods"], "target": {"type": "AverageValue", "averageValue": "2k"}}}
    live = {**wanted, "spec": {**wanted["spec"], "metrics": [queued, stored]}}
    assert not has_drifted(live, wanted)
