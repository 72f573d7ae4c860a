"""The queries of the project's dashboards and alerts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MONITORING = Path(__file__).parents[1] / "deploy/monitoring"


def queries(file: str) -> list[tuple[str, str]]:
    """Return the title of each panel with each of its queries."""
    return [(panel["title"], target["expr"]) for panel in _panels(_rows(file)) for target in panel["targets"]]


def gpu_row() -> dict[str, Any]:
    """Return the row about GPUs of the dashboard of servers."""
    [row] = [panel for panel in _rows("servers-dashboard.json") if panel["type"] == "row"]
    return row


def _rows(file: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((MONITORING / file).read_text())["panels"]
    return rows


def _panels(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in rows:
        yield from panel["panels"] if panel["type"] == "row" else [panel]


def with_values(query: str, interval: str = "5m", namespace: str = ".*", server: str = ".*") -> str:
    """Return a query as Grafana sends it, by default for all servers of all namespaces."""
    values = {"$__rate_interval": interval, "$namespace": namespace, "$server": server}
    for variable, value in values.items():
        query = query.replace(variable, value)
    return query


def metrics(query: str) -> set[str]:
    """Return the names of SGLang's metrics in a query, without `sglang:` and without the suffixes of histograms."""
    return {re.sub(r"_bucket$", "", name) for name in re.findall(r"sglang\[:_\](\w+)", query)}


def metrics_of_gpus(query: str) -> set[str]:
    """Return the names of the exporter's metrics in a query, without a prefix."""
    return set(re.findall(r"\.\*(gpu_\w+)", query))
