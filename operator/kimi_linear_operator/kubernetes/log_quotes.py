"""Quotes from the logs of containers that failed. A quote is the exception, without the other lines after it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from kimi_linear_operator import foreigntext
from kimi_linear_operator.kubernetes.program import Program

LONGEST_QUOTE = 400
# The kubelet keeps at most this many lines of a log. A program can write more lines into its termination message, and
# each line takes time.
# https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/container/runtime.go
_MOST_LINES = 80

_ERRORS: Mapping[str, re.Pattern[str]] = {
    "an exception of Python": re.compile(r"^(?:[\[(][^\])]*[\])]\s*)*[\w.]*(?:Error|Exception)(?::|$)"),
    "an exception in a log line": re.compile(r"\b[A-Z]\w*(?:Error|Exception): \S"),
    "arguments that argparse refuses": re.compile(r"^\S+: error: "),
    "an abort of the process": re.compile(r"^Fatal Python error|^terminate called|^\s*what\(\): |panicked at|^panic: "),
}
# Errors without a cause.
_VAGUE_ERRORS = re.compile(
    r"\b(?:ERROR|CRITICAL|FATAL)\b|not found$|[Ee]xec format error|cannot execute|No such file or directory"
)
# Exceptions that are caused by the end of another process.
_CONSEQUENCES = re.compile("EOFError|ConnectionResetError|BrokenPipeError|CancelledError|KeyboardInterrupt|SystemExit")
_NOISE: Mapping[str, re.Pattern[str]] = {
    "multiprocessing, cleaning up": re.compile(r"resource_tracker|leaked (?:semaphore|shared_memory)|warnings\.warn"),
    "the interpreter": re.compile(r"Error while finding module specification|^Exception ignored in"),
    "a traceback": re.compile(r"Traceback \(most recent call last\)|another exception occurred|direct cause of the"),
}
_FRAME = re.compile(r'^\s+File "')
_NO_MESSAGE = re.compile(r"^[\w.]+(?:Error|Exception)$")
# Python's markers below a line of source code.
_MARKERS = re.compile(r"^[\s^~]*$")
_LOG_RECORD = re.compile(r"^\[?\d{4}-\d\d-\d\d[ T]|^(?:INFO|WARNING|DEBUG)\b")


@dataclass(frozen=True, order=True)
class _Error:
    """A line of a log that reports an error.

    Attributes:
        rank: A line with a higher rank says more about the cause.
        line: The number of the line, from 0.
    """

    rank: int
    line: int


def quoted(log: str, program: Program) -> str:
    """Return the exception in a log, or the end of the log if there is none.

    One line of at most LONGEST_QUOTE characters, without secrets.
    """
    lines = [line for line in foreigntext.cleaned(log).split("\n") if line.strip()][-_MOST_LINES:]
    passage = _passage(lines, program)
    if passage:
        return " | ".join(line.strip() for line in passage)[:LONGEST_QUOTE]
    return " | ".join(line.strip() for line in lines)[-LONGEST_QUOTE:]


def _passage(lines: Sequence[str], program: Program) -> list[str]:
    """Return the lines of the exception that ended a process, none if there is no exception."""
    shutdown = next((number for number, line in enumerate(lines) if program.shutdown.search(line)), len(lines))
    best = max(_errors(lines[:shutdown], program), default=None) or max(_errors(lines, program), default=None)
    if best is None:
        return []
    rest = list(takewhile(lambda line: not _ends_message(line, program), lines[best.line + 1 :]))
    return [lines[best.line], *rest, *([] if rest else _source_lines(lines, best.line, program))]


def _source_lines(lines: Sequence[str], first: int, program: Program) -> list[str]:
    """Return the last frame of the traceback if the exception has no message, such as a failed assertion.

    Otherwise nothing.
    """
    if not _NO_MESSAGE.search(lines[first]) or _is_consequence(lines[first], program):
        return []
    frame = next((number for number in range(first - 1, -1, -1) if _FRAME.match(lines[number])), None)
    return [] if frame is None else [line for line in lines[frame:first][:2] if not _MARKERS.match(line)]


def _errors(lines: Sequence[str], program: Program) -> Iterator[_Error]:
    """Yield the lines with an error."""
    in_traceback = False
    for number, line in enumerate(lines):
        is_indented = line.startswith((" ", "\t"))
        ends_traceback = in_traceback and not is_indented
        in_traceback = is_indented and (in_traceback or bool(_FRAME.match(line)))
        # Indented lines of a traceback are source code.
        if in_traceback or _is_noise(line, program):
            continue
        if ends_traceback or _tells_cause(line, program):
            yield _Error(1 if _is_consequence(line, program) else 3, number)
        elif _VAGUE_ERRORS.search(line) or program.vague_errors.search(line):
            yield _Error(2, number)


def _tells_cause(line: str, program: Program) -> bool:
    return any(pattern.search(line) for pattern in (*_ERRORS.values(), program.errors))


def _is_consequence(line: str, program: Program) -> bool:
    return bool(_CONSEQUENCES.search(line) or program.consequences.search(line))


def _is_noise(line: str, program: Program) -> bool:
    return any(pattern.search(line) for pattern in (*_NOISE.values(), program.shutdown, program.noise))


def _ends_message(line: str, program: Program) -> bool:
    """Return whether the message of an exception ends before this line."""
    return _is_noise(line, program) or bool(_LOG_RECORD.match(line) or _FRAME.match(line))
