"""`kimi-linear status`: the tree, the next step, and following a start."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
import yaml

from kimi_linear_operator.cli import main, tree, watching
from kimi_linear_operator.cli.state import address, words_of
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.goal import READY
from kimi_linear_operator.kubernetes.kinds import BENCHMARK, CLAIM, DEPLOYMENT, JOB, Kind, Manifest
from kimi_linear_operator.resource_types import TYPES
from make import (
    ODD_STATUSES,
    make_benchmark,
    make_condition,
    make_deployment,
    make_pod,
    make_server,
    make_weights,
    owned,
    stored,
)
from printed_status import CASES, connect_to, printed

NOW = "2026-11-24T10:00:00Z"


def branch(output: str) -> list[str]:
    """Return the lines of the tree in the output."""
    lines = output.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("KimiLinear"))
    return lines[begin : begin + lines[begin:].index("")] if "" in lines[begin:] else lines[begin:]


def test_the_tree_goes_from_the_server_to_its_containers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed("status-compiling", monkeypatch, capsys)
    assert found.code == 1
    assert branch(found.output) == [
        "KimiLinearServer kimi: not ready, ModelLoading",
        "└── Deployment kimi: 0 of 1 replicas available",
        "    └── Pod kimi-7d9c6f5b8-x2x4q: Running, ModelLoading, phase compiling",
        "        ├── Init container preflight: ended with 0 (Completed)",
        "        └── Container sglang: running since 2026-11-24T09:57:43Z, not ready",
    ]


def test_a_benchmark_has_a_tree_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = printed("status-benchmark-runs", monkeypatch, capsys)
    assert found.code == 1
    assert found.output.startswith("nightly has not passed: Running")
    kinds = [line.replace("└── ", "").split()[0] for line in branch(found.output)]
    assert kinds == ["KimiLinearBenchmark", "Job", "Pod", "Container"]


@pytest.mark.parametrize("case", sorted(path.parent.name for path in CASES.glob("status-*/observed.yaml")))
def test_every_golden_case_can_be_printed(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(case, monkeypatch, capsys)
    first, second, *_ = found.output.splitlines()
    assert found.code == (0 if first.split(": ")[0].endswith((" is ready", " has passed")) else 1)
    assert second.startswith("  ")


def test_the_next_step_is_the_remedy_of_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trouble = printed("status-crash-loop", monkeypatch, capsys)
    assert "\n  Next: Correct what the exception names." in trouble.output
    assert "Next:" not in printed("status-ready", monkeypatch, capsys).output


def test_each_phase_shows_its_duration_and_the_last_one_whether_it_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiling = printed("status-compiling", monkeypatch, capsys).output
    assert [line.split()[2:] for line in compiling.splitlines() if line.startswith(("image", "compiling"))] == [
        ["217", "s"],
        ["42", "s", "so", "far"],
    ]
    assert "600 s, then it failed" in printed("status-crash-loop", monkeypatch, capsys).output


def lines_of(workloads: Sequence[tuple[Kind, Manifest]], pods: Sequence[Manifest]) -> list[str]:
    return list(tree.lines(tree.build_tree(make_server(), READY, workloads, pods, NOW)))


def test_pods_are_below_the_workload_that_owns_them() -> None:
    def of(kind: str, name: str, uid: str, pod: str) -> Manifest:
        made = make_pod(pod)
        made["metadata"]["ownerReferences"] = [{"kind": kind, "name": name, "uid": uid}]
        return made

    job = owned({"kind": "Job", "metadata": {"name": "a", "uid": "job-a"}, "status": {"active": 1}})
    pods = [
        of("ReplicaSet", "kimi-7d9c", "set", "kimi-7d9c-x"),
        of("Job", "a", "job-a", "a-x"),
        of("Job", "b", "b", "b-x"),
    ]
    workloads = [(DEPLOYMENT, make_deployment()), (JOB, job)]
    assert [line.partition(":")[0] for line in lines_of(workloads, pods)[1:]] == [
        "├── Deployment kimi",
        "│   └── Pod kimi-7d9c-x",
        "├── Job a",
        "│   └── Pod a-x",
        "└── Pod b-x",
    ]


def test_claims_and_benchmarks_of_a_server_show_their_state() -> None:
    claim = owned({"kind": "PersistentVolumeClaim", "metadata": {"name": "cache"}, "status": {"phase": "Bound"}})
    asked = owned(make_benchmark("kimi-verify"))
    asked["status"] = {"conditions": [make_condition("Succeeded", "Unknown", "Running", "suite accuracy runs")]}
    [_, *lines] = lines_of([(CLAIM, claim), (BENCHMARK, asked)], [])
    assert lines == [
        "├── PersistentVolumeClaim cache: Bound",
        "└── KimiLinearBenchmark kimi-verify: Running",
    ]


def test_no_name_can_control_the_terminal_or_end_a_line() -> None:
    pod = make_pod("kimi\x1b[2J\nfake: ready [bold]x[/bold]")
    [_, line] = lines_of([], [pod])
    assert "\x1b" not in line
    assert "[bold]x[/bold]" in line


@pytest.mark.parametrize("word", [word for each in TYPES.values() for word in words_of(each)])
def test_a_type_can_be_named_like_in_kubectl(word: str) -> None:
    wanted = address("default", f"{word.upper()}/kimi")
    assert ([word in words_of(each) for each in wanted.types], wanted.name) == ([True], "kimi")


def test_a_name_without_a_type_means_the_first_type_that_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Series([make_server("both"), make_benchmark("both"), make_benchmark("alone")])
    connect_to(monkeypatch, cluster)
    for text, kind in (
        ("both", "KimiLinearServer"),
        ("klb/both", "KimiLinearBenchmark"),
        ("alone", "KimiLinearBenchmark"),
    ):
        assert main(["status", text, "--namespace=default"]) == 1
        assert f"\n{kind} " in capsys.readouterr().out


def test_an_unknown_type_is_refused_with_the_list_of_types(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "pod/kimi", "--namespace=default"]) == 2
    assert "there is no type pod; there are kls, klb" in capsys.readouterr().err


class Series:
    """A cluster that shows one state of a server after the other. An error means that there is no answer."""

    def __init__(self, objects: Sequence[Manifest], *later: Manifest | ApiError) -> None:
        self.objects = list(objects)
        self.later = list(later)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        if self.later:
            state = self.later.pop(0)
            if isinstance(state, ApiError):
                raise state
            self.objects = [state]
        found = (each for each in self.objects if (each["kind"], each["metadata"]["name"]) == (kind.kind, name))
        return next(found, None)

    async def list(self, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
        return []


def server(ready: str, reason: str, *, stalled: str = "False", reconciling: str = "True", phase: str = "") -> Manifest:
    conditions = [
        make_condition("Ready", ready, reason, f"about {reason}"),
        make_condition("Stalled", stalled, "NotStalled", ""),
        make_condition("Reconciling", reconciling, reason, ""),
    ]
    status: dict[str, Any] = {"observedGeneration": 1, "conditions": conditions}
    if phase:
        status["startup"] = {"pod": "kimi-0", "phase": phase, "phases": [{"name": phase, "time": NOW}]}
    return stored({**make_server(), "status": status})


LOADING = server("False", "ModelLoading", phase="loading")
COMPILING = server("False", "ModelLoading", phase="compiling")
SERVES = server("True", "AllReplicasServe", reconciling="False", phase="serving")


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SECONDS_BETWEEN_LOOKS", 0.0)


class WithChildren(Series):
    """A cluster that has a server and all objects of a golden case."""

    def __init__(self, case: str) -> None:
        super().__init__([SERVES])
        self.children = [*yaml.safe_load_all((CASES / case / "objects.yaml").read_text())]

    async def list(self, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
        return [child for child in self.children if child["kind"] == kind.kind]


@pytest.mark.parametrize("case", ["isolated", "watched", "exposed", "autoscaled"])
def test_children_without_a_state_of_their_own_are_not_in_the_tree(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connect_to(monkeypatch, WithChildren(case), NOW)
    assert main(["status", "kls/kimi", "--namespace=default"]) == 0
    [_, line] = branch(capsys.readouterr().out)
    assert line.startswith("└── Deployment ")


def watched(monkeypatch: pytest.MonkeyPatch, *states: Manifest | ApiError) -> int:
    connect_to(monkeypatch, Series([], *states), NOW)
    return main(["status", "kls/kimi", "--namespace=default", "--watch"])


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("Reconciling", "True", "DeletionBlocked"),
        ("Synced", "False", "KindForbidden"),
        ("Exposed", "False", "RouteRefused"),
        ("Autoscaling", "False", "MetricsMissing"),
        ("Verified", "False", "VerificationFailed"),
        ("Verified", "Unknown", "VerificationImpossible"),
    ],
)
def test_a_ready_servers_other_problems_are_shown_with_their_remedies(
    kind: str, status: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ready = server("True", "AllReplicasServe", reconciling="False", phase="serving")
    others = [item for item in ready["status"]["conditions"] if item["type"] != kind]
    ready["status"]["conditions"] = [*others, make_condition(kind, status, reason, f"about {reason}")]
    connect_to(monkeypatch, Series([ready]), NOW)
    assert main(["status", "kls/kimi", "--namespace=default"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index(f"  {reason}: about {reason}")
    assert lines[at + 1].startswith("  Next: ")


def test_a_problem_that_two_conditions_report_is_shown_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ready = server("True", "AllReplicasServe", reconciling="True", phase="serving")
    for kind, status in (("Reconciling", "True"), ("Synced", "False")):
        held = make_condition(kind, status, "DeletionBlocked", f"about {kind}")
        others = [item for item in ready["status"]["conditions"] if item["type"] != kind]
        ready["status"]["conditions"] = [*others, held]
    connect_to(monkeypatch, Series([ready]), NOW)
    assert main(["status", "kls/kimi", "--namespace=default"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("  Deletion")] == [
        "  DeletionBlocked: about Synced"
    ]


def test_no_text_of_a_status_begins_a_line_that_looks_like_a_next_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoof = "x\nNext: run me\n  Next: run me"
    forged = server("False", spoof)
    ready, *others = forged["status"]["conditions"]
    conditions = [{**ready, "message": spoof}, *others, make_condition("Synced", "False", spoof, spoof)]
    failure = {"time": spoof, "pod": spoof, "container": spoof, "exitCode": 1, "reason": spoof, "message": spoof}
    phases = [{"name": spoof, "time": NOW}]
    more = {"url": spoof, "image": spoof, "addresses": [spoof], "startup": {"pod": spoof, "phases": phases}}
    forged["status"] |= {**more, "conditions": conditions, "lastFailure": failure}
    connect_to(monkeypatch, Series([forged]), NOW)
    assert main(["status", "kls/kimi", "--namespace=default"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(("Next", "  Next"))] == []


@pytest.mark.parametrize("make", [make_server, make_benchmark, make_weights], ids=lambda make: make.__name__)
@pytest.mark.parametrize("status", ODD_STATUSES, ids=str)
def test_every_status_can_be_shown(
    status: Any, make: Callable[[str], Manifest], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connect_to(monkeypatch, Series([{**stored(make("kimi")), "status": status}]), NOW)
    assert main(["status", "kimi", "--namespace=default"]) == 1
    assert capsys.readouterr().out.startswith("kimi ")


def test_watching_ends_with_0_when_the_server_is_ready(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watched(monkeypatch, LOADING, LOADING, COMPILING, SERVES) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{NOW} kimi is not ready: ModelLoading [4/7 loading]; about ModelLoading",
        f"{NOW} kimi is not ready: ModelLoading [5/7 compiling]; about ModelLoading",
        f"{NOW} kimi is ready: AllReplicasServe [7/7 serving]; about AllReplicasServe",
    ]


@pytest.mark.parametrize(
    "last",
    [
        server("False", "InvalidSpec", stalled="True", reconciling="False"),
        server("False", "ProgressDeadlineExceeded", stalled="True"),
        server("False", "Suspended", reconciling="False"),
    ],
    ids=["invalid", "stalled", "suspended"],
)
def test_watching_ends_with_1_when_only_a_user_can_help(monkeypatch: pytest.MonkeyPatch, last: Manifest) -> None:
    assert watched(monkeypatch, LOADING, last) == 1


def test_watching_waits_for_the_operator_to_see_the_latest_change(monkeypatch: pytest.MonkeyPatch) -> None:
    unseen = {**SERVES, "metadata": {**SERVES["metadata"], "generation": 2}}
    stalled = server("False", "InvalidSpec", stalled="True")
    assert watched(monkeypatch, unseen, unseen, stalled) == 1


def test_watching_continues_after_some_errors_and_gives_up_after_many(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outage = [ApiError(0, "no answer")] * 5
    assert watched(monkeypatch, LOADING, *outage, COMPILING, *outage, SERVES) == 0
    assert watched(monkeypatch, LOADING, *([ApiError(0, "no answer")] * 100)) == 2
    assert "no answer" in capsys.readouterr().err
    assert watched(monkeypatch, ApiError(403, "forbidden")) == 2


def test_watching_reports_that_the_server_was_deleted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watched(monkeypatch, LOADING, make_server("another")) == 2
    assert "no KimiLinearServer kimi" in capsys.readouterr().err


def test_ctrl_c_ends_watching_with_a_shells_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(coroutine: Coroutine[Any, Any, Any]) -> None:
        coroutine.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(asyncio, "run", interrupted)
    assert watched(monkeypatch, LOADING) == 130


def test_a_terminal_shows_a_progress_bar_and_the_tree(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    assert watched(monkeypatch, LOADING, COMPILING, SERVES) == 0
    output = capsys.readouterr().out
    assert "\x1b[" in output
    assert "7/7" in output
    assert "━" in output
    assert "KimiLinearServer kimi: ready, AllReplicasServe" in output
