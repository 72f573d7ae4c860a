"""The metrics of the benchmark clients: their names, how they are printed, and in which direction they improve.

Names are the clients' own keys. Labels, order, sections and decimals are those of the clients' tables. The client for
speed is sglang.bench_serving of SGLang 0.5.7, whose tables the recipe shows. The rows that later versions add are
included. The client for accuracy is sglang.test.few_shot_gsm8k. The client for tool calls is the operator's own,
`tool_calls.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["speed", "accuracy", "tool-calls"]
"""The kind of a suite: there is one client for each."""

Better = Literal["higher", "lower"]


# The greatest number that `result.py` accepts from a pod. A user can write a greater one to a status.
_GREATEST = 1e15


def in_decimals(value: float, decimals: int) -> str:
    """Return a number with this many decimals, or in a short form if it is too great to be a measurement."""
    return f"{value:.{decimals}f}" if abs(value) < _GREATEST else f"{value:.3g}"


@dataclass(frozen=True)
class Metric:
    """A metric of a client."""

    name: str
    label: str
    """The label in the client's table, with the unit if the table shows it, without the colon."""

    decimals: int
    better: Better | None = None
    """The direction in which the metric improves; None if neither direction is better, for example for a count of
    tokens."""

    unit: str = ""
    """The unit, for example ms or tok/s; empty for a plain number."""

    section: str = ""
    """The heading above the metric in the client's table; empty above the first heading."""

    @property
    def title(self) -> str:
        """Return the label with the unit."""
        return self.label if not self.unit or f"({self.unit})" in self.label else f"{self.label} ({self.unit})"

    def text(self, value: float) -> str:
        """Return the value as the client prints it, without its unit."""
        return in_decimals(value, self.decimals)


LATENCY_SECTIONS = {
    "e2e_latency": "End-to-End Latency",
    "ttft": "Time to First Token",
    "tpot": "Time per Output Token (excl. 1st token)",
    "itl": "Inter-Token Latency",
}
"""The headings of the latencies, by the common part of their metrics' names."""

_LATENCY_LABELS = {"e2e_latency": "E2E Latency", "ttft": "TTFT", "tpot": "TPOT", "itl": "ITL"}

# In the order of the client's rows. SGLang 0.5.7 does not print P90, and prints P95 and P99 only for some latencies.
# Later versions print all of them. The client writes the standard deviation only to its file.
STATISTICS = {
    "mean": "Mean",
    "median": "Median",
    "std": "Std",
    "p90": "P90",
    "p95": "P95",
    "p99": "P99",
    "max": "Max",
}


def _count(name: str, label: str) -> Metric:
    return Metric(name, label, decimals=0)


def _throughput(name: str, label: str, unit: str) -> Metric:
    return Metric(name, f"{label} ({unit})", decimals=2, better="higher", unit=unit)


def _latency(statistic: str, latency: str) -> Metric:
    return Metric(
        f"{statistic}_{latency}_ms",
        f"{STATISTICS[statistic]} {_LATENCY_LABELS[latency]} (ms)",
        decimals=2,
        better="lower",
        unit="ms",
        section=LATENCY_SECTIONS[latency],
    )


SPEED: tuple[Metric, ...] = (
    Metric("completed", "Successful requests", decimals=0, better="higher"),
    Metric("duration", "Benchmark duration (s)", decimals=2, better="lower", unit="s"),
    _count("total_input_tokens", "Total input tokens"),
    _count("total_input_text_tokens", "Total input text tokens"),
    _count("total_input_vision_tokens", "Total input vision tokens"),
    _count("total_output_tokens", "Total generated tokens"),
    _count("total_output_tokens_retokenized", "Total generated tokens (retokenized)"),
    _throughput("request_throughput", "Request throughput", "req/s"),
    _throughput("input_throughput", "Input token throughput", "tok/s"),
    _throughput("output_throughput", "Output token throughput", "tok/s"),
    _throughput("max_output_tokens_per_s", "Peak output token throughput", "tok/s"),
    _count("max_concurrent_requests", "Peak concurrent requests"),
    _throughput("total_throughput", "Total token throughput", "tok/s"),
    Metric("concurrency", "Concurrency", decimals=2),
    Metric("accept_length", "Accept length", decimals=2),
    *(_latency(statistic, latency) for latency in LATENCY_SECTIONS for statistic in STATISTICS),
)

ACCURACY: tuple[Metric, ...] = (
    Metric("accuracy", "Accuracy", decimals=3, better="higher"),
    Metric("invalid", "Invalid", decimals=3, better="lower"),
    Metric("latency", "Latency", decimals=3, better="lower", unit="s"),
    Metric("output_throughput", "Output throughput", decimals=3, better="higher", unit="token/s"),
)

TOOL_CALLS: tuple[Metric, ...] = (
    Metric("valid_tool_calls", "Valid tool calls", decimals=3, better="higher"),
    Metric("valid_streamed_tool_calls", "Valid streamed tool calls", decimals=3, better="higher"),
    Metric("latency", "Latency", decimals=3, better="lower", unit="s"),
)

METRICS: Mapping[Kind, tuple[Metric, ...]] = {"speed": SPEED, "accuracy": ACCURACY, "tool-calls": TOOL_CALLS}
"""The metrics of each kind of suite, in the order in which its client prints them."""


INDISPENSABLE: Mapping[Kind, tuple[str, ...]] = {
    "speed": ("completed", "duration", "request_throughput", "output_throughput"),
    "accuracy": ("accuracy", "invalid", "latency", "output_throughput"),
    "tool-calls": ("valid_tool_calls", "valid_streamed_tool_calls"),
}
"""The metrics that every version of a client writes: a result without one of them is not valid."""


def find(kind: Kind, name: str) -> Metric | None:
    """Return the metric with this name, None if the client of this kind of suite has none."""
    return next((metric for metric in METRICS[kind] if metric.name == name), None)
