"""The reasons for children whose kind cannot be read."""

import pytest

from kimi_linear_operator.cluster.errors import ApiError, OtherVersionError
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import AUTOSCALER, DISRUPTION_BUDGET, SCALED_OBJECT, SERVICE, Kind
from kimi_linear_operator.reconcile.withheld import Former, Split, split
from kimi_linear_operator.server.manifests import build_companions
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server

CHILDREN = build_companions(
    KimiLinearServer.model_validate(make_server(replicas=2, service={"headless": True}, tensorParallelism=4))
)
SERVICES = [child for child in CHILDREN if child["kind"] == "Service"]
OTHERS = [child for child in CHILDREN if child["kind"] != "Service"]
SCALED = build_companions(
    KimiLinearServer.model_validate(make_server(tensorParallelism=4, autoscaling={"maxReplicas": 2}))
)
FORMER = Former(SCALED_OBJECT, {"kind": SCALED_OBJECT.kind, "metadata": {"name": "kimi"}})


def test_all_children_are_written_while_all_kinds_can_be_read() -> None:
    assert split(CHILDREN, {}) == Split(CHILDREN)


def test_a_missing_kind_is_named_with_its_version() -> None:
    message = "Service kimi, kimi-headless: the cluster has no services of version v1"
    assert split(CHILDREN, {SERVICE: ApiError(404, "page not found")}) == Split(
        OTHERS, (Reason("KindMissing", message),), frozenset({SERVICE})
    )


def test_each_kind_has_its_own_reason_and_changing_errors_are_not_quoted() -> None:
    unreadable = {SERVICE: ApiError(503, "request 17 timed out"), DISRUPTION_BUDGET: ApiError(403, "User x cannot")}
    assert split(CHILDREN, unreadable) == Split(
        [],
        (
            Reason(
                "KindForbidden",
                "PodDisruptionBudget kimi: the operator's Role does not allow poddisruptionbudgets.policy",
            ),
            Reason("KindUnreadable", "Service kimi, kimi-headless: the operator cannot list services"),
        ),
        frozenset({SERVICE, DISRUPTION_BUDGET}),
    )


def test_an_unreadable_kind_that_no_child_needs_is_not_reported() -> None:
    route = Kind("example.com", "v1", "Route", "routes")
    assert split(OTHERS, {route: ApiError(404, "")}) == Split(OTHERS, (), frozenset({route}))


@pytest.mark.parametrize("error", [ApiError(0, "default backend - 404"), ApiError(403, ""), ApiError(503, "")])
def test_a_former_autoscaler_is_not_gone_because_its_kind_cannot_be_read(error: ApiError) -> None:
    """A list that a proxy answers with status 404 has the error of a list without an answer."""
    found = split(SCALED, {SCALED_OBJECT: error}, {AUTOSCALER: FORMER})
    assert AUTOSCALER.kind not in {child["kind"] for child in found.writable}
    assert [reason.message for reason in found.withheld if "waits until ScaledObject kimi is gone" in reason.message]


def test_a_former_autoscaler_is_gone_with_its_kind() -> None:
    found = split(SCALED, {SCALED_OBJECT: ApiError(404, "page not found")}, {AUTOSCALER: FORMER})
    assert AUTOSCALER.kind in {child["kind"] for child in found.writable}


def test_a_former_autoscaler_is_not_gone_while_the_cluster_has_its_kind_in_another_version() -> None:
    error = OtherVersionError(404, "the API server does not serve scaledobjects of keda.sh/v1alpha1, but of keda.sh/v1")
    found = split(SCALED, {SCALED_OBJECT: error}, {AUTOSCALER: FORMER})
    assert AUTOSCALER.kind not in {child["kind"] for child in found.writable}
    message = (
        "HorizontalPodAutoscaler kimi waits until ScaledObject kimi is gone: "
        "the cluster has scaledobjects.keda.sh, but not of version v1alpha1"
    )
    assert found.withheld == (Reason("KindMissing", message),)
