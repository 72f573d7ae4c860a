"""`kimi-linear verify`: which objects it creates, what it prints, and how it ends. tests/client tests its questions."""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kimi_linear_operator.benchmark import runner
from kimi_linear_operator.cli import cluster_checks, local_checks, main, watching
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_condition, make_server, stored
from passes import check_stored

NOW = "2026-11-24T10:00:00Z"
SPEC = {"toolCallParser": "enabled", "verification": {"minAccuracy": 0.65}}


def server(ready: str = "True", reason: str = "AllReplicasServe", **spec: Any) -> Manifest:
    conditions = [make_condition("Ready", ready, reason, f"about {reason}")]
    return stored({**make_server(**(SPEC | spec)), "status": {"observedGeneration": 1, "conditions": conditions}})


def state(succeeded: str, reason: str, message: str, **more: Any) -> Manifest:
    """The status of a benchmark."""
    is_over = "verdict" in more
    conditions = [
        make_condition("Succeeded", succeeded, reason, message),
        make_condition("Reconciling", str(not is_over), reason, message),
        make_condition("Stalled", str(is_over and succeeded != "True"), reason, message),
    ]
    return {"observedGeneration": 1, "conditions": conditions, **more}


WAITS = state("Unknown", "WaitingForTurn", "0 of 2 suites have ended; nightly goes first", progress="0/2")
RUNS = state("Unknown", "Running", "0 of 2 suites have ended", progress="0/2", currentSuite="accuracy")
PASSED = state("True", "ThresholdsMet", "all bounds are kept", verdict="Passed")
FAILED = state("False", "ThresholdMissed", "accuracy: accuracy is 0.3, min 0.65", verdict="Failed")
INVALID = state("Unknown", "ClientFailed", "accuracy: the dataset is not in the pod", verdict="Invalid")


