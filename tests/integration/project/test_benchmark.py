"""The benchmark of the operator still works.

The test uses a few servers and one control plane, so the numbers say nothing about speed.

Here, not in tests/benchmarks: nothing there is collected, because a benchmark takes an hour.
"""

from benchmarks import report
from benchmarks.converge import converge
from benchmarks.figures import LIMIT, OURS, PLAIN, Convergence, Results, Size
from benchmarks.life import Plan, live
from benchmarks.manifests import server_names
from benchmarks.outfits import measure_outfits
from benchmarks.stage import fresh_stage
from binaries import CONTROL_PLANE
from built import skip_unless_built

_SERVERS = 10
_PLAN = Plan(patience=60, steady_seconds=1, repairs=2, storms=1, start_seconds=0)


def test_the_benchmark_measures_the_operator_plain_kopf_and_the_api_servers_limit() -> None:
    skip_unless_built(CONTROL_PLANE)
    contest = {OURS: Convergence(1.0, _SERVERS, 0.0, 0.0, 0.0)}
    with fresh_stage() as stage:
        life = live(stage, server_names(_SERVERS), _PLAN)
        for name, prefix in ((LIMIT, "raw"), (PLAIN, "plain")):
            with stage.running(name) as running:
                contest[name] = converge(stage, running, server_names(_SERVERS, prefix), _PLAN.patience)
    assert {name: result.done for name, result in contest.items()} == dict.fromkeys(contest, _SERVERS)
    # The operator writes one more status for each pause in the progress of a server's pods that is longer than its
    # wait.
    assert _SERVERS * 5 <= life.cost.writes <= _SERVERS * 8
    assert 2 <= life.cost.status_writes_most <= 5
    assert life.steady.writes == life.cold_start.writes == 0
    assert len(life.repairs) == len(life.storms) == 2
    text = report.text(Results(sizes=[Size(_SERVERS, [contest], life)]))
    assert "API server limit" in text


def test_the_benchmark_measures_the_cost_of_a_server_with_all_options() -> None:
    skip_unless_built(CONTROL_PLANE)
    plain, everything = measure_outfits(_SERVERS, _PLAN)
    assert (plain.children, everything.children) == (3, 13)
    for outfit in (plain, everything):
        assert outfit.children * _SERVERS <= outfit.cost.writes <= (outfit.children + 6) * _SERVERS
        assert outfit.steady.writes == 0
