"""`kimi-linear report` for saved benchmarks: which of them it reads, what it prints, and its exit codes."""

import json
from pathlib import Path

import pytest

from kimi_linear_operator import cli
from kimi_linear_operator.kubernetes.kinds import Manifest
from make import make_benchmark, make_finished_benchmark, make_result, make_server


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def save(file: str, *manifests: Manifest) -> None:
    Path(file).write_text("\n---\n".join(json.dumps(manifest) for manifest in manifests))


def finished(name: str = "nightly", verdict: str = "Passed") -> Manifest:
    benchmark = make_finished_benchmark(make_result("gsm8k"), verdict=verdict)
    return {**benchmark, "metadata": {**benchmark["metadata"], "name": name}}


@pytest.mark.parametrize(
    ("benchmark", "code", "heading"),
    [
        (finished(), 0, "nightly: Passed"),
        (finished(verdict="Failed"), 1, "nightly: Failed"),
        (finished(verdict="Invalid"), 1, "nightly: Invalid"),
        (make_benchmark(), 1, "nightly: Unfinished"),
    ],
    ids=["passed", "failed", "invalid", "unfinished"],
)
def test_the_exit_code_is_the_verdict(
    benchmark: Manifest, code: int, heading: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save("saved.yaml", make_server(), benchmark)
    assert cli.main(["report", "-f", "saved.yaml"]) == code
    output = capsys.readouterr()
    assert (output.out.splitlines()[0], output.err) == (heading, "")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["-f", "b.yaml", "-f", "a.yaml"], ["b", "a"]),
        (["a", "b", "-f", "both.yaml"], ["a", "b"]),
        (["b", "a", "-f", "both.yaml"], ["b", "a"]),
        (["-f", "a.yaml", "-f", "other/a.yaml"], ["a (a.yaml)", "a (other/a.yaml)"]),
    ],
    ids=["two files", "two names", "the other way round", "one name twice"],
)
def test_two_benchmarks_are_compared(
    arguments: list[str], names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("other").mkdir()
    save("a.yaml", finished("a"))
    save("other/a.yaml", finished("a"))
    save("b.yaml", finished("b"))
    save("both.yaml", finished("a"), finished("b"))
    assert cli.main(["report", *arguments, "-o", "json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert [comparison["name"], comparison["reference"]["name"]] == names


@pytest.mark.parametrize(
    ("one", "other", "code"),
    [("Passed", "Failed", 0), ("Failed", "Passed", 0), ("Invalid", "Passed", 1), ("Passed", "Invalid", 1)],
)
def test_a_comparison_with_numbers_that_do_not_count_exits_with_1(one: str, other: str, code: int) -> None:
    save("both.yaml", finished("a", one), finished("b", other))
    assert cli.main(["report", "-f", "both.yaml"]) == code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a benchmark of the cluster, or a file with -f"),
        (["-f", "three.yaml"], "3 benchmarks in three.yaml: say which one to report, or which two to compare"),
        (["-f", "server.yaml"], "no KimiLinearBenchmark in server.yaml: `kubectl get klb NAME -o yaml` writes one"),
        (["d", "-f", "three.yaml"], "no KimiLinearBenchmark d in three.yaml"),
        (["a", "b", "-f", "three.yaml", "-o", "junit"], "junit cannot show a comparison"),
        (["-f", "broken.yaml"], "broken.yaml: status.verdict: Input should be"),
        (["-f", "absent.yaml"], "absent.yaml: "),
    ],
    ids=["no argument", "too many", "none", "another name", "no comparison in JUnit", "another version", "no file"],
)
def test_input_that_cannot_be_reported_exits_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save("three.yaml", *map(finished, ("a", "b", "c")))
    save("server.yaml", make_server())
    save("broken.yaml", {**finished("a"), "status": {"verdict": 1}})
    assert cli.main(["report", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
