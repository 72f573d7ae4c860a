"""The figures as a table for people and as JSON for programs."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from benchmarks.figures import LIMIT, OURS, PLAIN, Finished, Life, Outfit, Results, Size, Target, growth

_MOST_STATUS_WRITES = 2
_CHILDREN = 3
_NONE = "-"


def document(results: Results) -> dict[str, Any]:
    """Return all raw and computed figures."""
    sizes = results.sizes
    return {
        "machine": dict(results.machine),
        "sizes": [{**asdict(size), "ratios": {name: size.ratio(name) for name in (LIMIT, PLAIN)}} for size in sizes],
        "finished benchmarks": [asdict(figures) for figures in results.finished],
        "outfits": [asdict(outfit) for outfit in results.outfits],
        "growth": {figure: growth(sizes, figure) for figure in ("cpu_seconds", "writes")},
        "targets": [{**asdict(target), "met": target.is_met} for target in targets(results)],
    }


def text(results: Results) -> str:
    """Return everything as tables."""
    sizes = results.sizes
    lived = [(size.servers, size.life) for size in sizes if size.life]
    parts = [
        ", ".join(f"{key} {value}" for key, value in results.machine.items()),
        _convergence(sizes),
        _beside(sizes),
        _costs(lived),
        _rest(lived),
        _starts(lived),
        _answers(lived),
        _finished(results.finished),
        _outfits(results.outfits),
        _targets(targets(results)),
    ]
    return "\n\n".join(parts) + "\n"


def targets(results: Results) -> list[Target]:
    """Return the targets that were measured."""
    sizes = results.sizes
    found = [target for size in sizes for target in _targets_of(size)]
    found += [target for figures in results.finished for target in _finished_targets(figures)]
    found += [target for outfit in results.outfits for target in _outfit_targets(outfit)]
    for figure, name in (("cpu_seconds", "processor time"), ("writes", "writes")):
        ratio = growth(sizes, figure)
        if ratio is not None:
            found.append(Target(f"{name} a server with the most servers, divided by that with the fewest", 1.2, ratio))
    return found


def _targets_of(size: Size) -> Iterable[Target]:
    servers = f"{size.servers} servers"
    if (ratio := size.ratio(LIMIT)) is not None:
        yield Target(f"{servers}: time to converge / API server limit", 1.3, ratio)
    if (ratio := size.ratio(LIMIT, "cpu")) is not None:
        yield Target(f"{servers}: processor time to converge / API server limit", 1.3, ratio)
    if (ratio := size.ratio_beside(PLAIN)) is not None:
        yield Target(f"{servers}: time beside Kubernetes' controllers / plain kopf", 1.0, ratio)
    if (ratio := size.ratio(PLAIN)) is not None and size.servers <= 1000:
        yield Target(f"{servers}: time to converge / plain kopf", 1.0, ratio)
    if size.life:
        yield from _life_targets(servers, size.servers, size.life)


def _life_targets(servers: str, count: int, life: Life) -> Iterable[Target]:
    yield Target(f"{servers}: status writes of any one server", _MOST_STATUS_WRITES, life.cost.status_writes_most)
    most = _CHILDREN + _MOST_STATUS_WRITES + 1
    yield Target(f"{servers}: writes a server (children, status, event)", most, life.cost.writes / count)
    yield Target(f"{servers}: writes at rest", 0, life.steady.writes)
    yield Target(f"{servers}: percent of a core at rest", 1, life.steady.cpu_percent)
    yield Target(f"{servers}: seconds from start to ready", 20, life.cold_start.seconds)
    yield Target(f"{servers}: writes after a start", 0, life.cold_start.writes)
    yield Target(f"{servers}: MiB after a start", 200, life.cold_start.rss_mib)
    lag = max(life.cost.lag_seconds, life.cold_start.lag_seconds)
    yield Target(f"{servers}: seconds that the event loop was late at worst", 1, lag)
    if stormy := [sample.seconds for sample in life.storms if sample.waiting]:
        yield Target(f"{servers}: seconds until one change shows in a storm (median)", 2, median(stormy))


def _finished_targets(figures: Finished) -> Iterable[Target]:
    kept = f"{figures.benchmarks} finished benchmarks of {figures.servers} servers"
    # The operator's limit is 512 MiB, and Prometheus gives up after ten seconds by default.
    yield Target(f"{kept}: MiB in all", 400, figures.rss_mib)
    yield Target(f"{kept}: seconds of a scrape", 5, figures.packed_seconds)
    yield Target(f"{kept}: seconds that the event loop was late at worst", 0.5, figures.lag_seconds)


def _outfit_targets(outfit: Outfit) -> Iterable[Target]:
    servers = f"{outfit.servers} servers, {outfit.name}"
    # The writes for a server are its children, its statuses and an Event. When pods serve, two children are written
    # again: the Service, because it then leads to the router, and the autoscaler, because it may then add replicas.
    most = outfit.children + _MOST_STATUS_WRITES + 3
    yield Target(f"{servers}: writes a server until Ready", most, outfit.cost.writes / outfit.servers)
    yield Target(f"{servers}: writes at rest", 0, outfit.steady.writes)


def _outfits(outfits: Sequence[Outfit]) -> str:
    head = ["servers", "number", "children", "writes", "most status writes", "reads", "CPU ms"]
    rest = ["reads at rest", "writes at rest", "seconds of rest", "% of a core"]
    rows = [
        [
            outfit.name,
            str(outfit.servers),
            str(outfit.children),
            _number(outfit.cost.writes / outfit.servers, 2),
            str(outfit.cost.status_writes_most),
            _number((sum(outfit.cost.requests.values()) - outfit.cost.writes) / outfit.servers, 2),
            _number(outfit.cost.cpu_seconds * 1000 / outfit.servers, 2),
            str(sum(outfit.steady.reads.values())),
            str(outfit.steady.writes),
            _number(outfit.steady.seconds, 0),
            _number(outfit.steady.cpu_percent, 2),
        ]
        for outfit in outfits
    ]
    title = "Servers by what they ask for: writes, reads and CPU a server until all are Ready, then at rest in all"
    return f"{title}\n\n{table([*head, *rest], rows)}"


def _finished(finished: Sequence[Finished]) -> str:
    head = [
        "benchmarks",
        "servers",
        "MiB",
        "MiB in all",
        "lines",
        "MiB a scrape",
        "packed",
        "s",
        "packed",
        "CPU s",
        "lag s",
    ]
    rows = [
        [
            str(figures.benchmarks),
            str(figures.servers),
            _number(figures.store_mib, 0),
            _number(figures.rss_mib, 0),
            str(figures.lines),
            _number(figures.scrape_mib, 1),
            _number(figures.packed_mib, 1),
            _number(figures.scrape_seconds, 2),
            _number(figures.packed_seconds, 2),
            _number(figures.cpu_seconds, 2),
            _number(figures.lag_seconds, 2),
        ]
        for figures in finished
    ]
    return f"Finished benchmarks that are kept, and a scrape of /metrics\n\n{table(head, rows)}"


def _convergence(sizes: Sequence[Size]) -> str:
    head = ["servers", "rounds", *(OURS, LIMIT, PLAIN), "operator / limit", "operator / plain"]
    rows = [
        [
            str(size.servers),
            str(len(size.rounds)),
            *(_time(size, name) for name in (OURS, LIMIT, PLAIN)),
            _number(size.ratio(LIMIT), 2),
            _number(size.ratio(PLAIN), 2),
        ]
        for size in sizes
    ]
    title = "Seconds from the first creation to the last child and the last status (medians of interleaved rounds)"
    return f"{title}\n\n{table(head, rows)}\n\n{_processor(sizes)}"


def _beside(sizes: Sequence[Size]) -> str:
    head = ["servers", "rounds", OURS, PLAIN, "operator / plain", "operator CPU s", "plain CPU s"]
    rows = []
    for size in sizes:
        for_each = [[contest[name] for contest in size.beside] for name in (OURS, PLAIN)]
        if size.beside:
            times = [Size(size.servers, size.beside).seconds(name) for name in (OURS, PLAIN)]
            cpu = [_number(median(run.own_cpu for run in runs), 1) for runs in for_each]
            ratio = _number(size.ratio_beside(PLAIN), 2)
            rows.append([str(size.servers), str(len(size.beside)), *(_number(time, 1) for time in times), ratio, *cpu])
    title = (
        "Seconds until the last Deployment and Service exist, beside Kubernetes' own controllers and simulated nodes"
    )
    return f"{title}\n\n{table(head, rows)}"


def _processor(sizes: Sequence[Size]) -> str:
    head = ["servers", *(f"{name}{what}" for name in (OURS, LIMIT, PLAIN) for what in ("", ", API server"))]
    rows = [[str(size.servers), *_processor_cells(size)] for size in sizes]
    return f"Processor milliseconds a server meanwhile, of each and of the API server with etcd\n\n{table(head, rows)}"


def _processor_cells(size: Size) -> Iterable[str]:
    for name in (OURS, LIMIT, PLAIN):
        runs = [contest[name] for contest in size.rounds if name in contest and contest[name].done]
        yield _number(median(run.own_cpu * 1000 / run.done for run in runs), 2) if runs else _NONE
        yield _number(median(run.server_cpu * 1000 / run.done for run in runs), 2) if runs else _NONE


def _time(size: Size, name: str) -> str:
    seconds = size.seconds(name)
    if seconds is not None:
        return _number(seconds, 2)
    given_up = [contest[name] for contest in size.rounds if name in contest]
    return f"given up with {min(run.done for run in given_up)} done" if given_up else _NONE


def _costs(lived: Sequence[tuple[int, Life]]) -> str:
    head = ["servers", "reads", "writes", "most status writes", "CPU ms", "RSS MiB", "peak MiB", "lag s"]
    rows = [
        [
            str(servers),
            _number((sum(life.cost.requests.values()) - life.cost.writes) / servers, 2),
            _number(life.cost.writes / servers, 2),
            str(life.cost.status_writes_most),
            _number(life.cost.cpu_seconds * 1000 / servers, 2),
            _number(life.cost.rss_mib, 0),
            _number(life.cost.peak_mib, 0),
            _number(life.cost.lag_seconds, 2),
        ]
        for servers, life in lived
    ]
    title = "The operator's cost from nothing until all are Ready; reads, writes and CPU a server"
    kinds = [
        f"  {servers}: " + ", ".join(f"{kind} {count / servers:.2f}" for kind, count in life.cost.requests.items())
        for servers, life in lived
    ]
    return "\n".join([title, "", table(head, rows), "", "Its requests a server, by kind", "", *kinds])


def _rest(lived: Sequence[tuple[int, Life]]) -> str:
    head = ["servers", "seconds", "reads", "writes", "% of a core"]
    rows = [
        [
            str(servers),
            _number(life.steady.seconds, 0),
            str(sum(life.steady.reads.values())),
            str(life.steady.writes),
            _number(life.steady.cpu_percent, 2),
        ]
        for servers, life in lived
    ]
    return f"At rest: all servers Ready, nothing happens\n\n{table(head, rows)}"


def _starts(lived: Sequence[tuple[int, Life]]) -> str:
    head = ["servers", "ready after s", "writes", "CPU s until idle", "RSS MiB", "peak MiB", "lag s"]
    rows = [
        [
            str(servers),
            _number(life.cold_start.seconds, 2),
            str(life.cold_start.writes),
            _number(life.cold_start.cpu_seconds, 2),
            _number(life.cold_start.rss_mib, 0),
            _number(life.cold_start.peak_mib, 0),
            _number(life.cold_start.lag_seconds, 2),
        ]
        for servers, life in lived
    ]
    return f"A start over Ready servers\n\n{table(head, rows)}"


def _answers(lived: Sequence[tuple[int, Life]]) -> str:
    head = ["servers", "repair ms", "repair ms, worst", "in a storm s", "in a storm s, worst", "storm still running"]
    rows = [[str(servers), *_answer_cells(life)] for servers, life in lived]
    title = "How soon a broken child is right again, and one person's change shows while many servers change (medians)"
    return f"{title}\n\n{table(head, rows)}"


def _answer_cells(life: Life) -> list[str]:
    stormy = [sample.seconds for sample in life.storms if sample.waiting]
    return [
        _number(median(life.repairs) * 1000, 0) if life.repairs else _NONE,
        _number(max(life.repairs) * 1000, 0) if life.repairs else _NONE,
        _number(median(stormy), 2) if stormy else _NONE,
        _number(max(stormy), 2) if stormy else _NONE,
        f"{len(stormy)} of {len(life.storms)}",
    ]


def _targets(found: Sequence[Target]) -> str:
    rows = [
        [target.text, _number(target.limit, 2), _number(target.measured, 2), "yes" if target.is_met else "NO"]
        for target in found
    ]
    return f"Targets\n\n{table(['what', 'at most', 'measured', 'met'], rows)}"


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns under their headings, as Markdown that is also readable as text."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    right = [cell.strip().rjust(len(cell)) for cell in others]
    return f"| {' | '.join([first, *right])} |"