class Cluster:
    """A cluster with one server, whose benchmark has one status after the other.

    An error means that there is no answer.
    """

    def __init__(self, server: Manifest | None, statuses: Sequence[Manifest | BaseException]) -> None:
        self.server = server
        self.statuses = list(statuses)
        self.made: list[Manifest] = []
        self.deleted: list[str] = []

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        if kind.kind == "KimiLinearServer":
            return self.server if self.server and (namespace, name) == ("default", "kimi") else None
        status = self.statuses[0] if len(self.statuses) == 1 else self.statuses.pop(0)
        if isinstance(status, BaseException):
            raise status
        return {**self.made[0], "status": status} if status else None

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        name = f"{manifest['metadata']['generateName']}x7k2p"
        self.made.append(stored({**manifest, "metadata": {**manifest["metadata"], "name": name}}))
        return self.made[-1]

    async def delete(self, kind: Kind, manifest: Manifest) -> None:
        self.deleted.append(manifest["metadata"]["name"])


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, Cluster]]:
    monkeypatch.setattr(watching, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(cluster_checks, "now", lambda: NOW)

    def run(
        *statuses: Manifest | BaseException, of: Manifest | None = None, options: Sequence[str] = ()
    ) -> tuple[int, Cluster]:
        cluster = Cluster(of, statuses)
        monkeypatch.setattr(cluster_checks, "connect", lambda: contextlib.nullcontext(cluster))
        return main(["verify", "kimi", "--namespace=default", *options]), cluster

    return run


Verify = Callable[..., tuple[int, Cluster]]
Capture = pytest.CaptureFixture[str]


def test_the_benchmark_asks_the_same_questions_as_a_verification_and_deletes_itself(verify: Verify) -> None:
    dataset = {"configMap": "questions", "path": "test.jsonl"}
    _, cluster = verify(PASSED, of=server(verification={"numQuestions": 100, "dataset": dataset}))
    [made] = cluster.made
    assert made["spec"] == {
        "serverRef": {"name": "kimi"},
        "suites": [{"name": "accuracy", "accuracy": {"numQuestions": 100}}, {"name": "tool-calls", "toolCalls": {}}],
        "thresholds": [
            {"suite": "accuracy", "metric": "accuracy", "min": 0.6},
            {"suite": "tool-calls", "metric": "valid_tool_calls", "min": 0.8},
            {"suite": "tool-calls", "metric": "valid_streamed_tool_calls", "min": 0.8},
        ],
        "baseline": {"source": "none"},
        "timeoutSeconds": 1800,
        "datasets": {"gsm8k": dataset},
        "ttlSecondsAfterFinished": 3600,
    }
    # Without these, the operator does not count the benchmark as its own verification, and does not delete it.
    assert made["metadata"].keys() & {"annotations", "labels", "ownerReferences"} == set()
    assert check_stored(made).is_valid
    assert cluster.deleted == []


def test_the_benchmark_of_a_server_with_a_long_name_has_a_valid_name() -> None:
    named = cluster_checks.build_benchmark(KimiLinearServer.model_validate(make_server("k" * 40)))
    assert len(named["metadata"]["generateName"]) == 35


def test_right_answers_exit_with_0_and_keep_progress_out_of_standard_output(verify: Verify, capsys: Capture) -> None:
    code, _ = verify(WAITS, RUNS, RUNS, PASSED, of=server())
    printed = capsys.readouterr()
    assert (code, printed.out.splitlines()[:2]) == (0, ["kimi-by-hand-x7k2p: Passed", "  all bounds are kept"])
    assert printed.err.splitlines() == [
        "benchmark kimi-by-hand-x7k2p asks kimi; an hour after its end, the operator deletes the benchmark",
        f"{NOW} kimi-by-hand-x7k2p has not passed: WaitingForTurn [0/2 waiting]; "
        "0 of 2 suites have ended; nightly goes first",
        f"{NOW} kimi-by-hand-x7k2p has not passed: Running [0/2 accuracy]; 0 of 2 suites have ended",
        f"{NOW} kimi-by-hand-x7k2p has passed: ThresholdsMet; all bounds are kept",
    ]


def test_wrong_answers_exit_with_1_in_each_format(verify: Verify, capsys: Capture) -> None:
    code, cluster = verify(RUNS, FAILED, of=server(), options=["--output=json"])
    assert (code, json.loads(capsys.readouterr().out)["verdict"]) == (1, "Failed")
    # Its report can be read again.
    assert cluster.deleted == []


def test_a_missing_result_exits_with_2_with_reason_and_remedy(verify: Verify, capsys: Capture) -> None:
    code, _ = verify(RUNS, INVALID, of=server())
    printed = capsys.readouterr()
    assert (code, printed.out.splitlines()[0]) == (2, "kimi-by-hand-x7k2p: Invalid")
    why, step = printed.err.splitlines()[-2:]
    assert why == "kimi-linear verify: no result: accuracy: the dataset is not in the pod"
    assert step.startswith("Next: Correct what the message names.")


def test_results_that_this_version_cannot_read_exit_with_2(verify: Verify, capsys: Capture) -> None:
    odd = {**PASSED, "results": [{"name": "accuracy", "outcome": 5}]}
    code, _ = verify(odd, of=server())
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert printed.err.splitlines()[-1].startswith("kimi-linear verify: kimi-by-hand-x7k2p: status.results")


def test_a_server_that_does_not_serve_exits_with_2_and_gets_no_questions(verify: Verify, capsys: Capture) -> None:
    code, cluster = verify(of=server("False", "ImagePullFailed"))
    assert (code, cluster.made) == (2, [])
    told = capsys.readouterr().err
    assert told.startswith("kimi-linear verify: kimi is not ready: ImagePullFailed: about ImagePullFailed\nNext: ")
    changed = server()
    changed["metadata"]["generation"] = 2
    assert verify(of=changed)[0] == 2


def test_a_missing_server_exits_with_2(verify: Verify, capsys: Capture) -> None:
    assert verify(of=None)[0] == 2
    assert capsys.readouterr().err == (
        "kimi-linear verify: no KimiLinearServer kimi in namespace default: "
        "`kubectl get kls -n default` lists those that exist\n"
    )


@pytest.mark.parametrize(
    ("statuses", "code", "said"),
    [
        ([RUNS, KeyboardInterrupt()], 130, ""),
        ([RUNS, ApiError(403, "forbidden")], 2, "forbidden"),
        ([WAITS, {}], 2, "somebody has deleted KimiLinearBenchmark kimi-by-hand-x7k2p"),
        (
            [state("False", "InvalidSpec", "the rule") | {"conditions": [make_condition("Stalled", "True", "a", "")]}],
            2,
            "kimi-by-hand-x7k2p has not passed",
        ),
    ],
    ids=["Ctrl-C", "no answer", "a deleted benchmark", "a refused benchmark"],
)
def test_a_benchmark_without_a_result_is_deleted(
    statuses: list[Any], code: int, said: str, verify: Verify, capsys: Capture
) -> None:
    ended, cluster = verify(*statuses, of=server())
    assert (ended, cluster.deleted) == (code, ["kimi-by-hand-x7k2p"])
    assert said in capsys.readouterr().err


def test_a_timeout_exits_with_2_and_shows_what_the_benchmark_waits_for(verify: Verify, capsys: Capture) -> None:
    code, cluster = verify(WAITS, of=server(), options=["--timeout=1"])
    assert (code, cluster.deleted) == (2, ["kimi-by-hand-x7k2p"])
    assert "not done within 1 s (--timeout): 0 of 2 suites have ended; nightly goes first" in capsys.readouterr().err


def test_verify_gives_up_soon_without_an_operator(
    verify: Verify, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_checks, "_SECONDS_UNTIL_SEEN", 0.0)
    code, cluster = verify({"conditions": [make_condition("Succeeded", "Unknown", "Pending", "")]}, of=server())
    assert (code, cluster.deleted) == (2, ["kimi-by-hand-x7k2p"])
    assert "Does the operator run?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["kimi", "--dataset=a"], "kimi cannot be used with --dataset: for a server of the cluster, these"),
        (["http://a", "-n", "b"], "http://a cannot be used with --namespace: an address has no namespace"),
        (["http://a/v1"], "http://a/v1 is not the address of a server: write it without a path"),
        (["http://me:secret@a"], "is not the address of a server"),
        (["http://a", "--api-key-file=nowhere"], "--api-key-file nowhere: No such file or directory"),
        (["http://a", "--dataset=nowhere"], "--dataset nowhere: No such file or directory"),
    ],
    ids=" ".join,
)
def test_options_that_cannot_be_met_exit_with_2(arguments: list[str], said: str, capsys: Capture) -> None:
    assert main(["verify", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_time_limit_is_a_whole_number_above_0(capsys: Capture) -> None:
    for text in ("0", "soon"):
        with pytest.raises(SystemExit):
            main(["verify", "kimi", f"--timeout={text}"])
        assert f"argument --timeout: '{text}' must be a whole number of seconds above 0" in capsys.readouterr().err


def test_each_remedy_matches_a_message_of_the_runner() -> None:
    program = Path(runner.__file__).read_text()
    assert [words for words in local_checks.REMEDIES if words not in program] == []


def test_a_line_break_at_the_end_of_the_key_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret\n")
    assert local_checks.client(None, None, file).environment["OPENAI_API_KEY"] == "secret"


def test_the_openai_key_of_the_environment_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of another service")
    monkeypatch.delenv("KIMI_LINEAR_API_KEY", raising=False)
    assert "OPENAI_API_KEY" not in local_checks.client(None, None, None).environment
