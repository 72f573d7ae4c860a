"""What should exist: the objects of a server or a benchmark, built from its spec alone.

Every builder is a pure function of the resource. `KINDS` lists what they build, which is also what is
watched, compared and pruned: a new child kind is one module and one entry here.
"""

from collections.abc import Iterator

from kimi_linear_operator.api import KimiLinearBenchmark, KimiLinearServer, Manifest
from kimi_linear_operator.resources import deployment, disruption, job, metadata, revision, service
from kimi_linear_operator.resources.kinds import (
    BENCHMARK,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    EVENT,
    JOB,
    POD,
    RESOURCES,
    REVISION,
    SERVER,
    SERVICE,
    Kind,
)
from kimi_linear_operator.resources.target import Target

KINDS = (REVISION, DEPLOYMENT, SERVICE, DISRUPTION_BUDGET, CONFIG_MAP, JOB)
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
    "REVISION",
    "SERVER",
    "SERVICE",
    "Kind",
    "build",
    "build_benchmark",
    "build_companions",
    "build_deployment",
    "build_revision",
    "kind_of",
]


def build(server: KimiLinearServer) -> list[Manifest]:
    """Return every object that this server would have if it were new, without the record of its pod template."""
    return [*build_companions(server), build_deployment(server, deployment.build_pod_template(server))]


def build_companions(server: KimiLinearServer) -> list[Manifest]:
    """Return every child of a server but its Deployment and the record of its pod template."""
    return [metadata.with_fingerprint(manifest) for manifest in _companions(server)]


def build_deployment(server: KimiLinearServer, template: Manifest, number: int = 0) -> Manifest:
    """Return the Deployment of a server.

    Args:
        server: The server.
        template: The pod template.
        number: The revision that keeps this template, 0 if none does.
    """
    manifest = deployment.build_deployment(server, template)
    if number:
        metadata.annotate(manifest, metadata.REVISION_ANNOTATION, str(number))
    return metadata.with_fingerprint(manifest)


def build_revision(server: KimiLinearServer, kept: revision.Revision) -> Manifest:
    """Return the record of a pod template of a server. Its data never change, so the fingerprint leaves them out."""
    manifest = revision.build_revision(server, kept)
    return {**metadata.with_fingerprint({**manifest, "data": {}}), "data": manifest["data"]}


def build_benchmark(benchmark: KimiLinearBenchmark, target: Target) -> list[Manifest]:
    """Return every object that a benchmark gets until its suites have ended."""
    jobs = [job.build_job(benchmark, suite, target) for suite in benchmark.spec.suites]
    return [metadata.with_fingerprint(manifest) for manifest in (job.build_runner(benchmark), *jobs)]


def kind_of(child: Manifest) -> Kind:
    """Return the kind of an object that `build` returned."""
    return next(kind for kind in KINDS if kind.kind == child["kind"])


def _companions(server: KimiLinearServer) -> Iterator[Manifest]:
    yield service.build_service(server)
    if server.spec.service.headless:
        yield service.build_headless_service(server)
    if disruption.needs_disruption_budget(server):
        yield disruption.build_disruption_budget(server)
