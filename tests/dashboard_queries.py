"""The queries of the project's dashboards and alerts."""

import json
import re
from pathlib import Path

MONITORING = Path(__file__).parents[1] / "deploy/monitoring"


def queries(file: str) -> list[tuple[str, str]]:
    """Return the title of each panel with each of its queries."""
    dashboard = json.loads((MONITORING / file).read_text())
    return [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]


def with_values(query: str, interval: str = "5m") -> str:
    """Return a query as Grafana sends it, for all servers of all namespaces."""
    values = {"$__rate_interval": interval, "$namespace": ".*", "$server": ".*", "${gpu_prefix}": ""}
    for variable, value in values.items():
        query = query.replace(variable, value)
    return query


def metrics(query: str) -> set[str]:
    """Return the names of SGLang's metrics in a query, without `sglang:` and without the suffixes of histograms."""
    return {re.sub(r"_bucket$", "", name) for name in re.findall(r"sglang\[:_\](\w+)", query)}
