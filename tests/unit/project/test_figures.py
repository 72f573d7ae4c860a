"""Computed figures of the benchmark: medians, ratios, growth, targets and tables."""

from dataclasses import replace

import pytest

from benchmarks import report
from benchmarks.figures import (
    LIMIT,
    OURS,
    PLAIN,
    ColdStart,
    Convergence,
    Cost,
    Life,
    Outfit,
    Results,
    Size,
    Steady,
    StormSample,
    growth,
)
from benchmarks.manifests import EVERYTHING, PLACEHOLDER, build_children, build_main_children, server_names
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT

COST = Cost({"patch services": 100, "get services": 100}, 500, 2, 2.0, 90.0, 95.0, 0.1)
LIFE = Life(
    COST,
    Steady(60.0, {}, 0, 0.4),
    ColdStart(1.5, 0, 1.8, 90.0, 95.0, 0.25),
    [0.04, 0.05, 0.2],
    [StormSample(1.0, "changed", 70), StormSample(3.0, "created", 60), StormSample(9.0, "created", 0)],
)


def took(seconds: float | None, done: int = 100) -> Convergence:
    return Convergence(seconds, done, own_cpu=1.0, server_cpu=2.0, strangers_cpu=0.0)


def contest(ours: float, limit: float, plain: float | None) -> dict[str, Convergence]:
    return {OURS: took(ours), LIMIT: took(limit), PLAIN: took(plain, done=70)}


def test_the_ratio_is_the_median_over_rounds_and_not_the_ratio_of_medians() -> None:
    size = Size(100, [contest(2.0, 1.0, 4.0), contest(30.0, 10.0, 20.0), contest(2.4, 2.0, 8.0)])
    assert size.ratio(LIMIT) == 2.0
    assert size.ratio(PLAIN) == 0.5
    assert size.seconds(OURS) == 2.4


def test_a_round_that_was_given_up_has_no_time_and_no_ratio() -> None:
    size = Size(100, [contest(2.0, 1.0, None)])
    assert size.seconds(PLAIN) is None
    assert size.ratio(PLAIN) is None
    assert "given up with 70 done" in report.text(Results(sizes=[size]))


def test_growth_compares_costs_per_server_of_the_fewest_and_the_most() -> None:
    few, many = Size(100, [], LIFE), Size(1000, [], replace(LIFE, cost=replace(COST, cpu_seconds=30.0)))
    assert growth([many, Size(300, [], LIFE), few], "cpu_seconds") == pytest.approx(1.5)
    assert growth([few], "cpu_seconds") is None


def test_missed_targets_are_named() -> None:
    slow = Size(100, [contest(2.0, 1.0, 4.0)], replace(LIFE, steady=Steady(60.0, {}, 1, 0.4)))
    missed = {target.text for target in report.targets(Results(sizes=[slow])) if not target.is_met}
    assert missed == {"100 servers: time to converge / API server limit", "100 servers: writes at rest"}


def test_a_server_with_all_options_may_write_each_child_once_and_nothing_at_rest() -> None:
    children = len(build_children(EVERYTHING))
    outfit = Outfit("everything on", 100, children, replace(COST, writes=100 * (children + 5)), LIFE.steady)
    assert all(target.is_met for target in report.targets(Results(outfits=[outfit])))
    busy = replace(outfit, cost=replace(COST, writes=100 * (children + 6)), steady=Steady(60.0, {}, 1, 0.4))
    missed = [target.text for target in report.targets(Results(outfits=[busy])) if not target.is_met]
    assert missed == [
        "100 servers, everything on: writes a server until Ready",
        "100 servers, everything on: writes at rest",
    ]
    assert "| everything on |    100 |" in report.text(Results(outfits=[busy]))


def test_only_changes_during_a_storm_count() -> None:
    [storm] = [target for target in report.targets(Results(sizes=[Size(100, [], LIFE)])) if "storm" in target.text]
    assert storm.measured == 2.0
    assert "2 of 3" in report.text(Results(sizes=[Size(100, [], LIFE)]))


def test_the_document_has_raw_figures_and_ratios() -> None:
    document = report.document(Results({"CPUs": 2}, [Size(100, [contest(2.0, 1.0, 4.0)], LIFE)]))
    assert document["sizes"][0]["rounds"][0][OURS]["seconds"] == 2.0
    assert document["sizes"][0]["ratios"] == {LIMIT: 2.0, PLAIN: 0.5}
    assert document["sizes"][0]["life"]["cost"]["writes"] == 500
    assert document["machine"] == {"CPUs": 2}


def test_tables_are_markdown() -> None:
    assert report.table(["a", "long"], [["bc", "1"]]) == "| a  | long |\n| -- | ---- |\n| bc |    1 |"


def test_every_name_is_as_long_as_its_placeholder() -> None:
    assert {len(name) for name in server_names(99_999)} == {len(PLACEHOLDER)}
    assert build_main_children()[DEPLOYMENT]["metadata"]["name"] == PLACEHOLDER
