"""The status over time: kept fields, left-out fields, and new Events. Whole statuses are in the golden files."""

from dataclasses import replace
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.conditions import LONGEST_MESSAGE, Reason, find_condition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reasons.name import ReasonName
from kimi_linear_operator.server.events import transition_event
from kimi_linear_operator.server.observation import ServerObservation
from kimi_linear_operator.server.previous_status import was_applied, was_rolled_back
from kimi_linear_operator.server.revision import History
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.status import server_status
from kimi_linear_operator.server.template_choice import TemplateChoice, choose
from make import make_condition, make_deployment, make_failed_pod, make_pod, make_server

EARLIER, NOW, LATER = "2026-11-24T09:00:00Z", "2026-11-24T10:00:00Z", "2026-11-24T10:05:00Z"
SERVING = make_deployment(observedGeneration=1, replicas=1, updatedReplicas=1, readyReplicas=1, availableReplicas=1)
STARTING = make_deployment(observedGeneration=1, replicas=1, updatedReplicas=1)
LOADING_POD = make_pod(
    phase="Running", containerStatuses=[{"name": "sglang", "started": False, "state": {"running": {}}}]
)


def summary(
    now: str = NOW, *, server: Manifest | None = None, obstacle: Reason | None = None, **observed: Any
) -> Manifest:
    manifest = server or make_server()
    return server_status(
        ServerObservation(manifest, KimiLinearServer.model_validate(manifest), obstacle, **observed), now
    )


def conditions(status: Manifest) -> dict[str, Manifest]:
    return {condition["type"]: condition for condition in status["conditions"]}


def times(status: Manifest) -> dict[str, str]:
    return {name: condition["lastTransitionTime"] for name, condition in conditions(status).items()}


def with_status(status: Manifest, **spec: Any) -> Manifest:
    return make_server(**spec) | {"status": status}


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    before = summary(EARLIER, deployment=STARTING, pods=[LOADING_POD])
    after = summary(NOW, server=with_status(before), deployment=SERVING)
    assert times(before) == dict.fromkeys(times(before), EARLIER)
    assert times(after) == {
        "Accepted": EARLIER,
        "Available": NOW,
        "Ready": NOW,
        "Reconciling": NOW,
        "Stalled": EARLIER,
        "Synced": EARLIER,
        "TemplateCurrent": EARLIER,
    }


def test_another_reason_alone_does_not_change_a_conditions_time() -> None:
    before = summary(EARLIER, deployment=STARTING, pods=[LOADING_POD])
    after = summary(NOW, server=with_status(before), deployment=STARTING, pods=[make_failed_pod()])
    assert conditions(before)["Ready"]["reason"] != conditions(after)["Ready"]["reason"]
    assert times(after) == times(before)


def test_the_same_observation_gives_the_same_status_so_that_nothing_is_written() -> None:
    before = summary(EARLIER, deployment=SERVING)
    assert summary(NOW, server=with_status(before), deployment=SERVING) == before


def test_a_write_that_affects_no_pod_does_not_change_readiness() -> None:
    unseen = {**SERVING, "metadata": {**SERVING["metadata"], "generation": 2}}
    ready = summary(EARLIER, deployment=SERVING)
    assert summary(NOW, server=with_status(ready), deployment=unseen) == ready
    starting = summary(EARLIER, deployment=STARTING)
    assert conditions(summary(NOW, server=with_status(starting), deployment=unseen))["Ready"]["status"] == "False"


def test_a_write_that_replaces_pods_makes_a_server_unready_at_once() -> None:
    unseen = {**SERVING, "metadata": {**SERVING["metadata"], "generation": 2}}
    manifest = with_status(summary(EARLIER, deployment=SERVING))
    newest = choose(KimiLinearServer.model_validate(manifest), History()).current
    older = replace(newest, template={"metadata": {}, "spec": {}})
    for running, is_ready in ((older, "False"), (newest, "True")):
        status = summary(NOW, server=manifest, deployment=unseen, choice=TemplateChoice(newest, running=running))
        assert conditions(status)["Ready"]["status"] == is_ready


def test_a_changed_spec_is_not_ready_before_its_deployments_controller_has_seen_it() -> None:
    unseen = {**SERVING, "metadata": {**SERVING["metadata"], "generation": 2}}
    changed = with_status(summary(EARLIER, deployment=SERVING))
    changed["metadata"]["generation"] = 2
    assert conditions(summary(NOW, server=changed, deployment=unseen))["Ready"]["status"] == "False"


