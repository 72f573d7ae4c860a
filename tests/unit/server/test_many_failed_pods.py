"""A user can create hundreds of failed pods with long messages. A pass examines only a few of them."""

from collections.abc import Callable

import pytest

from kimi_linear_operator.benchmark.job_reasons import job_reason
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import POD, Manifest
from kimi_linear_operator.kubernetes.pod_reasons import last_failure, worst_reason
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server.owned import own_pods
from kimi_linear_operator.server.sglang.program import SGLANG
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.weights import progress
from kimi_linear_operator.weights.job import CONTAINER
from make import make_failed_pod, make_pod
from passes import new_cache
from processor_time import cost

NOW = "2026-11-24T12:00:00Z"
# The kubelet keeps at most 4096 bytes of a termination message. Each line of it is examined.
MESSAGE = "E\n" * 2048
SAID = '{"state": "VolumeFull", "message": "' + "E token=a " * 400 + '"}'
PODS = 400
# Each of these costs at most 7, and without a limit at least 130.
MOST_COST = 30


def failed_pod(number: int) -> Manifest:
    """Return a pod with three containers that fail again and again."""
    pod = make_failed_pod(f"kimi-{number:03}", log=MESSAGE, time=f"2026-11-24T09:{number % 60:02}:00Z")
    [container] = pod["status"]["containerStatuses"]
    containers = [{**container, "name": name} for name in ("sglang", "b", "c")]
    return {**pod, "status": {**pod["status"], "containerStatuses": containers}}


def ended_pod(number: int) -> Manifest:
    """Return a failed pod, which the API server keeps."""
    pod = failed_pod(number)
    return {**pod, "status": {**pod["status"], "phase": "Failed"}}


def fetching_pod(number: int) -> Manifest:
    """Return a pod that failed to fetch weights."""
    state = {"terminated": {"exitCode": 1, "message": SAID, "finishedAt": f"2026-11-24T09:{number % 60:02}:00Z"}}
    return make_pod(f"kimi-{number:03}", containerStatuses=[{"name": CONTAINER, "state": state, "lastState": state}])


def job_of(pods: list[Manifest]) -> Reason | None:
    return job_reason({"metadata": {"name": "kimi", "creationTimestamp": NOW}}, pods, [], NOW)


@pytest.mark.parametrize(
    ("build", "examine"),
    [
        (failed_pod, lambda pods: worst_reason(pods, NOW, SGLANG)),
        (ended_pod, lambda pods: last_failure(pods, None, SGLANG)),
        (failed_pod, job_of),
        (fetching_pod, lambda pods: list(progress.latest_ends(pods))),
    ],
    ids=["reason", "last failure", "job", "weights"],
)
def test_hundreds_of_failed_pods_take_little_time(
    build: Callable[[int], Manifest], examine: Callable[[list[Manifest]], object]
) -> None:
    pods = [build(number) for number in range(PODS)]
    assert examine(pods)
    assert cost(lambda: examine(pods), tries=3) < MOST_COST


def test_the_latest_of_many_failures_is_reported() -> None:
    reported = last_failure([ended_pod(number) for number in range(PODS)], None, SGLANG)
    assert reported
    assert reported["time"] == "2026-11-24T09:59:00Z"


def test_the_end_of_a_long_message_is_quoted() -> None:
    pod = make_failed_pod(log="E\n" * 500 + "RuntimeError: the last line\n")
    reported = last_failure([pod], None, SGLANG)
    assert reported
    assert reported["message"] == "RuntimeError: the last line"


def test_a_hand_made_pod_with_a_servers_labels_does_not_belong_to_the_server() -> None:
    cache, own, made = new_cache(), make_pod("own"), make_pod("made-by-hand")
    del made["metadata"]["ownerReferences"]
    for pod in (own, made):
        cache.put(POD, pod)
    assert [pod["metadata"]["name"] for pod in own_pods(cache, Key("default", "kimi", SERVER))] == ["own"]
