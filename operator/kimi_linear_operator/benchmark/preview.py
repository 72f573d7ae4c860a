"""The preview of a benchmark on the command line, before it is applied."""

from collections.abc import Mapping, Sequence

from kimi_linear_operator.benchmark import manifests, target
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.kubernetes.kinds import JOB, Manifest
from kimi_linear_operator.kubernetes.plan import Apply, Step, step_for
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Preview, Referenced
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer


def _references(benchmark: KimiLinearBenchmark) -> Mapping[str, Key]:
    """Return the server on which a benchmark's Jobs depend, by the field that names it; empty for an endpoint."""
    reference = benchmark.spec.server_ref
    return {"spec.serverRef.name": Key(benchmark.metadata.namespace, reference.name, SERVER)} if reference else {}


def _build(benchmark: KimiLinearBenchmark, referenced: Referenced) -> list[Manifest]:
    server = next((referenced[key] for key in _references(benchmark).values()), None)
    if isinstance(server, KimiLinearServer):
        return manifests.build(benchmark, target.of_server(benchmark, server))
    return manifests.build(benchmark, target.of_endpoint(benchmark))


def _as_stored(benchmark: KimiLinearBenchmark, stored: Manifest | None) -> KimiLinearBenchmark:
    uid = stored["metadata"]["uid"] if stored else ""
    return benchmark.model_copy(update={"metadata": benchmark.metadata.model_copy(update={"uid": uid})})


def _desired(benchmark: KimiLinearBenchmark, _: Sequence[Manifest], referenced: Referenced) -> list[Manifest]:
    return _build(benchmark, referenced)


def _plan(benchmark: KimiLinearBenchmark, wanted: Sequence[Manifest], live: Sequence[Manifest]) -> list[Step]:
    """Return the steps for a benchmark's children. An existing Job does not change, and no child is deleted."""
    live_by_name = {(item["kind"], item["metadata"]["name"]): item for item in live}
    steps = (
        step_for(benchmark, child, live_by_name.get((child["kind"], child["metadata"]["name"]))) for child in wanted
    )
    return [step for step in steps if step and not (isinstance(step, Apply) and step.wanted["kind"] == JOB.kind)]


PREVIEW = Preview(build=_build, as_stored=_as_stored, desired=_desired, references=_references, plan=_plan)
