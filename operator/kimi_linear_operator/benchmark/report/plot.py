"""The geometry of the plots in the HTML report: the positions of axes, marks and texts. The page draws them as SVG.

Lengths are in SVG units: pixels at the plots' natural size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kimi_linear_operator.benchmark.metric import LATENCY_SECTIONS, STATISTICS, Metric
from kimi_linear_operator.benchmark.report.run import Row, Run, SuiteRun

WIDTH = 380

# Throughputs, and how long clients wait for the first token and for each further one.
_AGAINST_CONCURRENCY = ("output_throughput", "total_throughput", "median_ttft_ms", "median_tpot_ms")

# The greatest number in a plot. No real metric is as large, but results come from pods and may contain anything.
_GREATEST = 1e12
_MOST_TICKS = 6

_CURVE_HEIGHT = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 22, 34

_ABOVE_MARK = 12
_ROOM_FOR_LABELS = 28

_LABEL_WIDTH, _VALUE_WIDTH = 60, 140
_ROW_HEIGHT = 26
_AXIS_HEIGHT = 22


@dataclass(frozen=True)
class Tick:
    """A tick of an axis, at a coordinate."""

    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A point for a number of the run or of the reference. `title` is its tooltip."""

    x: float
    y: float
    text: str
    title: str


@dataclass(frozen=True)
class Label:
    """A number beside its mark."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A metric against concurrency, with a line for the run and one for the reference."""

    metric: Metric
    height: int
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    measured: Sequence[Mark]
    reference: Sequence[Mark]
    labels: Sequence[Label]
    rows: Sequence[tuple[SuiteRun, Row]]

    left, right, bottom = _LEFT, WIDTH - _RIGHT, _CURVE_HEIGHT - _BOTTOM


@dataclass(frozen=True)
class Pair:
    """A statistic of a latency, with the marks of the run and of the reference. Without a number, the mark is None."""

    label: str
    y: float
    row: Row
    measured: Mark
    reference: Mark | None


@dataclass(frozen=True)
class Spread:
    """The statistics of one latency of a suite, below each other on one logarithmic axis."""

    title: str
    height: int
    ticks: Sequence[Tick]
    pairs: Sequence[Pair]

    left, right = _LABEL_WIDTH, WIDTH - _VALUE_WIDTH

    @property
    def bottom(self) -> int:
        """Return the y coordinate of the axis."""
        return self.height - _AXIS_HEIGHT


def curves(run: Run) -> list[Curve]:
    """Return a curve for each metric that a suite with a concurrency has measured."""
    suites = sorted(
        (suite for suite in run.suites if suite.max_concurrency), key=lambda suite: suite.max_concurrency or 0
    )
    rows_by_metric = ([(suite, row) for suite in suites if (row := suite.row(name))] for name in _AGAINST_CONCURRENCY)
    return [_curve(rows) for rows in rows_by_metric if rows]


def spreads(suite: SuiteRun) -> list[Spread]:
    """Return a spread for each latency that a suite has measured."""
    plots = []
    for latency, title in LATENCY_SECTIONS.items():
        rows = [(label, suite.row(f"{statistic}_{latency}_ms")) for statistic, label in STATISTICS.items()]
        # The standard deviation has no place on an axis of latencies.
        measured = [(label, row) for label, row in rows if row and label != STATISTICS["std"]]
        if measured:
            plots.append(_spread(title, measured))
    return plots


