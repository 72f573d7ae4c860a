"""`kimi-linear verify`: asks a server the questions of its verification now, and says whether the answers are right."""

import argparse
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from kimi_linear_operator.benchmark import report
from kimi_linear_operator.cli import cluster_checks, completion, context, local_checks, manifests
from kimi_linear_operator.cli.checks import Outcome, read_run
from kimi_linear_operator.cli.failure import INTERRUPTED, CommandError
from kimi_linear_operator.server.spec.engine import Switch

_HOUR = 3600
_OF_CLUSTER = ("namespace",)
_OF_ADDRESS = ("api_key_file", "dataset", "python", "tool_call_parser")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    target = parser.add_argument(
        "target", metavar="TARGET", help="name of a server of the cluster, or address of any server: http://HOST:PORT"
    )
    completion.complete_with(target, completion.server_names)
    context.add_namespace_argument(parser, "the server")
    manifests.add_output_argument(parser, *report.REPORTS)
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=_HOUR,
        metavar="SECONDS",
        help="give up after this time, with exit code 2 (default: %(default)s)",
    )
    only = "only for an address: "
    parser.add_argument(
        "--tool-call-parser",
        choices=get_args(Switch),
        help=f"{only}whether the server has a tool-call parser; if enabled, tool calls are checked, too (default: "
        "disabled)",
    )
    parser.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help=f"{only}file with the server's API key; by default, the key is in ${local_checks.KEY_VARIABLE}",
    )
    parser.add_argument(
        "--dataset", type=Path, metavar="FILE", help=f"{only}GSM8K's test.jsonl; by default, the client downloads it"
    )
    parser.add_argument(
        "--python",
        metavar="PROGRAM",
        help=f"{only}a Python that can import SGLang's client; by default the Python of this command",
    )


def seconds(text: str) -> int:
    """Return a time limit, for argparse.

    Raises:
        argparse.ArgumentTypeError: The value is not a whole number above 0.
    """
    if not (text.isdecimal() and (number := int(text)) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of seconds above 0")
    return number


def run(options: argparse.Namespace) -> int:
    """Print the report; return 0 if the answers are right and 1 if they are wrong.

    Raises:
        CommandError: There is no result.
    """
    try:
        with _interrupted_by(signal.SIGTERM, signal.SIGHUP):
            outcome = _outcome(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    read = read_run(outcome.benchmark["metadata"]["name"], outcome.benchmark)
    print(report.REPORTS[options.output](read), end="", flush=True)
    if read.verdict not in ("Passed", "Failed"):
        raise CommandError(f"no result: {outcome.message}\nNext: {outcome.next_step}")
    return 0 if read.verdict == "Passed" else 1


@contextmanager
def _interrupted_by(*numbers: signal.Signals) -> Iterator[None]:
    """Let these signals do what Ctrl-C does, so that no benchmark and no client is left."""
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    # Raise this instead of sending SIGINT, because background jobs of a shell ignore SIGINT.
    raise KeyboardInterrupt


def _outcome(options: argparse.Namespace) -> Outcome:
    if "://" not in options.target:
        _refuse(options, _OF_ADDRESS, "for a server of the cluster, these settings are in its spec")
        return cluster_checks.run(context.namespace(options), options.target, options.timeout)
    _refuse(options, _OF_CLUSTER, "an address has no namespace")
    client = local_checks.client(options.python, options.dataset, options.api_key_file)
    return local_checks.run(options.target, options.tool_call_parser or "disabled", client, options.timeout)


def _refuse(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Refuse options that have no effect on this target.

    Raises:
        CommandError: Such an option is given.
    """
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) is not None]
    if given:
        raise CommandError(f"{options.target} cannot be used with {', '.join(given)}: {why}")
