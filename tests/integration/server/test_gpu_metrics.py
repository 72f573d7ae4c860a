"""The panels about GPUs. A real Prometheus scrapes a stand-in for AMD's exporter as AMD's ServiceMonitors do."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

import gpu_exporter
import prometheus
from dashboard_queries import gpu_row, with_values
from gpu_exporter import User
from integration.waiting import wait_for

POD = "kimi-7d9c6f5b8-x2x4q"
OURS = User("inference", POD, "sglang")
OF_ANOTHER_SERVER = User("inference", "kimi-a-5f6d7c8b9-4tq8z", "sglang")
OF_ANOTHER_NAMESPACE = User("research", "kimi-6b7c8d9f5-k2x9w", "sglang")
OF_NO_SERVER = User("inference", "kimi-notebook-x2x4q", "notebook")
USERS = [OURS, OURS, OURS, OURS, OF_ANOTHER_SERVER, OF_ANOTHER_NAMESPACE, OF_NO_SERVER, User()]
GPUS = ["0", "1", "2", "3"]
# What Prometheus adds to what it reads through the chart's ServiceMonitor.
OF_THE_EXPORTER = {
    "namespace": "amd",
    "pod": "exporter-amd-metrics-exporter-x7k2p",
    "container": "amdgpu-metrics-exporter-container",
    "service": "exporter-amd-metrics-exporter-svc",
    "endpoint": "http",
}
# A pod of another server claims that it knows a GPU of our pod.
FORGED = f'gpu_used_vram{{gpu_id="0",hostname="gpu-1",namespace="inference",pod="{POD}"}} 999999\n'


@dataclass(frozen=True)
class Way:
    """A way to run and to scrape the exporter.

    Attributes:
        honor_labels: The value of honorLabels in the ServiceMonitor.
        prefix: The exporter's MetricsFieldPrefix.
    """

    honor_labels: bool
    prefix: str = ""


WAYS = {
    "as in both charts of AMD": Way(honor_labels=True),
    "as in the example of AMD's GPU operator": Way(honor_labels=False),
    "with a prefix": Way(honor_labels=True, prefix="amd_"),
}


@pytest.fixture(scope="module", params=list(WAYS.values()), ids=list(WAYS))
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[prometheus.Prometheus]:
    prometheus.ensure_there()
    way: Way = request.param
    with ExitStack() as stack:
        exporter = stack.enter_context(gpu_exporter.serving(gpu_exporter.exposition(USERS, way.prefix)))
        targets = [prometheus.Target(exporter, OF_THE_EXPORTER, way.honor_labels)]
        for user, server, text in (
            (OURS, "kimi", ""),
            (OF_ANOTHER_SERVER, "kimi-a", FORGED),
            (OF_ANOTHER_NAMESPACE, "kimi", ""),
        ):
            labels = {"namespace": user.namespace, "pod": user.pod, "kimi_linear_io_server": server}
            targets.append(prometheus.Target(stack.enter_context(gpu_exporter.serving(text)), labels))
        found = stack.enter_context(prometheus.scraping(tmp_path_factory.mktemp("prometheus"), *targets))
        wait_for(lambda: len(found.query("up == 1")) == len(targets), "Prometheus has scraped all targets")
        yield found


def answers(running: prometheus.Prometheus, server: str) -> dict[str, list[list[dict[str, Any]]]]:
    """Return the answers to the queries of each panel."""
    return {
        panel["title"]: [
            running.query(with_values(target["expr"], namespace="inference", server=server))
            for target in panel["targets"]
        ]
        for panel in gpu_row()["panels"]
    }


def test_the_panels_show_the_gpus_of_the_servers_pods_and_no_others(running: prometheus.Prometheus) -> None:
    found = answers(running, "kimi")
    assert {title for title, queries in found.items() if not all(queries)} == set()
    series = [one for queries in found.values() for query in queries for one in query]
    assert {one["metric"].get("pod", POD) for one in series} == {POD}
    per_gpu = [query for queries in found.values() for query in queries if "gpu_id" in query[0]["metric"]]
    assert len(per_gpu) == 8
    assert [sorted(one["metric"]["gpu_id"] for one in query) for query in per_gpu] == [GPUS] * len(per_gpu)
    values = {title: [query[0]["value"][1] for query in queries] for title, queries in found.items()}
    assert values == {
        "GPUs": ["4"],
        "Unhealthy GPUs": ["0"],
        "GPUs with uncorrectable errors": ["4"],
        "Power of all GPUs (W)": ["2560"],
        "Compute units busy": ["87"],
        "Memory controller busy": ["42"],
        "GPU memory in use": [str(172000 * 2**20), str(196592 * 2**20)],
        "Power": ["640"],
        "Temperature": ["71", "55"],
        "Clock": ["2100000000"],
        "Errors (ECC)": ["1", "0", "8"],
    }


def test_the_panels_of_a_server_without_gpus_are_empty(running: prometheus.Prometheus) -> None:
    found = answers(running, "another")
    assert [one for queries in found.values() for query in queries for one in query] == []
