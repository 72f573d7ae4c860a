"""Verification: which pod or server a benchmark asks, which results count, and which gates are opened."""

from dataclasses import replace
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.server import revision
from kimi_linear_operator.server.deployment import build_deployment, build_pod_template
from kimi_linear_operator.server.gate import GATE, opened, pods_to_open, template_label
from kimi_linear_operator.server.manifests import build_revision
from kimi_linear_operator.server.revision import History, Result, Revision
from kimi_linear_operator.server.rollouts import candidate
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.template_choice import choose
from kimi_linear_operator.server.verification import Observed, Verified, build_benchmark, name_of, result_of, verified
from make import make_condition, make_pod, make_server, stored
from passes import check_stored
from processor_time import cost

NOW = "2026-11-24T10:00:00Z"
PASSED = Result(has_passed=True, message="benchmark kimi-verify-1: fine")
FAILED = Result(has_passed=False, message="benchmark kimi-verify-2: accuracy is 0.3, at least 0.6 is asked for")


def server(mode: str = "Block", **spec: Any) -> KimiLinearServer:
    options = {"mode": mode, **spec.pop("verification", {})}
    return KimiLinearServer.model_validate(make_server(verification=options, **spec))


def current(owner: KimiLinearServer) -> Revision:
    return choose(owner, History()).current


def pod_of(revision_: Revision, name: str = "kimi-0", *, is_able: bool = True, **status: Any) -> Manifest:
    """A pod with a revision's template, whose containers are ready."""
    conditions = [{"type": "ContainersReady", "status": str(is_able)}]
    pod = make_pod(name, conditions=conditions, podIP="10.0.0.7", **status)
    about = pod["metadata"]
    labels = {**about["labels"], **revision_.template["metadata"]["labels"]}
    owners = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "kimi-1", "uid": "r", "controller": True}]
    identity = {"uid": f"uid-of-{name}", "creationTimestamp": NOW, "ownerReferences": owners}
    return {**pod, "metadata": {**about, "labels": labels, **identity}}


def ended(benchmark: Manifest, succeeded: str, verdict: str) -> Manifest:
    message = "accuracy of suite accuracy"
    conditions = [
        make_condition("Complete", "True", "SuitesEnded", "all suites have ended"),
        make_condition("Succeeded", succeeded, "ThresholdsMet", message),
    ]
    return stored({**benchmark, "status": {"verdict": verdict, "completionTime": NOW, "conditions": conditions}})


def know(
    owner: KimiLinearServer,
    *benchmarks: Manifest,
    pods: list[Manifest],
    is_complete: bool = False,
    now: str = NOW,
    of: Revision | None = None,
) -> Verified:
    return verified(Observed(owner, benchmarks, pods, is_complete, now), of or current(owner))


def test_only_block_changes_the_pod_template() -> None:
    plain = build_pod_template(KimiLinearServer.model_validate(make_server()))
    for mode in ("Off", "Warn"):
        assert build_pod_template(server(mode)) == plain
    gated = build_pod_template(server())
    assert gated["spec"]["readinessGates"] == [{"conditionType": GATE}]
    assert template_label(gated)
    assert not template_label(plain)
    assert template_label(build_pod_template(server(replicas=3))) == template_label(gated)
    assert template_label(build_pod_template(server(toolCallParser="enabled"))) != template_label(gated)


def test_the_deployments_deadline_includes_the_time_of_a_verification() -> None:
    plain, gated = (build_deployment(owner, {}) for owner in (server("Warn"), server()))
    assert gated["spec"]["progressDeadlineSeconds"] - plain["spec"]["progressDeadlineSeconds"] == 2 * 1800


def test_the_first_pod_of_the_template_that_could_serve_is_verified_at_its_address() -> None:
    owner = server(verification={"minAccuracy": 0.65})
    other = current(server(toolCallParser="enabled"))
    pods = [
        pod_of(other, "kimi-a"),
        pod_of(current(owner), "kimi-b", is_able=False),
        pod_of(current(owner), "kimi-d"),
        pod_of(current(owner), "kimi-c"),
    ]
    wanted = know(owner, pods=pods).wanted
    assert wanted
    assert wanted["metadata"]["name"] == name_of(owner, current(owner), pods[3])
    assert wanted["spec"] == {
        "endpoint": {"url": "http://10.0.0.7:30000"},
        "suites": [{"name": "accuracy", "accuracy": {"numQuestions": 200}}],
        "thresholds": [{"suite": "accuracy", "metric": "accuracy", "min": 0.65}],
        "baseline": {"source": "none"},
        "client": {"extraPipPackages": [], "image": "lmsysorg/sglang:v0.5.7-rocm700-mi30x"},
        "timeoutSeconds": 1800,
    }
    assert know(owner, pods=pods[:2]).wanted is None
    sixth = {**pods[3], "status": {**pods[3]["status"], "podIP": "fd00::7"}}
    assert build_benchmark(owner, current(owner), sixth)["spec"]["endpoint"]["url"] == "http://[fd00::7]:30000"