@pytest.mark.parametrize(("updated", "reason"), [(0, "RolloutPaused"), (1, "RollingOut")])
def test_a_paused_rollout_is_reported_when_pods_wait_for_it(updated: int, reason: str) -> None:
    paused = {**SERVING, "spec": {"paused": True}, "status": {**SERVING["status"], "updatedReplicas": updated}}
    paused["metadata"] = {**SERVING["metadata"], "generation": 2}
    ready = conditions(summary(deployment=paused))["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", reason)


def test_a_contested_child_is_reported_and_makes_no_server_unready() -> None:
    told = "Deployment kimi: kube-controller-manager keeps changing spec.replicas"
    status = summary(deployment=SERVING, contested=(told,))
    synced = conditions(status)["Synced"]
    assert (synced["status"], synced["reason"]) == ("False", "ChangedByOthers")
    assert told in synced["message"]
    assert conditions(status)["Ready"]["status"] == "True"


def test_withheld_children_are_reported_and_make_no_server_unready() -> None:
    withheld = (Reason("KindMissing", "no routes"), Reason("KindForbidden", "no budgets"))
    status = summary(deployment=SERVING, withheld=withheld)
    synced = conditions(status)["Synced"]
    assert (synced["status"], synced["reason"]) == ("False", "KindMissing")
    assert synced["message"] == "no routes; no budgets"
    assert conditions(status)["Ready"]["status"] == "True"


def test_a_long_message_is_cut_to_the_length_of_an_event() -> None:
    status = summary(obstacle=Reason("InvalidSpec", "x" * 5000, blames_spec=True))
    messages = {len(condition["message"]) for condition in status["conditions"]}
    assert max(messages) == LONGEST_MESSAGE == 1024
    assert conditions(status)["Accepted"]["message"].endswith("x ...")


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        ("using token hf_abcDEF1234567890", "using token [redacted]"),
        ("ServerArgs(api_key='sk-12-34', tp=4)", "ServerArgs(api_key='[redacted]', tp=4)"),
        ('api_key="secret"', 'api_key="[redacted]"'),
        ("api_key: secret", "api_key: [redacted]"),
        ("HF_TOKEN=verysecret rest", "HF_TOKEN=[redacted] rest"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [redacted]"),
        ("max_total_num_tokens=1048576, chunked", "max_total_num_tokens=1048576, chunked"),
    ],
)
def test_secrets_in_a_quoted_log_are_redacted(log: str, shown: str) -> None:
    status = summary(deployment=STARTING, pods=[make_failed_pod(log=log)])
    assert status["lastFailure"]["message"] == shown
    assert conditions(status)["Ready"]["message"].endswith(f"exit code 1 (Error): {shown}")


def test_a_secret_is_redacted_before_the_quote_is_cut() -> None:
    log = "hf_" + "a" * 410
    message = summary(deployment=STARTING, pods=[make_failed_pod(log=log)])["lastFailure"]["message"]
    assert message == "[redacted]"


def test_a_quote_is_the_end_of_the_log_on_one_line() -> None:
    log = "x" * 4000 + "\n\n  the last words  \n"
    message = summary(deployment=STARTING, pods=[make_failed_pod(log=log)])["lastFailure"]["message"]
    assert message.endswith("xx | the last words")
    assert len(message) == 400


def test_the_last_failure_outlives_its_pod() -> None:
    before = summary(deployment=STARTING, pods=[make_failed_pod("kimi-old", log="boom")])
    after = summary(server=with_status(before), deployment=SERVING)
    assert after["lastFailure"] == before["lastFailure"]
    assert after["lastFailure"]["pod"] == "kimi-old"


@pytest.mark.parametrize(("time", "pod"), [("2026-11-24T09:40:00Z", "kimi-new"), ("2026-11-24T09:20:00Z", "kimi-old")])
def test_the_later_of_two_failures_is_reported(time: str, pod: str) -> None:
    before = summary(deployment=STARTING, pods=[make_failed_pod("kimi-old", time="2026-11-24T09:30:00Z")])
    after = summary(server=with_status(before), deployment=STARTING, pods=[make_failed_pod("kimi-new", time=time)])
    assert after["lastFailure"]["pod"] == pod


def test_the_end_of_a_deleted_pod_is_no_failure() -> None:
    pod = make_failed_pod()
    pod["metadata"]["deletionTimestamp"] = NOW
    status = summary(deployment=STARTING, pods=[pod])
    assert "lastFailure" not in status
    assert conditions(status)["Ready"]["reason"] == "Starting"


