"""`kimi-linear status`: the state of a resource, why it is not ready, and what to do. It can also follow a start."""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from kimi_linear_operator.cli import completion, context
from kimi_linear_operator.cli.failure import INTERRUPTED, of_cluster
from kimi_linear_operator.cli.shell_command import cleaned_command
from kimi_linear_operator.cli.state import Address, State, address, read
from kimi_linear_operator.cli.tree import lines
from kimi_linear_operator.cli.watching import watch
from kimi_linear_operator.cluster.client import connect
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.columns import table
from kimi_linear_operator.foreigntext import cleaned
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.server.startup import SERVING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    name = parser.add_argument(
        "name",
        metavar="[TYPE/]NAME",
        help="name of a server, benchmark or weights; klb/NAME means the benchmark with this name",
    )
    completion.complete_with(name, completion.resource_names)
    context.add_namespace_argument(parser, "the resource")
    parser.add_argument(
        "-w",
        "--watch",
        action="store_true",
        help="follow the resource until it is ready (exit code 0), or until it does not change any more by itself "
        "(exit code 1)",
    )


def run(options: argparse.Namespace) -> int:
    """Print the state of a resource; return 0 if it is ready or has passed, 1 if not."""
    wanted = address(context.namespace(options), options.name)
    try:
        state = asyncio.run(_watch(wanted) if options.watch else _read(wanted))
    except ApiError as error:
        raise of_cluster(error) from error
    except KeyboardInterrupt:
        return INTERRUPTED
    if not options.watch:
        print("\n".join(_lines(state, now())))
    return 0 if state.has_reached_goal else 1


async def _read(wanted: Address) -> State:
    async with connect() as cluster:
        return await read(cluster, wanted)


async def _watch(wanted: Address) -> State:
    async with connect() as cluster:
        return await watch(lambda: read(cluster, wanted), now, sys.stdout)


def now() -> str:
    """Return the time as RFC 3339."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lines(state: State, time: str) -> Iterator[str]:
    # Somebody else may have written the status, or an older operator that did not clean messages. A line break in a
    # text must not begin another line: this line could pretend to be a next step.
    yield from (" | ".join(cleaned(line).splitlines()) for line in _facts(state, time))
    if command := state.status.get("command"):
        yield f"\nCommand:\n{cleaned_command(command)}"


def _facts(state: State, time: str) -> Iterator[str]:
    status = state.status
    yield state.headline
    # A message about several rules has several lines.
    first, *more = state.message.splitlines() or [""]
    yield f"  {first}"
    yield from (f"    {line}" for line in more)
    if not state.is_seen:
        yield "  The operator has not handled the latest change of the spec yet."
    if state.next_step and not state.has_reached_goal:
        yield f"  Next: {state.next_step}"
    yield from (f"  {line}" for line in state.shortcomings)
    yield ""
    rows = [(item["type"], item["status"], item["reason"], item["lastTransitionTime"]) for item in _conditions(status)]
    yield from table(("CONDITION", "STATUS", "REASON", "SINCE"), rows)
    yield ""
    yield from lines(state.tree(time))
    if startup := status.get("startup"):
        yield from ("", f"Start of {startup['pod']}:")
        yield from table(("PHASE", "SINCE", "TOOK"), list(_phases(startup, status.get("lastFailure", {}), time)))
    if failure := status.get("lastFailure"):
        yield from ("", f"Last failure, {failure['time']}: {failure['pod']}, container {failure['container']}")
        yield f"  exit code {failure['exitCode']} ({failure['reason']}): {failure['message']}"
    if addresses := status.get("addresses"):
        yield from ("", "Addresses outside the cluster:")
        yield from addresses
    for title, key in _TITLES:
        if key in status:
            yield from ("", f"{title}:", str(status[key]))


# Fields of the status that are shown unchanged.
_TITLES = (("URL", "url"), ("Image", "image"), ("Claim", "claim"), ("Commit", "commit"))


def _conditions(status: Manifest) -> list[Manifest]:
    return list(status.get("conditions", ()))


def _phases(startup: Manifest, failure: Manifest, time: str) -> Iterator[Sequence[str]]:
    """Yield the phases of a start: the name, the beginning and the duration of each."""
    phases = startup["phases"]
    for phase, following in pairwise(phases):
        yield phase["name"], phase["time"], _took(phase, following["time"])
    last = phases[-1]
    failed_at = failure.get("time") if failure.get("pod") == startup["pod"] else None
    if last["name"] == SERVING:
        took = ""
    elif (seconds_between(last["time"], failed_at) or -1.0) >= 0:
        took = f"{_took(last, failed_at)}, then it failed"
    else:
        took = f"{_took(last, time)} so far"
    yield last["name"], last["time"], took


def _took(phase: Manifest, end: object) -> str:
    # The clocks of the node and of the API server can differ by a second.
    return f"{max(0.0, seconds_between(phase['time'], end) or 0.0):.0f} s"