def test_with_warn_the_server_is_verified_when_all_replicas_serve() -> None:
    owner = server("Warn")
    assert know(owner, pods=[make_pod()]).wanted is None
    wanted = know(owner, pods=[make_pod()], is_complete=True).wanted
    assert wanted
    assert wanted["spec"]["serverRef"] == {"name": "kimi"}
    assert "endpoint" not in wanted["spec"]


def test_tool_calls_are_verified_too_if_the_server_has_a_parser() -> None:
    spec = build_benchmark(server(toolCallParser="enabled"), current(server()), None)["spec"]
    assert spec["suites"][1] == {"name": "tool-calls", "toolCalls": {}}
    bounds = [(bound["metric"], bound["min"]) for bound in spec["thresholds"]]
    assert bounds == [("accuracy", 0.6), ("valid_tool_calls", 0.8), ("valid_streamed_tool_calls", 0.8)]


@pytest.mark.parametrize("mode", ["Warn", "Block"])
def test_the_benchmark_is_valid_and_takes_the_servers_key_dataset_and_metadata(mode: str) -> None:
    owner = server(
        mode,
        toolCallParser="enabled",
        auth={"apiKeySecretRef": {"name": "key"}},
        verification={"dataset": {"configMap": "questions", "path": "test.jsonl"}},
        inheritedMetadata={"labels": {"team": "a"}},
        podTemplate={"spec": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}},
    )
    wanted = build_benchmark(owner, current(owner), pod_of(current(owner)) if mode == "Block" else None)
    checked = check_stored(stored(wanted))
    assert checked.is_valid, checked.message
    assert checked.resource
    assert checked.resource.spec.datasets.gsm8k.config_map == "questions"
    assert wanted["spec"]["inheritedMetadata"] == {"labels": {"team": "a"}}
    if mode == "Block":
        assert wanted["spec"]["endpoint"]["apiKeySecretRef"] == {"name": "key", "key": "token"}
        assert wanted["spec"]["podTemplate"]["spec"]["tolerations"][0]["key"] == "gpu"


@pytest.mark.parametrize(
    ("succeeded", "verdict", "result"),
    [("True", "Passed", True), ("False", "Failed", False), ("False", "Invalid", None), ("Unknown", "Passed", None)],
)
def test_only_a_verdict_on_numbers_that_count_is_a_result(succeeded: str, verdict: str, result: bool | None) -> None:
    owner = server()
    pod = pod_of(current(owner))
    benchmark = ended(build_benchmark(owner, current(owner), pod), succeeded, verdict)
    found = result_of(benchmark)
    assert (found.has_passed if found else None) is result
    known = know(owner, benchmark, pods=[pod])
    assert (known.holds, known.wanted) == (result, None)
    reasons = {True: "Verified", False: "VerificationFailed", None: "VerificationImpossible"}
    assert known.reason.name == reasons[result]
    assert benchmark["metadata"]["name"] in known.reason.message


def test_a_running_benchmark_is_kept_while_its_pod_exists() -> None:
    owner = server()
    pod = pod_of(current(owner))
    running = stored(build_benchmark(owner, current(owner), pod))
    known = know(owner, running, pods=[pod_of(current(owner), is_able=False)])
    assert (known.benchmarks, known.wanted, known.reason.name) == ([running], None, "Verifying")
    successor = pod_of(current(owner), "kimi-1")
    replaced = know(owner, running, pods=[successor])
    assert replaced.benchmarks == ()
    assert replaced.wanted
    assert replaced.wanted["metadata"]["name"] != running["metadata"]["name"]
    of_another = stored(build_benchmark(owner, replace(current(owner), number=7), pod))
    assert know(owner, of_another, pods=[]).kept == []