def test_the_pod_with_the_worst_problem_is_reported() -> None:
    unschedulable = make_pod(
        "kimi-2", phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    )
    pods = [LOADING_POD, unschedulable, make_failed_pod("kimi-1", log="boom")]
    assert conditions(summary(deployment=STARTING, pods=pods))["Ready"]["reason"] == "CrashLooping"
    assert conditions(summary(deployment=STARTING, pods=pods[:2]))["Ready"]["reason"] == "Unschedulable"


def test_a_deployment_that_its_controller_has_not_seen_is_not_ready() -> None:
    stale = SERVING | {"metadata": {**SERVING["metadata"], "generation": 2}}
    assert conditions(summary(deployment=stale))["Ready"]["status"] == "False"


@pytest.mark.parametrize(
    "counters",
    [
        {"replicas": 2, "updatedReplicas": 1, "availableReplicas": 1},
        {"replicas": 1, "updatedReplicas": 0, "availableReplicas": 1},
        {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 0},
    ],
    ids=["an old replica runs", "the replica is an old one", "the replica does not serve"],
)
def test_ready_means_that_every_replica_is_of_this_generation_and_serves(counters: Manifest) -> None:
    deployment = make_deployment(observedGeneration=1, **counters)
    assert conditions(summary(deployment=deployment))["Ready"]["status"] == "False"


@pytest.mark.parametrize("blames_spec", [True, False])
def test_only_an_error_of_the_spec_stalls_a_server(blames_spec: bool) -> None:
    status = summary(obstacle=Reason("ApplyFailed", "no", blames_spec=blames_spec), deployment=STARTING)
    found = {name: condition["status"] for name, condition in conditions(status).items()}
    assert found == {
        "Accepted": str(not blames_spec),
        "Available": "False",
        "Ready": "False",
        "Reconciling": str(not blames_spec),
        "Stalled": str(blames_spec),
        "Synced": "True",
        "TemplateCurrent": "Unknown",
    }


def test_a_new_template_is_offered_only_to_a_running_server() -> None:
    current = choose(KimiLinearServer.model_validate(make_server()), History()).current
    for deployment, reason in ((STARTING, "NewTemplateAvailable"), (None, "SpecNotApplied")):
        status = summary(
            obstacle=Reason("ApplyFailed", "no"), deployment=deployment, choice=TemplateChoice(current, offer=("spec",))
        )
        assert conditions(status)["TemplateCurrent"]["reason"] == reason


def test_an_unreadable_server_keeps_the_known_status_of_its_running_pods() -> None:
    before = summary(deployment=SERVING)
    manifest = with_status(before, replicas="two")
    status = server_status(
        ServerObservation(manifest, None, Reason("InvalidSpec", "no", blames_spec=True), SERVING), NOW
    )
    assert {key: value for key, value in status.items() if key != "conditions"} == {
        key: value for key, value in before.items() if key != "conditions"
    }
    assert conditions(status)["Available"]["status"] == "True"


@pytest.mark.parametrize("is_readable", [True, False])
def test_a_server_whose_spec_is_refused_keeps_the_condition_of_its_autoscaler(*, is_readable: bool) -> None:
    scales = make_condition("Autoscaling", "True", "FollowsLoad", "2 replicas; the autoscaler wants 2 of 1 to 3")
    manifest = with_status({"conditions": [scales]}, autoscaling={"maxReplicas": 3})
    server = KimiLinearServer.model_validate(manifest) if is_readable else None
    refused = Reason("InvalidSpec", "no", blames_spec=True)
    status = server_status(ServerObservation(manifest, server, refused, SERVING), NOW)
    assert scales.items() <= conditions(status)["Autoscaling"].items()
    # A new server has no autoscaler yet.
    new = server_status(ServerObservation(make_server(), server, refused), NOW)
    assert "Autoscaling" not in conditions(new)


@pytest.mark.parametrize(
    ("reason", "blames_spec"), [("ApplyFailed", False), ("ApplyFailed", True), ("Replacing", False)]
)
def test_a_valid_spec_that_its_pods_do_not_have_yet_decides_about_the_other_conditions(
    reason: ReasonName, *, blames_spec: bool
) -> None:
    before = [
        make_condition("Autoscaling", "True", "FollowsLoad", "m"),
        make_condition("Exposed", "True", "Exposed", "m"),
    ]
    manifest = with_status({"conditions": before, "addresses": ["http://192.0.2.1:30000"]})
    refused = Reason(reason, "no", blames_spec=blames_spec)
    status = server_status(
        ServerObservation(manifest, KimiLinearServer.model_validate(manifest), refused, SERVING), NOW
    )
    assert {"Autoscaling", "Exposed"}.isdisjoint(conditions(status))
    assert "addresses" not in status


