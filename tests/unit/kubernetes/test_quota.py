"""Pods that a quota refuses: when the operator wakes the controller again, and when it does not."""

import pytest

from kimi_linear_operator.kubernetes import quota
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.quota import Wake
from make import make_deployment, make_pod

QUOTA = 'pods "kimi-7" is forbidden: exceeded quota: gpus, requested: requests.amd.com/gpu=4, used: 4, limited: 4'
NOW = "2026-11-24T10:00:00Z"
LATER = "2026-11-24T10:00:06Z"


def refused(message: str = QUOTA, status: str = "True") -> Manifest:
    condition = {"type": "ReplicaFailure", "status": status, "reason": "FailedCreate", "message": message}
    return make_deployment(conditions=[condition])


def pod(name: str, *, ending: bool = False) -> Manifest:
    made = make_pod(name)
    deletion = {"deletionTimestamp": NOW} if ending else {}
    return {**made, "metadata": {**made["metadata"], "uid": f"uid-{name}", **deletion}}


@pytest.mark.parametrize(
    "deployment",
    [None, make_deployment(), refused(status="False"), refused("violates PodSecurity")],
    ids=["none", "without conditions", "no longer refused", "refused for another reason"],
)
def test_a_deployment_that_no_quota_refuses_is_left_alone(deployment: Manifest | None) -> None:
    assert quota.wake(deployment, "", [], NOW) == Wake()


def test_the_controller_is_not_woken_while_an_old_pod_ends() -> None:
    assert quota.wake(refused(), "", [pod("a", ending=True)], NOW) == Wake()


def test_the_controller_is_woken_a_few_times_when_the_old_pod_has_gone() -> None:
    mark, asked, now = "", 0, NOW
    for minute in range(20):
        now = f"2026-11-24T10:{minute:02}:00Z"
        decision = quota.wake(refused(), mark, [], now)
        if decision.mark:
            asked, mark = asked + 1, decision.mark
    assert asked == quota.ATTEMPTS
    assert quota.wake(refused(), mark, [], now) == Wake()


def test_attempts_are_some_seconds_apart_however_many_passes_there_are() -> None:
    first = quota.wake(refused(), "", [], NOW)
    assert first.mark
    assert first.again == quota.SECONDS_BETWEEN_ATTEMPTS
    assert quota.wake(refused(), first.mark, [], "2026-11-24T10:00:02Z") == Wake(again=3.0)
    second = quota.wake(refused(), first.mark, [], LATER)
    assert second.mark not in (None, first.mark)


def test_each_pod_that_ends_is_a_reason_to_wake_the_controller_again() -> None:
    mark = ""
    for _ in range(quota.ATTEMPTS):
        mark = quota.wake(refused(), mark, [pod("a"), pod("b")], LATER).mark or mark
        mark = mark.replace(LATER, NOW)
    assert quota.wake(refused(), mark, [pod("a"), pod("b")], LATER) == Wake()
    assert quota.wake(refused(), mark, [pod("b")], LATER).mark


@pytest.mark.parametrize(
    "mark", ["x", "a.b.c", "a.1.never", "..", "7.7.7", f"a.{'1' * 5000}.{NOW}"], ids=lambda mark: mark[:9]
)
def test_a_mark_that_somebody_else_wrote_is_replaced(mark: str) -> None:
    assert quota.wake(refused(), mark, [], NOW).mark


def test_a_time_without_a_zone_in_a_mark_is_read() -> None:
    mark = quota.wake(refused(), "", [], NOW).mark or ""
    assert quota.wake(refused(), mark.removesuffix("Z"), [], LATER) == quota.wake(refused(), mark, [], LATER)
