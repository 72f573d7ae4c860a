"""The condition Autoscaling of a server."""

from typing import Any

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.scaling import Autoscalers, Growth, autoscaling_condition
from kimi_linear_operator.server.spec import ServerSpec
from make import make_deployment

ABLE = {"type": "AbleToScale", "status": "True", "reason": "ReadyForNewScale", "message": "recommended size"}
ACTIVE = {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound", "message": "able to calculate"}
LIMITED = {"type": "ScalingLimited", "status": "True", "reason": "TooManyReplicas", "message": "more than maximum"}
NO_METRIC = {
    "type": "ScalingActive",
    "status": "False",
    "reason": "FailedGetPodsMetric",
    "message": "unable to get metric sglang_num_queue_reqs: no metrics returned from custom metrics API",
}


def told(
    *conditions: Manifest,
    serving: int = 2,
    desired: int = 2,
    may_grow: bool = True,
    awaits_weights: bool = False,
    scaled_object: Manifest | None = None,
    **spec: Any,
) -> tuple[str, str, str]:
    """Return status, reason and message, given the conditions of the autoscaler."""
    wanted = ServerSpec.model_validate({"replicas": 2, "autoscaling": {"maxReplicas": 4}, **spec})
    autoscaler = {"status": {"conditions": list(conditions), "desiredReplicas": desired}}
    deployment = make_deployment(availableReplicas=serving)
    growth = Growth(may_grow, awaits_weights)
    found = autoscaling_condition(wanted, deployment, Autoscalers(autoscaler, scaled_object), growth)
    return found.status, found.reason, found.message


def test_the_message_has_the_present_and_the_wanted_number_of_replicas() -> None:
    status, reason, message = told(ABLE, ACTIVE, desired=3)
    assert (status, reason) == ("True", "FollowsLoad")
    assert message == "2 replicas; the autoscaler wants 3 of 1 to 4"


def test_a_replica_that_does_not_serve_is_awaited() -> None:
    status, reason, message = told(ABLE, ACTIVE, LIMITED, serving=1, may_grow=False)
    assert (status, reason) == ("True", "ReplicaAwaited")
    assert message == "1 of 2 replicas serve; no more are added until all do"
    message = told(ABLE, ACTIVE, LIMITED, may_grow=False)[2]
    assert message.endswith("until the newest replica has had time to take its part of the load")


def test_a_load_that_needs_more_than_the_maximum_is_reported() -> None:
    status, reason, message = told(ABLE, ACTIVE, LIMITED)
    assert (status, reason) == ("True", "MaximumReached")
    assert "4 replicas" in message


def test_missing_metrics_are_reported_in_the_autoscalers_words() -> None:
    assert told(ABLE, NO_METRIC) == ("False", "MetricsMissing", NO_METRIC["message"])
    assert told(ABLE, NO_METRIC, serving=1)[1] == "MetricsMissing"


def test_an_autoscaler_that_looked_before_the_server_had_a_status_has_not_seen_the_load() -> None:
    early = {**NO_METRIC, "reason": "InvalidSelector", "message": "the HPA target's scale is missing a selector"}
    assert told(ABLE, early)[:2] == ("Unknown", "AutoscalerPending")
    assert told(ABLE, early, serving=0, may_grow=False)[:2] == ("True", "ReplicaAwaited")


def test_metrics_do_not_count_as_missing_while_no_replica_serves() -> None:
    assert told(ABLE, NO_METRIC, serving=0, may_grow=False)[:2] == ("True", "ReplicaAwaited")


def test_an_autoscaler_that_cannot_scale_says_why() -> None:
    failed = {"type": "AbleToScale", "status": "False", "reason": "FailedGetScale", "message": "forbidden"}
    assert told(failed) == ("False", "ScalingFailed", "forbidden")


def test_an_autoscaler_without_conditions_is_pending() -> None:
    assert told()[:2] == ("Unknown", "AutoscalerPending")
    assert told(ABLE)[:2] == ("Unknown", "AutoscalerPending")
    wanted = ServerSpec.model_validate({"autoscaling": {"maxReplicas": 4}})
    assert autoscaling_condition(wanted, None, Autoscalers()).reason == "AutoscalerPending"


def test_a_server_without_pods_says_what_switched_the_autoscaler_off() -> None:
    assert told(ABLE, NO_METRIC, suspend=True)[:2] == ("False", "Suspended")
    assert told(ABLE, NO_METRIC, replicas=0)[:2] == ("False", "NoReplicas")


KEDA: Manifest = {"minReplicas": 0, "maxReplicas": 4, "keda": {"prometheusAddress": "http://prometheus:9090"}}
VALID = {"type": "Ready", "status": "True", "reason": "ScaledObjectReady", "message": "is ready for scaling"}


def told_by_keda(*conditions: Manifest, **changes: Any) -> tuple[str, str, str]:
    """Return status, reason and message, given the conditions of the ScaledObject. KEDA's autoscaler works."""
    scaled_object = {"status": {"conditions": list(conditions)}}
    return told(ABLE, ACTIVE, scaled_object=scaled_object, **{"autoscaling": KEDA, **changes})


def test_a_server_that_keda_scales_follows_the_load_by_kedas_autoscaler() -> None:
    assert told_by_keda(VALID, desired=3)[1:] == ("FollowsLoad", "2 replicas; the autoscaler wants 3 of 0 to 4")
    assert told_by_keda(VALID, serving=1, may_grow=False)[1] == "ReplicaAwaited"


def test_a_server_that_keda_has_scaled_to_zero_is_not_switched_off() -> None:
    assert told_by_keda(VALID, serving=0, replicas=0, may_grow=False)[:2] == ("True", "ScaledToZero")
    assert told_by_keda(VALID, serving=0, replicas=0, suspend=True)[:2] == ("False", "Suspended")


def test_a_sleeping_server_whose_weights_are_missing_does_not_promise_that_a_request_starts_a_replica() -> None:
    asleep = told_by_keda(VALID, serving=0, replicas=0, may_grow=False, awaits_weights=True)
    assert asleep[:2] == ("True", "ScaledToZero")
    assert asleep[2].endswith("the replica starts when the weights are complete")


def test_a_scaled_object_that_keda_has_not_seen_is_pending() -> None:
    assert told_by_keda()[:2] == ("Unknown", "AutoscalerPending")
    assert told_by_keda({"type": "Ready", "status": "Unknown"})[:2] == ("Unknown", "AutoscalerPending")


def test_metrics_that_keda_does_not_get_are_reported_even_while_no_replica_runs() -> None:
    failed = {"type": "Ready", "status": "False", "reason": "TriggerError", "message": "Triggers do not work"}
    assert told_by_keda(failed) == ("False", "MetricsMissing", "Triggers do not work")
    assert told_by_keda(failed, replicas=0, serving=0, may_grow=False)[:2] == ("False", "MetricsMissing")


def test_a_scaled_object_that_keda_refuses_is_reported_in_kedas_words() -> None:
    refused = {"type": "Ready", "status": "False", "reason": "ScaledObjectCheckFailed", "message": "no such secret"}
    assert told_by_keda(refused) == ("False", "ScalingFailed", "no such secret")


def test_a_paused_scaled_object_is_reported() -> None:
    paused = {"type": "Paused", "status": "True", "reason": "ScaledObjectPaused", "message": "paused"}
    assert told_by_keda(VALID, paused)[:2] == ("False", "AutoscalerPaused")
