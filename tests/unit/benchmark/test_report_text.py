"""The text report: the recipe's own tables, word for word, and the text around them."""

import pytest

from kimi_linear_operator.benchmark import report
from kimi_linear_operator.benchmark.report import text
from make import make_benchmark, make_finished_benchmark, make_result

# Copied from the recipe, sections 5.1.1, 5.1.2, 5.1.3 and 5.2.1.
TABLES = {
    "speed-low": """\
============ Serving Benchmark Result ============
Backend:                                 sglang
Traffic request rate:                    inf
Max request concurrency:                 1
Successful requests:                     10
Benchmark duration (s):                  23.86
Total input tokens:                      6101
Total input text tokens:                 6101
Total input vision tokens:               0
Total generated tokens:                  4220
Total generated tokens (retokenized):    4001
Request throughput (req/s):              0.42
Input token throughput (tok/s):          255.70
Output token throughput (tok/s):         176.86
Peak output token throughput (tok/s):    190.00
Peak concurrent requests:                2
Total token throughput (tok/s):          432.56
Concurrency:                             1.00
----------------End-to-End Latency----------------
Mean E2E Latency (ms):                   2383.93
Median E2E Latency (ms):                 1911.63
---------------Time to First Token----------------
Mean TTFT (ms):                          141.33
Median TTFT (ms):                        126.27
P99 TTFT (ms):                           294.76
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          5.32
Median TPOT (ms):                        5.33
P99 TPOT (ms):                           5.36
---------------Inter-Token Latency----------------
Mean ITL (ms):                           5.33
Median ITL (ms):                         5.32
P95 ITL (ms):                            5.44
P99 ITL (ms):                            5.58
Max ITL (ms):                            11.46
==================================================
""",
    "speed-medium": """\
============ Serving Benchmark Result ============
Backend:                                 sglang
Traffic request rate:                    inf
Max request concurrency:                 16
Successful requests:                     80
Benchmark duration (s):                  31.38
Total input tokens:                      39668
Total input text tokens:                 39668
Total input vision tokens:               0
Total generated tokens:                  40805
Total generated tokens (retokenized):    39667
Request throughput (req/s):              2.55
Input token throughput (tok/s):          1264.13
Output token throughput (tok/s):         1300.37
Peak output token throughput (tok/s):    1801.00
Peak concurrent requests:                21
Total token throughput (tok/s):          2564.50
Concurrency:                             14.13
----------------End-to-End Latency----------------
Mean E2E Latency (ms):                   5543.18
Median E2E Latency (ms):                 5755.31
---------------Time to First Token----------------
Mean TTFT (ms):                          175.25
Median TTFT (ms):                        137.87
P99 TTFT (ms):                           292.92
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          10.75
Median TPOT (ms):                        10.87
P99 TPOT (ms):                           16.74
---------------Inter-Token Latency----------------
Mean ITL (ms):                           10.54
Median ITL (ms):                         7.95
P95 ITL (ms):                            13.68
P99 ITL (ms):                            116.80
Max ITL (ms):                            299.89
==================================================
""",
    "speed-high": """\
============ Serving Benchmark Result ============
Backend:                                 sglang
Traffic request rate:                    inf
Max request concurrency:                 100
Successful requests:                     500
Benchmark duration (s):                  79.71
Total input tokens:                      249831
Total input text tokens:                 249831
Total input vision tokens:               0
Total generated tokens:                  252662
Total generated tokens (retokenized):    228448
Request throughput (req/s):              6.27
Input token throughput (tok/s):          3134.20
Output token throughput (tok/s):         3169.72
Peak output token throughput (tok/s):    6109.00
Peak concurrent requests:                110
Total token throughput (tok/s):          6303.92
Concurrency:                             94.80
----------------End-to-End Latency----------------
Mean E2E Latency (ms):                   15113.92
Median E2E Latency (ms):                 13851.52
---------------Time to First Token----------------
Mean TTFT (ms):                          564.46
Median TTFT (ms):                        226.04
P99 TTFT (ms):                           2683.14
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          29.63
Median TPOT (ms):                        31.28
P99 TPOT (ms):                           38.84
---------------Inter-Token Latency----------------
Mean ITL (ms):                           28.85
Median ITL (ms):                         16.29
P95 ITL (ms):                            123.42
P99 ITL (ms):                            157.80
Max ITL (ms):                            2481.11
==================================================
""",
    "gsm8k": """\
Accuracy: 0.705
Invalid: 0.000
Latency: 11.855 s
Output throughput: 3224.982 token/s
""",
}


@pytest.mark.parametrize("suite", TABLES)
def test_the_recipes_own_numbers_give_the_recipes_own_table(suite: str) -> None:
    (run,) = report.read(make_finished_benchmark(make_result(suite))).suites
    assert [*text.suite_lines(run)] == TABLES[suite].splitlines()


def test_a_report_has_every_table_of_the_recipe_and_names_their_source() -> None:
    lines = text.report(report.read(make_finished_benchmark(*map(make_result, TABLES)))).splitlines()
    for table in TABLES.values():
        rows = table.splitlines()
        start = lines.index(rows[0])
        while lines[start : start + len(rows)] != rows:
            start = lines.index(rows[0], start + 1)
    assert lines[0] == "nightly: Passed"
    assert lines[-1] == (
        "The recipe's numbers were measured on AMD MI300X with four GPUs and SGLang 0.5.7. "
        "Other hardware can give other numbers."
    )


def test_numbers_of_newer_clients_have_their_rows() -> None:
    result = make_result("speed-low", {"mean_ttft_ms": 1, "p90_ttft_ms": 2, "p99_ttft_ms": 3.456})
    (run,) = report.read(make_finished_benchmark(result)).suites
    assert [*text.suite_lines(run)][4:] == [
        "---------------Time to First Token----------------",
        "Mean TTFT (ms):                          1.00",
        "P90 TTFT (ms):                           2.00",
        "P99 TTFT (ms):                           3.46",
        "==================================================",
    ]


def test_a_custom_suite_shows_its_own_traffic() -> None:
    suites = [{"name": "trickle", "speed": {"numPrompts": 5, "requestRate": 2.5}}]
    result = make_result("speed-low") | {"name": "trickle", "baseline": {}}
    (run,) = report.read(make_finished_benchmark(result, suites=suites)).suites
    assert [*text.suite_lines(run)][2:4] == [
        "Traffic request rate:                    2.5",
        "Max request concurrency:                 not set",
    ]


def test_suites_without_numbers_say_why() -> None:
    failure = make_result("gsm8k", {}, outcome="Failed", message="The server\nwent away.", findings=[])
    benchmark = make_finished_benchmark(
        failure, suites=[{"name": name} for name in ("gsm8k", "speed-low", "speed-high")]
    )
    benchmark["status"] = {"results": [failure], "currentSuite": "speed-low"}
    assert text.report(report.read(benchmark)).split("\n\n")[2:] == [
        "gsm8k: failed: The server went away.",
        "speed-low: is running",
        "speed-high: has not run\n",
    ]


def test_the_report_of_an_unstarted_benchmark_says_so() -> None:
    assert text.report(report.read(make_benchmark())).splitlines()[:2] == [
        "nightly: Unfinished",
        "  Not finished: the operator has not handled it yet. Does the operator run?",
    ]
