"""Follows a resource until it has reached its goal.

Shows a progress bar on a terminal, otherwise a line for each change.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from kimi_linear_operator.cli.state import State
from kimi_linear_operator.cli.tree import drawn
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.foreigntext import one_line

SECONDS_BETWEEN_LOOKS = 2.0
# After half a minute without an answer, the command gives up.
_MOST_FAILURES = 15

Show = Callable[[State], None]


async def watch(look: Callable[[], Awaitable[State]], now: Callable[[], str], file: TextIO) -> State:
    """Show a resource until it does not change any more by itself; return its last state.

    Args:
        look: Reads the state.
        now: Returns the time as RFC 3339.
        file: Where to show it.

    Raises:
        ApiError: The resource could not be read at first, or later for half a minute.
    """
    console = Console(file=file, highlight=False)
    with _on_terminal(console, now) if console.is_terminal else _as_lines(file, now) as show:
        state = await look()
        show(state)
        failures = 0
        while not state.is_settled:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
            try:
                state = await look()
            except ApiError:
                failures += 1
                if failures >= _MOST_FAILURES:
                    raise
                continue
            failures = 0
            show(state)
    return state


@contextmanager
def _as_lines(file: TextIO, now: Callable[[], str]) -> Iterator[Show]:
    """Print a line for each change of the reason, the message or the progress."""
    last = ""

    def show(state: State) -> None:
        nonlocal last
        progress = state.resource_type.progress(state.status)
        step = f" [{progress.done}/{progress.total} {progress.step}]" if progress else ""
        line = one_line(f"{state.headline}{step}; {state.message}")
        if line != last:
            print(f"{now()} {line}", file=file, flush=True)
            last = line

    yield show


@contextmanager
def _on_terminal(console: Console, now: Callable[[], str]) -> Iterator[Show]:
    """Draw a progress bar, the reason and the tree, in place."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    task = bar.add_task("", total=None)
    with Live(console=console, refresh_per_second=2) as live:

        def show(state: State) -> None:
            progress = state.resource_type.progress(state.status)
            if progress:
                bar.update(task, description=one_line(progress.step), completed=progress.done, total=progress.total)
            texts = [state.headline, state.message, *([f"Next: {state.next_step}"] if state.next_step else [])]
            live.update(Group(bar, *(Text(one_line(text)) for text in texts), drawn(state.tree(now()))))

        yield show
