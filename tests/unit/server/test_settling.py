"""A new pod template counts as good only when all pods have been Ready with it for the rollout's pause."""

from typing import Any

from kimi_linear_operator.server.settling import rollout_seconds_left, seconds_left

NOW = "2026-11-24T12:00:00Z"


def pod(ready: str, since: str, **metadata: Any) -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": since}
    return {"metadata": metadata, "status": {"conditions": [condition]}}


def test_the_pod_that_became_ready_last_decides() -> None:
    pods = [pod("True", "2026-11-24T11:50:00Z"), pod("True", "2026-11-24T11:59:00Z")]
    assert seconds_left(pods, 300, NOW) == 240
    assert seconds_left(pods[:1], 300, NOW) <= 0


def test_a_pod_that_is_not_ready_needs_the_whole_pause() -> None:
    assert seconds_left([pod("False", "2026-11-24T11:00:00Z")], 300, NOW) == 300
    assert seconds_left([{"metadata": {}, "status": {}}], 300, NOW) == 300


def test_ending_and_evicted_pods_and_a_server_without_pods_need_no_pause() -> None:
    assert seconds_left([pod("True", NOW, deletionTimestamp=NOW)], 300, NOW) <= 0
    assert seconds_left([], 300, NOW) <= 0
    evicted = pod("False", NOW)
    evicted["status"]["phase"] = "Failed"
    assert seconds_left([evicted], 300, NOW) <= 0


def deployment(complete: str, available: str, status: str = "True") -> dict[str, Any]:
    progressing = {"type": "Progressing", "status": "True", "lastUpdateTime": complete}
    conditions = [{"type": "Available", "status": status, "lastTransitionTime": available}]
    return {"status": {"conditions": [*conditions, *([progressing] if complete else [])]}}


def test_a_deployment_must_stay_available_after_its_rollout_is_complete() -> None:
    early, late = "2026-11-24T11:00:00Z", "2026-11-24T11:59:00Z"
    assert rollout_seconds_left(deployment(late, early), 300, NOW) == 240
    assert rollout_seconds_left(deployment(early, late), 300, NOW) == 240
    assert rollout_seconds_left(deployment(early, early), 300, NOW) == 0
    assert rollout_seconds_left(deployment(early, early, "False"), 300, NOW) == 300
    assert rollout_seconds_left({}, 300, NOW) == 300


def test_a_deployment_without_a_deadline_must_stay_available() -> None:
    assert rollout_seconds_left(deployment("", "2026-11-24T11:59:00Z"), 300, NOW) == 240
