"""`kimi-linear report`: the results of a benchmark beside the recipe's numbers or those of another benchmark."""

import argparse
import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kimi_linear_operator.benchmark import report
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.cli import checks, context, manifests
from kimi_linear_operator.cli.failure import CommandError, missing, of_cluster
from kimi_linear_operator.cluster.client import connect
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("name", nargs="?", help="name of the benchmark; needed without -f")
    parser.add_argument("other", nargs="?", help="name of a second benchmark to compare with")
    manifests.add_input_arguments(parser, required=False)
    manifests.add_output_argument(parser, *report.REPORTS)


def run(options: argparse.Namespace) -> int:
    """Print the report. Return 0 if the benchmark passed. For a comparison, return 0 if both results are valid."""
    runs = _from_files(options) if options.filename else _from_cluster(options)
    if len(runs) == 1:
        print(report.REPORTS[options.output](runs[0]), end="")
        return 0 if runs[0].verdict == "Passed" else 1
    if options.output not in report.COMPARISONS:
        formats = ", ".join(report.COMPARISONS)
        raise CommandError(f"{options.output} cannot show a comparison: use one of {formats}")
    print(report.COMPARISONS[options.output](report.beside(*runs)), end="")
    return 0 if all(run.verdict in {"Passed", "Failed"} for run in runs) else 1


def _from_cluster(options: argparse.Namespace) -> list[report.Run]:
    if not options.name:
        raise CommandError("name a benchmark of the cluster, or a file with -f")
    names = [name for name in (options.name, options.other) if name]
    namespace = context.namespace(options)
    try:
        stored = asyncio.run(_get(namespace, names))
    except ApiError as error:
        raise of_cluster(error) from error
    for name, manifest in zip(names, stored, strict=True):
        if manifest is None:
            raise missing(BENCHMARK.kind, "klb", name, namespace)
    return [checks.read_run(name, manifest) for name, manifest in zip(names, stored, strict=True) if manifest]


async def _get(namespace: str, names: Iterable[str]) -> list[Manifest | None]:
    async with connect() as cluster:
        return [await cluster.get(BENCHMARK, namespace, name) for name in names]


def _from_files(options: argparse.Namespace) -> list[report.Run]:
    """Return the named benchmarks in the files. Without a name, the files must contain one or two benchmarks."""
    files = ", ".join(options.filename)
    sources = [source for source in manifests.read(options) if source.manifest.get("kind") == "KimiLinearBenchmark"]
    if options.name:
        sources = [_named(sources, name, files) for name in (options.name, options.other) if name]
    if not sources:
        raise CommandError(
            f"no KimiLinearBenchmark in {files}: `kubectl get klb NAME -o yaml` writes one with its results"
        )
    if len(sources) > 2:
        raise CommandError(f"{len(sources)} benchmarks in {files}: say which one to report, or which two to compare")
    runs = [checks.read_run(source.file, source.manifest) for source in sources]
    if len({run.name for run in runs}) == len(runs):
        return runs
    return [replace(run, name=f"{run.name} ({source.file})") for run, source in zip(runs, sources, strict=True)]


def _named(sources: Sequence[manifests.Source], name: str, files: str) -> manifests.Source:
    for source in sources:
        if source.manifest.get("metadata", {}).get("name") == name:
            return source
    raise CommandError(f"no KimiLinearBenchmark {name} in {files}")
