"""`make bench` measures the operator's speed and cost, beside the API server's own limit and a plain operator."""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import kimi_linear_operator
from benchmarks import report
from benchmarks.converge import measure_beside_controllers, measure_convergence
from benchmarks.figures import LIMIT, OURS, PLAIN, Finished, Life, Outfit, Results, Round, Size
from benchmarks.finished import measure_finished
from benchmarks.life import Plan, measure_life
from benchmarks.outfits import measure_outfits
from benchmarks.waiting import BenchmarkError
from binaries import KUBERNETES, kubernetes_version
from commands import LocalClusterError, say

_ROOT = Path(__file__).parents[2]
_SIZES = [200, 1000, 5000]
# With more servers, one round is precise enough, and three rounds take too long.
_LARGEST_REPEATED = 1000
# With more servers, Kubernetes' controllers would need minutes.
_LARGEST_BESIDE = 200
_FINISHED_SERVERS = 5000
_INTERRUPTED = 130


def measure(options: argparse.Namespace) -> Iterator[Size]:
    """Measure one size after the other, and print the progress."""
    plan = _plan(options)
    for servers in options.sizes:
        count = options.rounds if servers <= _LARGEST_REPEATED else min(options.rounds, 1)
        rounds = [_contest(servers, number, options) for number in range(count)]
        repeats = count if servers <= _LARGEST_BESIDE else 0
        beside = [_contest_beside(servers, number, options) for number in range(repeats)]
        yield Size(servers, rounds, None if options.no_life else _life(servers, plan), beside)


def _life(servers: int, plan: Plan) -> Life:
    say(f"{servers} servers: the operator over their life ...")
    return measure_life(servers, plan)


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(options.patience, options.steady_seconds, options.repairs, options.storms)


def _contest(servers: int, number: int, options: argparse.Namespace) -> Round:
    """Run all contenders one after the other. Each round begins with another contender."""
    order = [OURS, LIMIT, PLAIN]
    turn = number % len(order)
    contest = {}
    for name in order[turn:] + order[:turn]:
        patience = options.plain_seconds if name == PLAIN else options.patience
        contest[name] = measure_convergence(name, servers, patience)
        seconds = contest[name].seconds
        result = "given up" if seconds is None else f"{seconds:.2f} s"
        say(f"{servers} servers, round {number + 1}: {name}: {result}")
    return contest


def _contest_beside(servers: int, number: int, options: argparse.Namespace) -> Round:
    """Measure the operator and plain kopf while Kubernetes' own controllers run, too."""
    contest = {}
    for name in [OURS, PLAIN] if number % 2 == 0 else [PLAIN, OURS]:
        contest[name] = measure_beside_controllers(name, servers, options.plain_seconds)
        seconds = contest[name].seconds
        result = "given up" if seconds is None else f"{seconds:.2f} s"
        say(f"{servers} servers beside Kubernetes' controllers, round {number + 1}: {name}: {result}")
    return contest


def describe_machine() -> dict[str, Any]:
    """Return the facts about the machine and versions with which a reader can compare figures."""
    return {
        "operator": kimi_linear_operator.__version__,
        "Python": platform.python_version(),
        "kopf": version("kopf"),
        "Kubernetes": kubernetes_version(KUBERNETES.go_mod),
        "CPUs": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 2),
    }


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=_SIZES, help="how many servers (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often to compare (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=_ROOT / "build" / "bench.json", help="where the JSON goes")
    parser.add_argument("--patience", type=float, default=600, help="seconds until something is given up")
    parser.add_argument("--plain-seconds", type=float, default=300, help="the same for plain kopf")
    parser.add_argument("--steady-seconds", type=float, default=600, help="how long to look at an operator at rest")
    parser.add_argument("--repairs", type=int, default=20, help="how often to break something")
    parser.add_argument("--storms", type=int, default=5, help="how many storms, with two changes of a person in each")
    parser.add_argument("--no-life", action="store_true", help="only compare times to converge")
    parser.add_argument("--outfits", type=int, default=200, help="servers with everything on, 0 for none")
    parser.add_argument("--finished", type=int, default=10_000, help="finished benchmarks that are kept, 0 for none")
    return parser.parse_args(arguments)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Measure, print the tables, and write the JSON."""
    signal.signal(signal.SIGTERM, _interrupt)
    options = _options(arguments)
    machine, sizes = describe_machine(), []
    finished: list[Finished] = []
    outfits: list[Outfit] = []
    code = 0
    try:
        if options.finished:
            say(f"{options.finished} finished benchmarks of {_FINISHED_SERVERS} servers ...")
            finished.append(measure_finished(_FINISHED_SERVERS, options.finished))
        if options.outfits:
            say(f"{options.outfits} servers, plain ones and then with everything on ...")
            outfits.extend(measure_outfits(options.outfits, _plan(options)))
        for size in measure(options):
            sizes.append(size)  # noqa: PERF402 - what was measured before something failed is told too
    except (BenchmarkError, LocalClusterError) as error:
        say(str(error))
        code = 1
    except KeyboardInterrupt:
        code = _INTERRUPTED
    finally:
        if sizes or finished or outfits:
            _tell(Results(machine, sizes, finished, outfits), options.output)
    return code


def _tell(results: Results, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report.document(results), indent=2) + "\n")
    print(report.text(results))
    say(f"Written: {output}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