def test_a_result_is_stored_with_the_revision_and_read_again() -> None:
    owner = server()
    for result in (PASSED, FAILED):
        record = stored(build_revision(owner, replace(current(owner), result=result)))
        again = revision.read(record)
        assert again
        assert again.result == result
        assert build_revision(owner, again) == build_revision(owner, replace(current(owner), result=result))
        known = know(owner, pods=[pod_of(again)], is_complete=True, of=again)
        assert (known.holds, known.wanted) == (result.has_passed, None)
    for odd in ("", "{", "[]", '{"passed": 1}', '{"passed": true' + " " * 5000 + "}"):
        broken = stored(build_revision(owner, current(owner)))
        broken["metadata"]["annotations"]["kimi-linear.io/verification"] = odd
        found = revision.read(broken)
        assert found
        assert found.result is None


def test_only_closed_gates_of_verified_templates_are_opened() -> None:
    owner = server()
    new, old = current(owner), current(server(toolCallParser="enabled"))
    closed, other = pod_of(new, "kimi-a"), pod_of(old, "kimi-b")
    is_open = pod_of(new, "kimi-c")
    is_open["status"]["conditions"].append(opened(NOW))
    plain = make_pod("kimi-d")
    pods = [closed, other, is_open, plain]
    assert pods_to_open([replace(new, result=PASSED), replace(old, result=FAILED)], pods) == [closed]
    assert pods_to_open([new, old], pods) == []


def test_an_ended_pod_and_a_pod_without_a_replica_set_are_not_verified() -> None:
    owner = server()
    evicted, foreign = pod_of(current(owner), "kimi-a", phase="Failed"), pod_of(current(owner), "kimi-b")
    foreign["metadata"]["ownerReferences"] = []
    assert know(owner, pods=[evicted, foreign]).wanted is None
    # A benchmark of this pod also does not prevent that another pod is asked.
    running = stored(build_benchmark(owner, current(owner), evicted))
    replaced = know(owner, running, pods=[evicted, pod_of(current(owner), "kimi-c")])
    assert replaced.benchmarks == ()
    assert replaced.wanted


def test_a_benchmark_of_somebody_else_gives_no_result() -> None:
    owner = server()
    pod = pod_of(current(owner))
    own = build_benchmark(owner, current(owner), pod)
    easy = {**own["spec"], "thresholds": [{"suite": "accuracy", "metric": "accuracy", "min": 0}]}
    elsewhere = {**own["spec"], "endpoint": {"url": "http://mine:30000"}}
    for spec in (easy, elsewhere):
        forged = ended({**own, "spec": spec}, "True", "Passed")
        assert know(owner, forged, pods=[pod]).result is None
    renamed = ended({**own, "metadata": {**own["metadata"], "name": "mine"}}, "True", "Passed")
    assert know(owner, renamed, pods=[pod]).result is None
    assert know(owner, ended(own, "True", "Passed"), pods=[pod]).holds


def test_a_revision_with_the_result_of_an_older_one_keeps_the_benchmark_that_the_result_names() -> None:
    owner = server("Warn")
    older = current(owner)
    benchmark, another = (
        build_benchmark(owner, replace(older, number=number), None) for number in (older.number, older.number + 5)
    )
    result = result_of(ended(benchmark, "True", "Passed"))
    newer = replace(older, number=older.number + 1, result=result)
    assert know(owner, another, benchmark, pods=[], of=newer).kept == [benchmark]


def test_an_impossible_verification_is_tried_again_after_an_hour() -> None:
    owner = server()
    pod = pod_of(current(owner))
    failed = ended(build_benchmark(owner, current(owner), pod), "False", "Invalid")
    known = know(owner, failed, pods=[pod], now="2026-11-24T10:20:00Z")
    assert (known.reason.name, known.wanted, known.again) == ("VerificationImpossible", None, 2400)
    later = know(owner, failed, pods=[pod], now="2026-11-24T11:00:00Z")
    assert later.benchmarks == ()
    assert later.wanted
    assert later.wanted["metadata"]["name"] == failed["metadata"]["name"]
    assert later.kept == [], "the benchmark with this name is deleted first"


@pytest.mark.parametrize("mode", ["Warn", "Block"])
@pytest.mark.parametrize("has_ended", [False, True])
def test_after_a_change_of_the_verification_the_new_questions_are_asked(mode: str, *, has_ended: bool) -> None:
    """The user corrects the name of the dataset, or another version of the operator asks other questions."""
    before, after = server(mode), server(mode, verification={"dataset": {"configMap": "questions", "path": "a.jsonl"}})
    pod = pod_of(current(before))
    asked = stored(build_benchmark(before, current(before), pod if mode == "Block" else None))
    known = know(after, ended(asked, "False", "Invalid") if has_ended else asked, pods=[pod], is_complete=True)
    assert known.wanted
    assert known.wanted["spec"]["datasets"]["gsm8k"]["configMap"] == "questions"
    assert known.kept == [], "the old benchmark is deleted, because it has the same name"