def ready(status: str, reason: str) -> Manifest:
    return {"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": f"{reason}."}]}


PENDING, SERVES = ready("Unknown", "Pending"), ready("True", "AllReplicasServe")
LOADING, CRASHING = ready("False", "ModelLoading"), ready("False", "CrashLooping")
SUSPENDED, ROLLING_OUT = ready("False", "Suspended"), ready("False", "RollingOut")


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ({}, LOADING, None),
        (PENDING, LOADING, None),
        (CRASHING, LOADING, None),
        (LOADING, LOADING, None),
        (CRASHING, CRASHING, None),
        (SERVES, SERVES, None),
        (PENDING, SERVES, "Normal"),
        (LOADING, SERVES, "Normal"),
        (SERVES, LOADING, "Normal"),
        (SERVES, ROLLING_OUT, "Normal"),
        (SERVES, SUSPENDED, "Normal"),
        (LOADING, CRASHING, "Warning"),
        (SERVES, CRASHING, "Warning"),
        (CRASHING, ready("False", "OutOfMemory"), "Warning"),
        (PENDING, ready("False", "InvalidSpec"), "Warning"),
    ],
)
def test_an_event_reports_only_news(before: Manifest, after: Manifest, kind: str | None) -> None:
    event = transition_event(with_status(before), after, NOW)
    (condition,) = after["conditions"]
    told = event and (event["type"], event["reason"], event["message"])
    assert told == (kind and (kind, condition["reason"], condition["message"]))


def test_an_event_names_the_resource_that_it_is_about() -> None:
    event = transition_event(with_status(LOADING), SERVES, NOW)
    assert event
    name = event["metadata"].pop("name")
    assert name.startswith("kimi.")
    assert event == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": "default"},
        "involvedObject": {
            "apiVersion": "kimi-linear.io/v1alpha1",
            "kind": "KimiLinearServer",
            "name": "kimi",
            "namespace": "default",
            "uid": make_server()["metadata"]["uid"],
            "resourceVersion": "1",
        },
        "type": "Normal",
        "reason": "AllReplicasServe",
        "message": "AllReplicasServe.",
        "source": {"component": "kimi-linear-operator"},
        "reportingComponent": "kimi-linear-operator",
        "firstTimestamp": NOW,
        "lastTimestamp": NOW,
        "count": 1,
    }


def test_events_of_different_states_or_reasons_in_one_second_have_different_names() -> None:
    later = with_status(LOADING)
    later["metadata"] = {**later["metadata"], "resourceVersion": "2"}
    news = [(with_status(LOADING), SERVES), (later, SERVES), (with_status(LOADING), CRASHING)]
    events = [transition_event(manifest, status, NOW) for manifest, status in news]
    assert len({event["metadata"]["name"] for event in events if event}) == 3


def test_a_repeated_event_has_the_same_name_at_any_time() -> None:
    events = [transition_event(with_status(LOADING), SERVES, when) for when in (EARLIER, NOW)]
    assert len({event["metadata"]["name"] for event in events if event}) == 1


REFUSED_BY_QUOTA = make_deployment(
    observedGeneration=1,
    conditions=[
        {"type": "ReplicaFailure", "status": "True", "message": 'pods "kimi-7" is forbidden: exceeded quota: gpus'}
    ],
)
UNSCHEDULABLE_POD = make_pod(
    "kimi-new",
    phase="Pending",
    conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}],
)


def unschedulable(message: str) -> Manifest:
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return make_pod(phase="Pending", conditions=[scheduled])


_NO_MATCH = "2 node(s) didn't match Pod's node affinity/selector"
_NEEDS = "a replica needs 8 free amd.com/gpu on one node whose GPUs are all mi325x and not partitioned"


@pytest.mark.parametrize("causes", [f"1 Insufficient amd.com/gpu, {_NO_MATCH}", "3 node(s) were unschedulable"])
def test_the_needs_of_an_unschedulable_replica_are_reported(causes: str) -> None:
    server = make_server(hardware="mi325x", tensorParallelism=8)
    pods = [unschedulable(f"0/3 nodes are available: {causes}.")]
    told = conditions(summary(server=server, deployment=STARTING, pods=pods))["Ready"]["message"]
    assert told.endswith(f"{causes}. ({_NEEDS})")


