"""Writes the dashboards for Grafana: `dashboards.py` writes deploy/monitoring/*.json anew.

Grafana's own library builds the dashboards. Their queries use the label names of the Prometheus operator: `namespace`,
`pod`.
"""

from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueTextMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableHide,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from kimi_linear_operator.server import gpu_metrics
from kimi_linear_operator.server.monitoring import sglang as metric

FOLDER = Path(__file__).parents[1] / "monitoring"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH = 24

Panel = timeseries.Panel | stat.Panel | table.Panel


@dataclass(frozen=True)
class Query:
    """A line of a panel.

    Attributes:
        expression: PromQL.
        legend: The name of the line, with labels in braces.
    """

    expression: str
    legend: str = ""


def lines(title: str, unit: str, *queries: Query, width: int = 8, about: str = "") -> timeseries.Panel:
    """Return a panel with lines over time."""
    panel = timeseries.Panel().title(title).unit(unit).datasource(_SOURCE).span(width).height(8).min(0)
    panel = panel.legend(common.VizLegendOptions().show_legend(True))
    for query in queries:
        panel = panel.with_target(_target(query))
    return panel.description(about) if about else panel


def number(title: str, query: Query, *, width: int = 4, is_bad: bool = False, shows_name: bool = False) -> stat.Panel:
    """Return a panel with one number. With `is_bad`, every number except 0 is red."""
    panel = (
        stat.Panel().title(title).unit("short").datasource(_SOURCE).span(width).height(4).with_target(_target(query))
    )
    if shows_name:
        panel = panel.text_mode(BigValueTextMode.NAME)
    if is_bad:
        steps = [Threshold(value=None, color="green"), Threshold(value=1, color="red")]
        panel = panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    return panel


def rows(title: str, query: Query, *, width: int = 12) -> table.Panel:
    """Return a table of the current results of a query."""
    target = _target(query).instant().format(PromQueryFormat.TABLE)
    return table.Panel().title(title).datasource(_SOURCE).span(width).height(8).with_target(target)


def quantiles(histogram: str, labels: str) -> tuple[Query, ...]:
    """Return the median, the 90th and the 99th percentile of a histogram."""
    return _quantiles(f"{histogram}_bucket{{{labels}}}")


def _quantiles(buckets: str) -> tuple[Query, ...]:
    rate = f"sum by (le) (rate({buckets}[$__rate_interval]))"
    names = {"0.5": "median", "0.9": "90th percentile", "0.99": "99th percentile"}
    return tuple(Query(f"histogram_quantile({share}, {rate})", name) for share, name in names.items())


def _target(query: Query) -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(_SOURCE).expr(query.expression).legend_format(query.legend)


