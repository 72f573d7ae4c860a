"""The cost of a server with all options, and of a plain server in the same cluster."""

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.figures import OURS, Outfit
from benchmarks.life import Plan, bring_up, rest
from benchmarks.manifests import EVERYTHING, README, build_children, server_names
from benchmarks.stage import Stage, fresh_stage
from integration.definitions import gateway_api, prometheus_operator
from kimi_linear_operator.kubernetes.kinds import Manifest

_OUTFITS = {"plain": README, "everything on": EVERYTHING}


def measure_outfits(servers: int, plan: Plan) -> Iterator[Outfit]:
    """Measure one after the other, each on a separate control plane with all add-ons."""
    for name, spec in _OUTFITS.items():
        with fresh_stage() as stage:
            _add_definitions(stage)
            yield _measure(name, replace(stage, spec=spec), servers, plan)


def _measure(name: str, stage: Stage, servers: int, plan: Plan) -> Outfit:
    with stage.running(OURS) as running:
        cost = bring_up(stage, running, server_names(servers), plan)
        steady = rest(stage, running, plan.steady_seconds)
    return Outfit(name, servers, len(build_children(stage.spec)), cost, steady)


def _add_definitions(stage: Stage) -> None:
    definitions: list[Manifest] = [*gateway_api(), *prometheus_operator()]
    stage.cluster.kubectl.apply(definitions)
    stage.cluster.kubectl.wait_until_served(*(definition["metadata"]["name"] for definition in definitions))