def test_the_message_about_unsuitable_nodes_names_the_label_and_nodes_with_two_models() -> None:
    server = make_server(hardware="mi325x", tensorParallelism=8)
    pods = [unschedulable(f"0/2 nodes are available: {_NO_MATCH}.")]
    told = conditions(summary(server=server, deployment=STARTING, pods=pods))["Ready"]["message"]
    assert f"{_NO_MATCH}. ({_NEEDS}. Such a node has the label amd.com/gpu.device-id=74a5 or 74b9. " in told
    assert "sets it, but not on a node with several GPU models: put GPUs of one model into each node. " in told
    assert "`kubectl get nodes -L amd.com/gpu.device-id,amd.com/gpu.cu-count`" in told


def ending(name: str) -> Manifest:
    pod = make_pod(name)
    return {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": LATER}}


@pytest.mark.parametrize(
    "observed",
    [
        {"deployment": REFUSED_BY_QUOTA, "pods": [ending("kimi-old")]},
        {"deployment": STARTING, "pods": [UNSCHEDULABLE_POD, ending("kimi-old")]},
    ],
    ids=["a full quota", "GPUs that are taken"],
)
def test_a_pod_that_waits_for_an_old_one_is_reported_with_that_pod(observed: Any) -> None:
    told = conditions(summary(server=make_server(drain={"timeoutSeconds": 60}), **observed))["Ready"]
    assert told["reason"] == "OldPodTerminating"
    assert "pod kimi-old finishes its requests, within drain.timeoutSeconds (60 s)" in told["message"]


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        ({"deployment": REFUSED_BY_QUOTA, "pods": []}, "PodCreationFailed"),
        ({"deployment": STARTING, "pods": [UNSCHEDULABLE_POD]}, "Unschedulable"),
        ({"deployment": STARTING, "pods": [make_failed_pod(), ending("kimi-old")]}, "CrashLooping"),
    ],
    ids=["a quota", "no room", "another trouble"],
)
def test_an_old_pod_is_named_only_if_a_new_pod_waits_for_it(observed: Any, reason: str) -> None:
    assert conditions(summary(**observed))["Ready"]["reason"] == reason


@pytest.mark.parametrize("obstacle", ["ApplyFailed", "InvalidSpec", "NameConflict", "Replacing"])
def test_an_applied_spec_stays_applied_whatever_obstacle_comes_later(obstacle: Any) -> None:
    """Otherwise the operator would replace the running pods as soon as the obstacle is gone."""
    server = make_server()
    generation = server["metadata"]["generation"]
    before = server_status(
        ServerObservation(server, KimiLinearServer.model_validate(server), deployment=make_deployment()), NOW
    )
    assert was_applied(before, generation)
    for _ in range(2):
        manifest = server | {"status": before}
        before = server_status(
            ServerObservation(manifest, KimiLinearServer.model_validate(manifest), Reason(obstacle, "x")), NOW
        )
        assert was_applied(before, generation)
    assert not was_applied(before, generation + 1)
    never = server_status(
        ServerObservation(server, KimiLinearServer.model_validate(server), Reason(obstacle, "x")), NOW
    )
    assert not was_applied(never, generation)


@pytest.mark.parametrize("reason", ["RolledBack", "TemplateRejected"])
def test_a_problem_does_not_hide_that_the_pods_went_back_to_an_older_template(reason: str) -> None:
    server = make_server()
    generation = server["metadata"]["generation"]
    conditions = [
        make_condition("Ready", "True", "AllReplicasServe", ""),
        make_condition("TemplateCurrent", "False", reason, ""),
    ]
    before: Manifest = {"observedGeneration": generation, "conditions": conditions}
    for _ in range(2):
        manifest = server | {"status": before}
        seen = ServerObservation(manifest, KimiLinearServer.model_validate(manifest), Reason("ApplyFailed", "x"))
        before = server_status(seen, NOW)
        assert find_condition(before, "TemplateCurrent")["reason"] == reason
        assert was_rolled_back(before, generation)
    changed = server | {"metadata": {**server["metadata"], "generation": generation + 1}, "status": before}
    seen = ServerObservation(changed, KimiLinearServer.model_validate(changed), Reason("ApplyFailed", "x"))
    assert find_condition(server_status(seen, NOW), "TemplateCurrent")["reason"] == "SpecNotApplied"


@pytest.mark.parametrize(("template", "is_applied"), [("Newest", True), ("SpecNotApplied", False)])
def test_for_an_unknown_reason_template_current_says_whether_the_spec_was_applied(
    template: str, is_applied: bool
) -> None:
    ready = make_condition("Ready", "False", "NewerThanThis", "")
    conditions = [ready, make_condition("TemplateCurrent", "Unknown", template, "")]
    assert was_applied({"observedGeneration": 1, "conditions": conditions}, 1) == is_applied
