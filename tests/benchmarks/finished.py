"""The cost of finished benchmarks: memory, time of a scrape, and the delay of the event loop during a scrape.

It runs in a separate process, with the operator's store, metrics and HTTP server, and without an API server: objects go
into the store as a watch would put them there. Each server has Deployment, Service and pod, each benchmark its
ConfigMap.
"""

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import uvloop

from benchmarks.figures import Finished
from benchmarks.manifests import NAMESPACE, PLACEHOLDER, UID, build_main_children, build_server, server_names
from kimi_linear_operator.benchmark import baseline, load, recipe, results_config_map, verdict
from kimi_linear_operator.benchmark.spec import BENCHMARK, RECIPE_SUITES, KimiLinearBenchmark, Suite
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, POD, Kind, Manifest
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.runtime.endpoints import Readiness, serving
from kimi_linear_operator.runtime.exposition import exposition
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_pod
from passes import new_cache

_SCRAPES = 5
_LAG_SECONDS = 0.01
_TIME = "2026-11-24T09:30:00Z"
# In a separate process, because a read of the answer must not delay the measured loop.
_SCRAPE = """
import json, sys, time, urllib.request
began = time.monotonic()
request = urllib.request.Request(sys.argv[1], headers={"Accept-Encoding": sys.argv[2]})
body = urllib.request.urlopen(request, timeout=300).read()
print(json.dumps([time.monotonic() - began, len(body), body.count(b"\\n")]))
"""


def measure_finished(servers: int, benchmarks: int) -> Finished:
    """Measure in another process, so that its memory contains nothing else."""
    command = [sys.executable, "-m", "benchmarks.finished", str(servers), str(benchmarks)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    return Finished(**json.loads(done.stdout))


def _fill(servers: int, benchmarks: int) -> Cache:
    cache = new_cache()
    names = server_names(servers)
    for number, (kind, manifest) in enumerate(_objects(names, benchmarks)):
        cache.put(kind, {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(number + 1)}})
    return cache


def _objects(servers: list[str], benchmarks: int) -> Iterator[tuple[Kind, Manifest]]:
    ready = {"type": "Ready", "status": "True", "reason": "AllReplicasServe", "message": "1 of 1 replicas serve"}
    children = {kind: json.dumps(child) for kind, child in build_main_children().items()}
    for name in servers:
        server = json.loads(json.dumps(build_server()).replace(PLACEHOLDER, name))
        server["metadata"] |= {"uid": UID, "generation": 1}
        yield SERVER, {**server, "status": {"conditions": [ready]}}
        yield POD, make_pod(f"{name}-0", server=name, namespace=NAMESPACE, phase="Running")
        for kind, text in children.items():
            yield kind, json.loads(text.replace(PLACEHOLDER, name))
    judged = _results()
    for number in range(benchmarks):
        yield from _finished(f"nightly-{number:05}", servers[number % len(servers)], judged)


def _finished(name: str, server: str, judged: list[Manifest]) -> Iterator[tuple[Kind, Manifest]]:
    manifest = make_benchmark(name, serverRef={"name": server})
    manifest["metadata"]["namespace"] = NAMESPACE
    complete = {"type": "Complete", "status": "True", "reason": "SuitesEnded", "message": "all 4 suites have ended"}
    status = {
        "conditions": [{**complete, "lastTransitionTime": _TIME, "observedGeneration": 1}],
        "verdict": "Passed",
        "startTime": _TIME,
        "completionTime": _TIME,
        "environment": {"server": server, "serverGeneration": 1, "hardware": "mi300x", "version": "v0.5.7"},
        "results": judged,
    }
    assert find_condition(status, "Complete")
    yield BENCHMARK, {**manifest, "status": status}
    benchmark = KimiLinearBenchmark.model_validate(manifest)
    yield CONFIG_MAP, metadata.with_fingerprint(results_config_map.build(benchmark, status))


def _results() -> list[Manifest]:
    """Return the recipe's results as they are judged."""
    spec = KimiLinearBenchmark.model_validate(make_benchmark()).spec
    judged = []
    for name in RECIPE_SUITES:
        suite = Suite.model_validate({"name": name})
        counts = dict.fromkeys(("requested", "completed"), load.requests(suite))
        result = {"name": name, "kind": load.kind(suite), "outcome": "Succeeded", "message": "", **counts}
        times = {"startTime": _TIME, "completionTime": _TIME}
        numbers = {"metrics": dict(recipe.PUBLISHED[name]), **times}
        judged.append(verdict.judge(spec, suite, result | numbers, baseline=baseline.of_recipe(suite), changes=[]))
    return judged


async def _scrape(cache: Cache) -> Finished:
    """Scrape over HTTP, and measure the delay of the event loop in this time."""
    lags: list[float] = []
    watching = asyncio.create_task(_watch_lag(lags))
    plain, packed = [], []
    before = time.process_time()
    async with serving(
        "127.0.0.1",
        0,
        healthz=list,
        readyz=lambda: Readiness([], []),
        exposition=lambda: exposition(TYPES, cache.snapshot()),
    ) as port:
        for _ in range(_SCRAPES):
            plain.append(await _ask(port, "identity"))
            packed.append(await _ask(port, "gzip"))
    watching.cancel()
    cpu = (time.process_time() - before) / (2 * _SCRAPES)
    seconds, size, lines = min(plain)
    return Finished(0, 0, 0.0, 0.0, lines, size / 2**20, packed[0][1] / 2**20, seconds, min(packed)[0], cpu, max(lags))


async def _ask(port: int, encoding: str) -> tuple[float, int, int]:
    command = (sys.executable, "-c", _SCRAPE, f"http://127.0.0.1:{port}/metrics", encoding)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    seconds, size, lines = json.loads(output)
    return seconds, size, lines


async def _watch_lag(lags: list[float]) -> None:
    while True:
        due = time.monotonic() + _LAG_SECONDS
        await asyncio.sleep(_LAG_SECONDS)
        lags.append(time.monotonic() - due)


def _rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    """Measure and print the figures as JSON."""
    servers, benchmarks = map(int, sys.argv[1:])
    without = _fill(servers, 0)
    before = _rss_mib()
    del without
    cache = _fill(servers, benchmarks)
    after = _rss_mib()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = asdict(runner.run(_scrape(cache)))
    memory = {"store_mib": after - before, "rss_mib": _rss_mib()}
    print(json.dumps(figures | {"servers": servers, "benchmarks": benchmarks} | memory))


if __name__ == "__main__":
    main()
