"""`kimi-linear run`: the operator."""

import argparse
import asyncio
import logging
import sys

import uvloop

from kimi_linear_operator.cli.failure import CommandError
from kimi_linear_operator.cluster import ApiError
from kimi_linear_operator.handlers import serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "-n", "--namespace", action="append", default=[], help="watch only this namespace; may be given several times"
    )


def run(options: argparse.Namespace) -> int:
    """Run the operator until it is told to stop."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    # kopf tells at length what it does to every object; what goes wrong is enough.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # It warns that signals are ignored in a thread; they are ours to handle.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    # The API server takes objects nested 10,000 levels deep. Most Python versions can read them with this limit.
    sys.setrecursionlimit(25_000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(options.namespace))
        except ApiError as error:
            raise CommandError(str(error)) from error
    return 0
