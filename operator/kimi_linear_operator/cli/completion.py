"""`kimi-linear completion`: completes verbs, options and names of resources in a shell, and for kubectl."""

import argparse
import asyncio
import io
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NoReturn

import argcomplete
from argcomplete.lexers import split_line
from argcomplete.shell_integration import shellcode

from kimi_linear_operator.cli import context
from kimi_linear_operator.cli.failure import CommandError
from kimi_linear_operator.cli.state import words_of
from kimi_linear_operator.cluster.client import connect
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.resource_types import TYPES
from kimi_linear_operator.server.spec import SERVER

SHELLS = ("bash", "zsh", "fish")
# In seconds. A user who completes a word does not want to wait longer.
_NAME_SECONDS = 3.0
# Tells kubectl to add no file names: ShellCompDirectiveNoFileComp of https://pkg.go.dev/github.com/spf13/cobra.
_NO_FILES = ":4"

Completer = Callable[..., Iterable[str]]
"""argcomplete calls this with the beginning of a word and the options so far. It returns words."""


class _AnsweredError(Exception):
    """argcomplete has written its answer and wants to end the process."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")


def run(options: argparse.Namespace) -> int:
    """Print the script for a shell."""
    print(shellcode(["kimi-linear"], shell=options.shell))
    return 0


def complete_with(action: argparse.Action, completer: Completer) -> None:
    """Let a function complete the words of an argument."""
    action.completer = completer  # type: ignore[attr-defined] # argcomplete looks for it there


def words_asked_for() -> list[str]:
    """Return the words of the command line that a shell asks about, without the command itself and the last word."""
    _, _, _, words, _ = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))
    return list(words[1:])


def answer_shell(parser: argparse.ArgumentParser) -> None:
    """Print the words that a shell asks for, and end the process."""
    argcomplete.autocomplete(parser)


def answer_for_kubectl(parser: argparse.ArgumentParser, words: Sequence[str]) -> Sequence[str]:
    """Return the lines that kubectl expects: the words that fit, and whether file names fit, too.

    Args:
        parser: The parser of the command.
        words: The words after `kubectl kimi-linear`. The last one is the word to complete, and may be empty.
    """
    *before, last = words or [""]
    line = " ".join(["kimi-linear", *map(shlex.quote, before), last])
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    os.environ.update(asked)
    output = io.StringIO()
    with suppress(_AnsweredError):
        argcomplete.autocomplete(parser, exit_method=_end, output_stream=output, append_space=False)
    return [*filter(None, output.getvalue().split("\n")), _NO_FILES]


def _end(_: int) -> NoReturn:
    raise _AnsweredError


def resource_names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Return the names of resources with this prefix, with their types if the prefix contains a slash.

    Empty if they cannot be read.
    """
    word, slash, beginning = prefix.rpartition("/")
    kinds = [each.kind for each in TYPES.values() if not slash or word.lower() in words_of(each)]
    return [f"{word}{slash}{name}" for name in _names(parsed_args, kinds) if name.startswith(beginning)]


def server_names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Return the names of servers with this prefix; none if they cannot be read."""
    return [name for name in _names(parsed_args, [SERVER]) if name.startswith(prefix)]


def _names(options: argparse.Namespace, kinds: Iterable[Kind]) -> list[str]:
    try:
        namespace = context.namespace(options)
        return asyncio.run(_listed(namespace, kinds))
    except (ApiError, CommandError, OSError, TimeoutError):
        return []


async def _listed(namespace: str, kinds: Iterable[Kind]) -> list[str]:
    async with asyncio.timeout(_NAME_SECONDS), connect() as cluster:
        found = [await cluster.summarize(kind, namespace, "", list[str](), _with_names) for kind in kinds]
    return sorted({name for names in found for name in names})


def _with_names(names: list[str], manifests: Sequence[Manifest]) -> list[str]:
    return [*names, *(manifest["metadata"]["name"] for manifest in manifests)]
