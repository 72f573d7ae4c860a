"""Reports for programs and people: their contents for good, bad, unfinished and hostile results."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import xmlschema
from markdown_it import MarkdownIt

from kimi_linear_operator.benchmark import recipe, report
from kimi_linear_operator.benchmark.report import plot
from kimi_linear_operator.benchmark.report.run import Run
from kimi_linear_operator.kubernetes.kinds import Manifest
from make import make_benchmark, make_condition, make_finished_benchmark, make_result

SCHEMA = Path(__file__).parents[1].joinpath("junit.xsd")
HOSTILE = "</title><script>alert(1)</script>\x1b[2J\u202e|`*<b>\ud800 ]]> & \"'\n# heading"

MISSED = {
    "rule": "Threshold",
    "metric": "p99_ttft_ms",
    "value": 2683.14,
    "limit": 2000,
    "passed": False,
    "message": "p99_ttft_ms is 2683.14, above 2000",
}
KEPT = {"rule": "Regression", "metric": "output_throughput", "value": 1, "limit": 1, "passed": True, "message": "fine"}
HOSTILE_TEXTS = 8  # in the hostile benchmark, one of them in two places
TABLE_TAGS = ("table", "thead", "tbody", "tr", "th", "td")
INCOMPLETE = {"rule": "Validity", "passed": False, "message": "3 of 10 requests failed"}


def four_suites(**spec: Any) -> Manifest:
    return make_finished_benchmark(*map(make_result, recipe.PUBLISHED), **spec)


def failed() -> Manifest:
    """Return a benchmark of four suites: with findings, with too many errors, failed, and not run yet."""
    results = [
        make_result("speed-high", findings=[MISSED, KEPT]),
        make_result("speed-low", completed=7, findings=[INCOMPLETE]),
        make_result("gsm8k", {}, outcome="Failed", message="The server went away.", completed=0, findings=[]),
    ]
    suites = [{"name": name} for name in ("speed-high", "speed-low", "gsm8k", "speed-medium")]
    benchmark = make_finished_benchmark(*results, verdict="Invalid", suites=suites)
    benchmark["status"]["conditions"] = [make_condition("Succeeded", "False", "Invalid", "Requests failed.")]
    return benchmark


def hostile() -> Manifest:
    """Return a benchmark whose texts and numbers try to break the format of the report."""
    finding = {**MISSED, "message": HOSTILE, "value": 1e300}
    numbers = dict.fromkeys(recipe.PUBLISHED["speed-low"], 1.7e308)
    results = [
        make_result(
            "speed-low", numbers | {"mean_ttft_ms": 0, "median_ttft_ms": -1}, message=HOSTILE, findings=[finding]
        ),
        make_result("gsm8k", {}, outcome="Failed", message=HOSTILE),
    ]
    benchmark = make_finished_benchmark(*results, verdict="Failed")
    benchmark["status"]["environment"] = {"server": HOSTILE, "image": HOSTILE, "command": HOSTILE}
    benchmark["status"]["conditions"] = [make_condition("Succeeded", "False", "Failed", HOSTILE)]
    return benchmark


def unfinished() -> Manifest:
    benchmark = make_benchmark(suites=[{"name": "speed-low"}, {"name": "speed-high"}])
    message = "suite speed-high runs; 1/2 suites have ended"
    conditions = [make_condition("Complete", "False", "Running", message)]
    results = [make_result("speed-low")]
    return {**benchmark, "status": {"currentSuite": "speed-high", "results": results, "conditions": conditions}}


CASES = {
    "four suites": four_suites(),
    "no baseline": four_suites(baseline={"source": "none"}),
    "failed": failed(),
    "hostile": hostile(),
    "unfinished": unfinished(),
    "not begun": make_benchmark(),
}


def load_strictly(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("output", report.REPORTS)
def test_every_format_can_show_every_benchmark(output: str, case: str) -> None:
    text = report.REPORTS[output](report.read(CASES[case]))
    text.encode()
    assert text.endswith("\n")
    assert set(text).isdisjoint("\x1b\u202e\r")


@pytest.mark.parametrize("case", CASES)
def test_junit_is_valid(case: str) -> None:
    xmlschema.XMLSchema(SCHEMA).validate(report.REPORTS["junit"](report.read(CASES[case])))


def test_junit_has_a_case_for_each_run_and_finding() -> None:
    root = ElementTree.fromstring(report.REPORTS["junit"](report.read(failed())))  # noqa: S314 - our own
    cases = {
        f"{suite.get('name')}: {case.get('name')}": [(item.tag, item.get("message")) for item in case]
        for suite in root
        for case in suite.iter("testcase")
    }
    assert cases == {
        "speed-high: run": [],
        "speed-high: Threshold p99_ttft_ms (limit 2000)": [("failure", "p99_ttft_ms is 2683.14, above 2000")],
        "speed-high: Regression output_throughput (limit 1)": [],
        "speed-low: run": [],
        "speed-low: Validity": [("error", "3 of 10 requests failed")],
        "gsm8k: run": [("error", "The server went away.")],
        "speed-medium: run": [("skipped", "The suite has not run.")],
    }
    counts = [[int(suite.get(name, -1)) for name in ("tests", "failures", "errors", "skipped")] for suite in root]
    assert counts == [[3, 1, 0, 0], [2, 0, 1, 0], [1, 0, 1, 0], [1, 0, 0, 1]]


def test_json_has_every_number_and_its_reference() -> None:
    faster = {**recipe.PUBLISHED["speed-low"], "output_throughput": 353.72, "mean_tpot_ms": 5.32, "mean_itl_ms": 10.66}
    content = load_strictly(
        report.REPORTS["json"](report.read(make_finished_benchmark(make_result("speed-low", faster))))
    )
    metrics = {item["name"]: item for item in content["suites"][0]["metrics"]}
    assert metrics.keys() == recipe.PUBLISHED["speed-low"].keys()
    assert metrics["output_throughput"] == {
        "name": "output_throughput",
        "label": "Output token throughput (tok/s)",
        "unit": "tok/s",
        "better": "higher",
        "value": 353.72,
        "reference": 176.86,
        "ratio": 2.0,
        "change": "better",
    }
    assert [metrics[name]["change"] for name in ("mean_tpot_ms", "mean_itl_ms", "concurrency")] == [
        "same",
        "worse",
        None,
    ]
    assert content["reference"] == {
        "name": "recipe",
        "note": recipe.NOTE,
        "environment": {"hardware": "mi300x", "tensorParallelism": 4, "version": "v0.5.7"},
    }


def test_the_note_on_the_recipes_numbers_accompanies_them_in_every_format() -> None:
    for output in report.REPORTS.keys() - {"junit"}:  # which shows only measured metrics
        text = report.REPORTS[output](report.read(four_suites()))
        assert "Other hardware can give other numbers" in text
        assert "Other hardware" not in report.REPORTS[output](report.read(four_suites(baseline={"source": "none"})))


def test_markdown_shows_markup_as_it_is() -> None:
    page = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .render(report.REPORTS["markdown"](report.read(hostile())))
    )
    assert set(re.findall(r"<(\w+)", page)) == {
        *("h1", "h2", "ul", "li", "p", "em", "strong", "pre", "code"),
        *TABLE_TAGS,
    }
    assert re.findall(r"<h[12]>(.*?)</h", page) == ["Benchmark nightly: Failed", "speed-low", "gsm8k"]
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == HOSTILE_TEXTS
    assert {row.count("<td") for row in page.split("<tr>")[1:]} == {0, 3, 6}


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("@team and @org/team", "@~team and @~org/team"),
        ("see #123, org/repo#123 and GH-123", "see #~123, org/repo#~123 and GH-~123"),
        ("!12 and !", "!~12 and !"),
        ("somebody@example.com # rest @ all", "somebody@~example.com # rest @ all"),
        ("#1 first", "#~1 first"),
    ],
)
def test_markdown_notifies_no_user(message: str, shown: str) -> None:
    """The tilde stands for a zero-width space, because GitHub and GitLab read the rendered text."""
    result = make_result("gsm8k", outcome="Failed", reason="ClientFailed", message=message, metrics={})
    page = MarkdownIt("commonmark").render(report.REPORTS["markdown"](report.read(make_finished_benchmark(result))))
    assert f"Failed: 200 of 200 requests succeeded. {shown}" in page.replace("\u200b", "~")


def test_the_report_of_an_unfinished_benchmark_shows_its_progress() -> None:
    run = report.read(unfinished())
    assert (run.verdict, run.reasons) == (
        "Unfinished",
        ["Not finished: suite speed-high runs; 1/2 suites have ended"],
    )


def test_reasons_name_what_failed() -> None:
    assert report.read(failed()).reasons == [
        "speed-high: p99_ttft_ms is 2683.14, above 2000",
        "speed-low: 3 of 10 requests failed",
        "gsm8k: The server went away.",
    ]


def compared(after: Manifest, before: Manifest) -> Run:
    return report.beside(report.read(after), report.read(before))


def renamed(benchmark: Manifest, name: str) -> Manifest:
    return {**benchmark, "metadata": {**benchmark["metadata"], "name": name}}


def test_two_runs_are_compared_number_by_number() -> None:
    before = renamed(make_finished_benchmark(make_result("gsm8k", {"accuracy": 0.6, "invalid": 0})), "before")
    after = make_finished_benchmark(make_result("gsm8k", {"accuracy": 0.75, "invalid": 0.01}))
    assert report.COMPARISONS["text"](compared(after, before)).splitlines() == [
        "nightly: Passed",
        "",
        "         NIGHTLY  BEFORE",
        "verdict  Passed   Passed",
        "",
        "SUITE  METRIC    NIGHTLY  BEFORE  RATIO  BETTER IS  CHANGE",
        "gsm8k  Accuracy  0.750    0.600   1.25   higher     better",
        "gsm8k  Invalid   0.010    0.000   -      lower      worse",
    ]


def test_different_suites_of_the_same_name_are_not_compared() -> None:
    def with_questions(number: int) -> Manifest:
        result = make_result("gsm8k", {"accuracy": 0.7}) | {"name": "mine"}
        return make_finished_benchmark(result, suites=[{"name": "mine", "accuracy": {"numQuestions": number}}])

    (row,) = compared(with_questions(100), with_questions(200)).suites[0].rows
    assert row.reference is None
    (row,) = compared(with_questions(100), with_questions(100)).suites[0].rows
    assert row.change == "same"


@pytest.mark.parametrize("output", report.COMPARISONS)
@pytest.mark.parametrize("case", CASES)
def test_every_benchmark_can_be_compared(case: str, output: str) -> None:
    run = report.read(CASES[case])
    assert report.COMPARISONS[output](report.beside(run, report.read(four_suites()))).endswith("\n")
    assert report.COMPARISONS[output](report.beside(report.read(four_suites()), run)).endswith("\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "KimiLinearServer"}, "kind: Input should be 'KimiLinearBenchmark'"),
        ({"status": {"verdict": 1}}, "status.verdict: Input should be a valid string"),
        ({"status": {"results": [{}]}}, "status.results[0].name: Field required"),
        (
            {"spec": {"suites": [{"name": "mine"}]}},
            "spec.suites: mine is not in the recipe, and lacks a load",
        ),
    ],
    ids=["another kind", "another verdict", "an incomplete result", "an unknown suite"],
)
def test_a_file_without_a_benchmark_is_refused(change: Manifest, message: str) -> None:
    with pytest.raises(report.UnreadableError) as error:
        report.read({**make_benchmark(), **change})
    assert str(error.value) == message


@pytest.mark.parametrize("form", sorted(report.REPORTS))
def test_a_forged_or_later_verdict_and_rule_break_no_report(form: str) -> None:
    forged = f"Passed\n\n# Pwned ![x](https://evil.example/p.png) @org {HOSTILE}"
    benchmark = hostile()
    benchmark["status"]["verdict"] = forged
    for result in benchmark["status"]["results"]:
        result["findings"] = [{**MISSED, "rule": forged}]
    text = report.REPORTS[form](report.read(benchmark))
    if form in ("markdown", "text"):
        assert ": Unknown" in text.splitlines()[0]
        assert not [line for line in text.splitlines() if line.startswith(("# Pwned", "# heading"))]
    if form == "markdown":
        assert not [words for words in ("![x]", "@org") if words in text], "no picture, no reference"


@pytest.mark.parametrize("highest", [0, 1e-9, 0.3, 1, 99, 100, 3169.72, 1e12])
def test_a_linear_axis_has_round_ticks_and_is_long_enough(highest: float) -> None:
    steps = plot.linear_steps(highest)
    assert steps[0] == 0
    assert steps[-1] >= highest
    assert 2 <= len(steps) <= 7
    assert {round(second - first, 12) for first, second in pairwise(steps)} == {round(steps[1], 12)}


@pytest.mark.parametrize("values", [[], [0], [5.32, 5.36], [1], [0.0001, 3], [16.29, 2481.11], [1e12], [1e-9, 1e12]])
def test_a_logarithmic_axis_has_round_ticks_and_is_long_enough(values: list[float]) -> None:
    steps = plot.logarithmic_steps(values)
    assert len(steps) > 1
    assert steps == sorted(steps)
    inside = [value for value in values if value >= 0.001]
    assert all(steps[0] <= value <= steps[-1] for value in inside)


@pytest.mark.parametrize("case", CASES)
def test_every_mark_is_inside_its_plot(case: str) -> None:
    run = report.read(CASES[case])
    curves = plot.curves(run)
    for curve in curves:
        places = [*((mark.x, mark.y) for mark in [*curve.measured, *curve.reference])]
        places += [(label.x, label.y) for label in curve.labels]
        assert all(0 <= x <= plot.WIDTH and 0 <= y <= curve.height for x, y in places)
    for spread in [spread for suite in run.suites for spread in plot.spreads(suite)]:
        for mark in [mark for pair in spread.pairs for mark in (pair.measured, pair.reference) if mark]:
            assert spread.left <= mark.x <= spread.right
            assert 0 <= mark.y <= spread.bottom
    assert all(math.isfinite(tick.at) for curve in curves for tick in [*curve.x_ticks, *curve.y_ticks])


def test_more_throughput_is_plotted_higher_and_more_requests_further_right() -> None:
    output, _, ttft, _ = plot.curves(report.read(four_suites()))
    assert [mark.x for mark in output.measured] == sorted(mark.x for mark in output.measured)
    assert [mark.y for mark in output.measured] == sorted((mark.y for mark in output.measured), reverse=True)
    assert [mark.text for mark in ttft.measured] == ["126.27", "137.87", "226.04"]
    assert [tick.text for tick in output.x_ticks] == ["1", "16", "100"]
