"""What should exist: the objects of a server or a benchmark, built from its spec alone.

Every builder is a pure function of the resource. `KINDS` lists what they build, which is also what is
watched, compared and pruned: a new child kind is one module and one entry here.
"""

from collections.abc import Iterable, Iterator

from kimi_linear_operator.api import KimiLinearBenchmark, KimiLinearServer, Manifest
from kimi_linear_operator.resources import deployment, disruption, job, metadata, service
from kimi_linear_operator.resources.kinds import (
    BENCHMARK,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    EVENT,
    JOB,
    POD,
    RESOURCES,
    SERVER,
    SERVICE,
    Kind,
)
from kimi_linear_operator.resources.target import Target

KINDS = (DEPLOYMENT, SERVICE, DISRUPTION_BUDGET, CONFIG_MAP, JOB)
"""The kinds of children that the operator writes."""

__all__ = [
    "BENCHMARK",
    "CONFIG_MAP",
    "DEPLOYMENT",
    "DISRUPTION_BUDGET",
    "EVENT",
    "JOB",
    "KINDS",
    "POD",
    "RESOURCES",
    "SERVER",
    "SERVICE",
    "Kind",
    "build",
    "build_benchmark",
    "kind_of",
    "unwanted",
]


def build(server: KimiLinearServer) -> list[Manifest]:
    """Return every object that this server should have, in the order in which to apply them."""
    return [metadata.with_fingerprint(manifest) for manifest in _children(server)]


def build_benchmark(benchmark: KimiLinearBenchmark, target: Target) -> list[Manifest]:
    """Return every object that a benchmark gets until its suites have ended."""
    jobs = [job.build_job(benchmark, suite, target) for suite in benchmark.spec.suites]
    return [metadata.with_fingerprint(manifest) for manifest in (job.build_runner(benchmark), *jobs)]


def kind_of(child: Manifest) -> Kind:
    """Return the kind of an object that `build` returned."""
    return next(kind for kind in KINDS if kind.kind == child["kind"])


def unwanted(live: Iterable[Manifest], wanted: Iterable[Manifest], uid: str) -> list[Manifest]:
    """Return the live objects that belong to the server with this UID and are not among the wanted ones."""
    names = {(child["kind"], child["metadata"]["name"]) for child in wanted}
    return [
        manifest
        for manifest in live
        if metadata.is_owned_by(manifest, uid) and (manifest["kind"], manifest["metadata"]["name"]) not in names
    ]


def _children(server: KimiLinearServer) -> Iterator[Manifest]:
    yield service.build_service(server)
    if server.spec.service.headless:
        yield service.build_headless_service(server)
    if disruption.needs_disruption_budget(server):
        yield disruption.build_disruption_budget(server)
    yield deployment.build_deployment(server)
