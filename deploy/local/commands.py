"""Runs programs for the local cluster. Errors say what to do."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class LocalClusterError(Exception):
    """An expected failure. The message says what failed and what to do."""


def say(text: str, end: str = "\n") -> None:
    """Print a message to stderr, because stdout is for the output of `env`."""
    print(text, end=end, file=sys.stderr, flush=True)


def exit_code(work: Callable[[], object]) -> int:
    """Run an action, print its expected failure, if any, and return the exit code for the program."""
    try:
        work()
    except (LocalClusterError, OSError) as error:
        say(str(error))
        return 1
    return 0


def last_lines(text: str, count: int = 8) -> str:
    """The end of a program's output, which usually contains the cause of a failure."""
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-count:])


def run(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, stdin: str = "", timeout: float = 60
) -> str:
    """The output of a program that must succeed."""
    words = [str(word) for word in command]
    shown = f"{Path(words[0]).name} {' '.join(words[1:6])}"
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, env=env, timeout=timeout)
    except FileNotFoundError as error:
        raise LocalClusterError(f"The program {words[0]} does not exist.") from error
    except subprocess.TimeoutExpired as error:
        raise LocalClusterError(f"No answer within {timeout:.0f} s: {shown}") from error
    if done.returncode:
        raise LocalClusterError(f"Failed: {shown}\n{last_lines(done.stderr or done.stdout)}")
    return done.stdout


def succeeds(command: Sequence[str | Path]) -> bool:
    """Whether a program exists, ends in time and returns 0."""
    try:
        run(command)
    except LocalClusterError:
        return False
    return True


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a program that leads its own process group, and the rest of the group."""
    for number, seconds in ((signal.SIGINT, 5), (signal.SIGKILL, 60)):
        if process.poll() is None:
            os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=seconds)