def _curve(rows: Sequence[tuple[SuiteRun, Row]]) -> Curve:
    concurrencies = sorted({suite.max_concurrency or 1 for suite, _ in rows})
    x_axis = _concurrency_axis(concurrencies)
    steps = linear_steps(max(_bounded(value) for _, row in rows for value in (row.value, row.reference or 0)))
    y_axis = _Axis(0, steps[-1], _CURVE_HEIGHT - _BOTTOM, _TOP)

    def mark(suite: SuiteRun, row: Row, value: float) -> Mark:
        concurrency = suite.max_concurrency or 1
        text = row.metric.text(value)
        title = f"{suite.name}: {text} {row.metric.unit} at concurrency {concurrency}"
        return Mark(x_axis.place(concurrency), y_axis.place(_bounded(value)), text, title)

    measured = [mark(suite, row, row.value) for suite, row in rows]
    reference = [mark(suite, row, row.reference) for suite, row in rows if row.reference is not None]
    tops = {mark.x: min(other.y for other in (*measured, *reference) if other.x == mark.x) for mark in measured}
    return Curve(
        metric=rows[0][1].metric,
        height=_CURVE_HEIGHT,
        x_ticks=[Tick(x_axis.place(number), str(number)) for number in concurrencies],
        y_ticks=[Tick(y_axis.place(step), _short(step)) for step in steps],
        measured=measured,
        reference=reference,
        labels=[Label(mark.x, tops[mark.x] - _ABOVE_MARK, mark.text) for mark in measured],
        rows=rows,
    )


def _spread(title: str, rows: Sequence[tuple[str, Row]]) -> Spread:
    values = [value for _, row in rows for value in (row.value, row.reference) if value is not None]
    steps = logarithmic_steps([_bounded(value) for value in values])
    axis = _Axis(steps[0], steps[-1], Spread.left, Spread.right, is_logarithmic=True)

    def mark(row: Row, value: float, y: float) -> Mark:
        text = row.metric.text(value)
        return Mark(axis.place(_bounded(value)), y, text, f"{text} ms")

    pairs = []
    for number, (label, row) in enumerate(rows):
        y = _ROW_HEIGHT * (number + 0.5)
        reference = None if row.reference is None else mark(row, row.reference, y)
        pairs.append(Pair(label, y, row, mark(row, row.value, y), reference))
    shown = steps[:: -(-len(steps) // _MOST_TICKS)]
    ticks = [Tick(axis.place(step), _short(step)) for step in shown]
    return Spread(title, _ROW_HEIGHT * len(rows) + _AXIS_HEIGHT, ticks, pairs)


@dataclass(frozen=True)
class _Axis:
    """An axis from the number `lowest` at the coordinate `start` to the number `highest` at `end`."""

    lowest: float
    highest: float
    start: float
    end: float
    is_logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return the coordinate of a number.

        If it is beyond the axis, return the nearer end. If both ends are equal, return the middle.
        """
        low, high, number = (self._scaled(item) for item in (self.lowest, self.highest, value))
        share = (number - low) / (high - low) if high > low else 0.5
        return round(self.start + min(max(share, 0), 1) * (self.end - self.start), 1)

    def _scaled(self, value: float) -> float:
        return math.log(max(value, self.lowest)) if self.is_logarithmic else value


def _concurrency_axis(concurrencies: Sequence[int]) -> _Axis:
    begin, end = _LEFT + _ROOM_FOR_LABELS, WIDTH - _RIGHT - _ROOM_FOR_LABELS
    return _Axis(concurrencies[0], concurrencies[-1], begin, end, is_logarithmic=True)


def linear_steps(highest: float) -> list[float]:
    """Return up to six round numbers at equal distances, from 0 to at least the highest value."""
    step = next(item for item in _round_numbers() if item * 5 >= highest)
    return [step * number for number in range(max(math.ceil(highest / step), 1) + 1)]


def logarithmic_steps(values: Sequence[float]) -> list[float]:
    """Return the round numbers (1, 2, 5, 10 ...) that span all values above 0."""
    positive = [value for value in values if value > 0] or [1]
    numbers = list(_round_numbers())
    first = max((number for number, step in enumerate(numbers) if step <= min(positive)), default=0)
    last = next((number for number, step in enumerate(numbers) if step >= max(positive)), len(numbers) - 1)
    return numbers[first : max(last, first + 1) + 1]


def _round_numbers() -> Sequence[float]:
    """Return 1, 2 and 5 times the powers of ten from a thousandth to the greatest number in a plot."""
    return [float(f"{digit}e{power}") for power in range(-3, 13) for digit in (1, 2, 5)]


def _bounded(value: float) -> float:
    return min(max(value, 0), _GREATEST)


def _short(value: float) -> str:
    """Return a round number in short form: 500, 2k, 1M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"