def _dashboard(title: str, uid: str, variables: list[dashboard.QueryVariable]) -> dashboard.Dashboard:
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    built = dashboard.Dashboard(title).uid(uid).tags(["kimi-linear"]).refresh("30s").time("now-3h", "now")
    built = built.tooltip(DashboardCursorSync.CROSSHAIR).with_variable(source)
    for variable in variables:
        built = built.with_variable(variable)
    return built


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Return a variable whose values are those of a label."""
    variable = dashboard.QueryVariable(name).label(label).datasource(_SOURCE).query(query)
    return variable.multi(True).include_all(True).hide(VariableHide.DONT_HIDE)


_OPERATOR = 'namespace=~"$namespace"'


def operator() -> dashboard.Dashboard:
    """Return the dashboard of the operator."""
    namespace = _choice("namespace", "Namespace of the operator", "label_values(kimi_linear_operator_info, namespace)")
    built = _dashboard("Kimi-Linear operator", "kimi-linear-operator", [namespace])
    for panel in (*_servers(), *_benchmarks(), *_work(), *_requests(), *_resources()):
        built = built.with_panel(panel)
    return built


def _servers() -> list[Panel]:
    ready = f'kimi_linear_servers{{{_OPERATOR}, condition="Ready"'
    per_reason = "sum(max by (condition, status, reason)"
    stalled = f'kimi_linear_servers{{{_OPERATOR}, condition="Stalled", status="True"}}'
    return [
        number("Servers", Query(f"{per_reason} ({ready}}}))", "servers")),
        number("Ready", Query(f'{per_reason} ({ready}, status="True"}}))', "ready")),
        number("Stalled", Query(f"{per_reason} ({stalled})) or vector(0)", "stalled"), is_bad=True),
        number("Replicas of the operator", Query(f"count(kimi_linear_operator_info{{{_OPERATOR}}})", "replicas")),
        number(
            "Leads",
            Query(f"kimi_linear_operator_leading{{{_OPERATOR}}} == 1", "{{pod}}"),
            width=8,
            shows_name=True,
        ),
        lines(
            "Why servers are not ready",
            "short",
            Query(f'max by (reason) ({ready}, status!="True"}})', "{{reason}}"),
            width=12,
        ),
        rows(
            "Servers that are not ready",
            Query(f"max by (server_namespace, server) (kimi_linear_server_ready{{{_OPERATOR}}}) == 0"),
        ),
    ]


def _benchmarks() -> list[Panel]:
    verdicts = f'kimi_linear_benchmarks{{{_OPERATOR}, condition="Succeeded"}}'
    weights = f'kimi_linear_weights{{{_OPERATOR}, condition="Ready"}}'
    measured = f'kimi_linear_benchmark_result{{{_OPERATOR}, metric="output_throughput"}}'
    return [
        lines(
            "Benchmarks by verdict, weights by reason",
            "short",
            Query(f"max by (reason) ({verdicts})", "{{reason}}"),
            Query(f"max by (reason) ({weights})", "weights: {{reason}}"),
            width=12,
        ),
        lines(
            "Output throughput that benchmarks measured (tok/s)",
            "short",
            Query(
                f"max by (server, suite, benchmark_namespace, benchmark) ({measured})",
                "{{server}} {{suite}} {{benchmark_namespace}}/{{benchmark}}",
            ),
            width=12,
        ),
    ]


def _work() -> list[Panel]:
    passes = f"kimi_linear_operator_reconciles_total{{{_OPERATOR}}}"
    processor = f"rate(kimi_linear_operator_reconcile_cpu_seconds_bucket{{{_OPERATOR}}}[$__rate_interval])"
    lag = f"rate(kimi_linear_operator_event_loop_lag_seconds_bucket{{{_OPERATOR}}}[$__rate_interval])"
    return [
        lines("Passes by result", "ops", Query(f"sum by (result) (rate({passes}[$__rate_interval]))", "{{result}}")),
        lines(
            "Duration of a pass",
            "s",
            *quantiles("kimi_linear_operator_reconcile_duration_seconds", _OPERATOR),
            Query(f"histogram_quantile(0.99, sum by (le) ({processor}))", "processor time, 99th percentile"),
        ),
        lines(
            "Wait for a worker, lag of the event loop",
            "s",
            *quantiles("kimi_linear_operator_queue_wait_seconds", _OPERATOR),
            Query(f"histogram_quantile(0.99, sum by (le) ({lag}))", "event loop, 99th percentile"),
        ),
    ]


def _requests() -> list[Panel]:
    requests = "kimi_linear_operator_api_requests_total"
    failed = f'{requests}{{{_OPERATOR}, code!~"2..|404"}}'
    watches = f"kimi_linear_operator_watch_failures_total{{{_OPERATOR}}}"
    found = f"kimi_linear_operator_resync_findings_total{{{_OPERATOR}}}"
    depth = f"kimi_linear_operator_queue_depth{{{_OPERATOR}}}"
    sent = f"{requests}{{{_OPERATOR}}}"
    return [
        lines("Servers that wait", "short", Query(f"sum by (pod) ({depth})", "{{pod}}")),
        lines(
            "Requests to the API server",
            "reqps",
            Query(f"sum by (verb) (rate({sent}[$__rate_interval]))", "{{verb}}"),
        ),
        lines(
            "Requests that failed",
            "reqps",
            Query(f"sum by (verb, code) (rate({failed}[$__rate_interval]))", "{{verb}} {{code}}"),
        ),
        lines(
            "Watches that failed",
            "short",
            Query(f"sum by (resource) (increase({watches}[$__rate_interval]))", "{{resource}}"),
            Query(f"sum(increase({found}[$__rate_interval]))", "changes that only a resync found"),
        ),
    ]


def _resources() -> list[Panel]:
    ours = "* on (namespace, pod) group_left () kimi_linear_operator_info"
    processor = f"rate(process_cpu_seconds_total{{{_OPERATOR}}}[$__rate_interval])"
    rollouts = f"kimi_linear_operator_template_rollouts{{{_OPERATOR}}}"
    served = f"sum by (le) (increase(kimi_linear_server_time_to_serve_seconds_bucket{{{_OPERATOR}}}[1d]))"
    return [
        lines("CPU", "percentunit", Query(f"sum by (pod) ({processor} {ours})", "{{pod}}")),
        lines(
            "Memory",
            "bytes",
            Query(f"sum by (pod) (process_resident_memory_bytes{{{_OPERATOR}}} {ours})", "{{pod}}"),
        ),
        lines("New pod templates", "short", Query(f"max by (state) ({rollouts})", "{{state}}")),
        lines(
            "Time to serve",
            "s",
            Query(f"histogram_quantile(0.5, {served})", "median of a day"),
            Query(f"histogram_quantile(0.9, {served})", "90th percentile of a day"),
        ),
    ]


# The PodMonitor of a server gives its metrics the label `kimi_linear_io_server`.
_SERVER = 'namespace=~"$namespace", kimi_linear_io_server=~"$server"'


def servers() -> dashboard.Dashboard:
    """Return the dashboard of servers with spec.monitoring."""
    namespace = _choice("namespace", "Namespace", 'label_values(up{kimi_linear_io_server!=""}, namespace)')
    names = 'label_values(up{namespace=~"$namespace", kimi_linear_io_server!=""}, kimi_linear_io_server)'
    built = _dashboard("Kimi-Linear servers", "kimi-linear-servers", [namespace, _choice("server", "Server", names)])
    for panel in (*_load(), *_latency(), *_memory()):
        built = built.with_panel(panel)
    # Grafana sends the queries of a collapsed row only when somebody opens the row.
    row = dashboard.Row("GPUs (needs AMD's Device Metrics Exporter)").collapsed(True)
    for panel in (*_gpu_numbers(), *_gpu_use(), *_gpu_state()):
        row = row.with_panel(panel.no_value("No metrics of AMD's Device Metrics Exporter about these pods"))
    return built.with_row(row)


def _load() -> list[Panel]:
    scraped = "up{" + _SERVER + "}"
    return [
        number("Replicas that answer", Query(f"sum({scraped})", "replicas"), width=6),
        number("Replicas that do not", Query(f"count({scraped} == 0) or vector(0)", "replicas"), width=6, is_bad=True),
        number("Requests that run", Query(_by_pod("num_running_reqs", "sum"), "requests"), width=6),
        number("Requests that wait", Query(_by_pod("num_queue_reqs", "sum"), "requests"), width=6, is_bad=True),
        lines(
            "Requests",
            "short",
            Query(_by_pod("num_running_reqs"), "{{pod}}: run"),
            Query(_by_pod("num_queue_reqs"), "{{pod}}: wait"),
        ),
        lines(
            "Tokens (tok/s)",
            "short",
            Query(_rate("generation_tokens_total"), "answers"),
            Query(_rate("prompt_tokens_total"), "prompts"),
        ),
        lines(
            "Requests by end",
            "reqps",
            Query(_rate("num_requests_total"), "answered"),
            Query(_rate("num_aborted_requests_total"), "aborted"),
            about="The line of aborted requests begins at the first aborted request.",
        ),
    ]


def _latency() -> list[Panel]:
    return [
        lines("Time to the first token", "s", *_quantiles(metric("time_to_first_token_seconds_bucket", _SERVER))),
        lines("Time between tokens", "s", *_quantiles(metric("inter_token_latency_seconds_bucket", _SERVER))),
        lines("Time to the whole answer", "s", *_quantiles(metric("e2e_request_latency_seconds_bucket", _SERVER))),
    ]


def _memory() -> list[Panel]:
    return [
        lines("Cache of keys and values in use", "percentunit", Query(_by_pod("token_usage"), "{{pod}}")),
        lines("States of the linear attention in use", "percentunit", Query(_by_pod("mamba_usage"), "{{pod}}")),
        lines("Prompts found in the prefix cache", "percentunit", Query(_by_pod("cache_hit_rate"), "{{pod}}")),
    ]


# The exporter counts memory in units of 1024 * 1024 bytes, and calls them MB (gpu-agent: api/smi/amdsmi/smi_api.cc).
_BYTES = f"* {1024 * 1024}"
_GPU = "{{pod}} {{gpu_id}}"


def _gpu_numbers() -> list[Panel]:
    unhealthy, errors = f"{_gpu('gpu_health')} == bool 0", f"{_gpu('gpu_ecc_uncorrect_total')} > bool 0"
    return [
        number("GPUs", Query(f"count({_gpu('gpu_total_vram')})", "GPUs"), width=6),
        number("Unhealthy GPUs", Query(f"sum({unhealthy})", "GPUs"), width=6, is_bad=True),
        number("GPUs with uncorrectable errors", Query(f"sum({errors})", "GPUs"), width=6, is_bad=True),
        number("Power of all GPUs (W)", Query(f"sum({_gpu('gpu_package_power')})", "W"), width=6),
    ]


def _gpu_use() -> list[Panel]:
    total = f"max by (pod) ({_gpu('gpu_total_vram')}) {_BYTES}"
    return [
        lines("Compute units busy", "percent", Query(_gpu("gpu_gfx_activity"), _GPU)),
        lines("Memory controller busy", "percent", Query(_gpu("gpu_umc_activity"), _GPU)),
        lines(
            "GPU memory in use",
            "bytes",
            Query(f"{_gpu('gpu_used_vram')} {_BYTES}", _GPU),
            Query(total, "{{pod}}: size of each GPU"),
        ),
    ]


def _gpu_state() -> list[Panel]:
    """Return the panels about power, heat and errors.

    On MI300X and newer, the exporter has neither the temperature of the edge nor those of the single stacks of memory
    (docs/configuration/metricslist.md). Before 1.4.2, it wrote the types of clocks in another form.
    """
    clock = _gpu("gpu_clock", 'clock_type=~"system|GPU_CLOCK_TYPE_SYSTEM"')
    return [
        lines("Power", "watt", Query(_gpu("gpu_package_power"), _GPU), width=6),
        lines(
            "Temperature",
            "celsius",
            Query(_gpu("gpu_junction_temperature"), f"{_GPU}: hottest spot"),
            Query(_gpu("gpu_memory_temperature"), f"{_GPU}: memory"),
            width=6,
        ),
        lines("Clock", "hertz", Query(f"{clock} * 1e6", _GPU), width=6, about="The fastest core of each GPU."),
        lines(
            "Errors (ECC)",
            "short",
            Query(_gpu("gpu_ecc_uncorrect_total"), f"{_GPU}: uncorrectable"),
            Query(f"sum by (pod) ({_gpu('gpu_ecc_deferred_total')})", "{{pod}}: deferred"),
            Query(f"sum by (pod) ({_gpu('gpu_ecc_correct_total')})", "{{pod}}: corrected"),
            width=6,
            about="A deferred error is an uncorrectable one in data that nothing has read yet.",
        ),
    ]


def _by_pod(gauge: str, outer: str = "") -> str:
    """Return the query for a gauge. Every process of an engine may report it."""
    query = f"max by (namespace, pod) ({metric(gauge, _SERVER)})"
    return f"{outer}({query})" if outer else query


def _rate(counter: str) -> str:
    return f"sum(rate({metric(counter, _SERVER)}[$__rate_interval]))"


def _gpu(gauge: str, labels: str = "") -> str:
    return gpu_metrics.of_pods(gauge, "$namespace", _SERVER, labels)


def texts() -> dict[str, str]:
    """Return the text of each file by its name."""
    built = {"dashboard.json": operator(), "servers-dashboard.json": servers()}
    return {name: JSONEncoder(sort_keys=True, indent=2).encode(item.build()) + "\n" for name, item in built.items()}


if __name__ == "__main__":
    for name, text in texts().items():
        (FOLDER / name).write_text(text)