def test_a_benchmark_that_a_webhook_changes_is_not_created_again_and_again() -> None:
    owner = server()
    pod = pod_of(current(owner))
    made = stored(build_benchmark(owner, current(owner), pod))
    made["metadata"]["creationTimestamp"] = NOW
    made["spec"]["thresholds"] = []
    known = know(owner, ended(made, "True", "Passed"), pods=[pod], now="2026-11-24T10:20:00Z")
    assert (known.result, known.wanted, known.again) == (None, None, 2400)
    assert known.reason.name == "VerificationImpossible"
    assert "spec.thresholds" in known.reason.message
    later = know(owner, made, pods=[pod], now="2026-11-24T11:00:00Z")
    assert later.wanted
    assert later.kept == []


def test_an_obstacle_to_creating_the_benchmark_is_reported() -> None:
    owner = server()
    known = replace(know(owner, pods=[pod_of(current(owner))]), obstacle="exceeded quota")
    assert (known.holds, known.reason.name) == (None, "VerificationImpossible")
    assert "exceeded quota" in known.reason.message


def test_the_last_verified_revision_is_known_even_after_later_failures() -> None:
    """Old pods may still have the template, and their gates must be opened after they move."""
    owner = server(replicas=2)
    good = replace(current(server(toolCallParser="enabled")), number=1, result=PASSED, generation=0)
    new = replace(current(owner), number=2)
    for item in (new, replace(new, result=FAILED)):
        choice = choose(owner, History([good, item], deployed=2))
        assert choice.verified == good
        assert choice.deployed.number == 2


def test_a_server_that_was_rolled_back_stays_so_if_on_failure_becomes_hold() -> None:
    owner = server(replicas=2)
    good = replace(current(server(toolCallParser="enabled")), number=1, result=PASSED, generation=0)
    failed = replace(current(owner), number=2, result=FAILED)
    assert choose(owner, History([good, failed], deployed=1)).deployed == good
    assert History([good, failed], deployed=1).reference == failed


def test_a_template_that_failed_is_neither_tried_again_nor_given_to_others() -> None:
    owner = server(verification={"onFailure": "Rollback"}, replicas=2)
    good = replace(current(server(toolCallParser="enabled")), number=1, result=PASSED, generation=0)
    failed = replace(current(owner), number=2, result=FAILED)
    for deployed in (2, 1):
        choice = choose(owner, History([good, failed], deployed=deployed))
        assert (choice.current.number, choice.deployed.number, choice.is_rolled_back) == (2, 1, True)
        assert choice.offer == ()
    held = choose(server(replicas=2), History([good, failed], deployed=2))
    assert (held.deployed.number, held.is_rolled_back) == (2, False)
    first = choose(owner, History([failed], deployed=2))
    assert (first.deployed.number, first.is_rolled_back) == (2, False)
    key = Key("default", "kimi", SERVER)
    rejected = (("Ready", "True", "AllReplicasServe"), ("TemplateCurrent", "False", "TemplateRejected"))
    found = candidate(key, rejected, is_under_way=False)
    assert (found.is_offered, found.is_under_way, found.stalled) == (False, True, "TemplateRejected")
    by_a_user = (("Ready", "True", "AllReplicasServe"), ("TemplateCurrent", "False", "RolledBack"))
    found = candidate(key, by_a_user, is_under_way=False)
    assert (found.is_offered, found.is_under_way, found.stalled) == (False, False, "")


def test_thousands_of_foreign_benchmarks_and_pods_take_little_time() -> None:
    owner = server()
    known = current(owner)
    pods = [pod_of(known, f"kimi-{number:04}") for number in range(1000)]
    like_ours = [build_benchmark(owner, known, pod) for pod in pods[:500]]
    named = [stored({**item, "spec": {"endpoint": {"url": "http://10.0.0.8:30000"}}}) for item in like_ours]
    others = [_renamed(named[0], f"made-{number}") for number in range(3000)]
    found = know(owner, *others, *named, pods=pods, of=known)
    assert cost(lambda: know(owner, *others, *named, pods=pods, of=known), tries=3) < 10
    assert found.obstacle
    assert not found.result


def _renamed(manifest: Manifest, name: str) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "name": name}}
