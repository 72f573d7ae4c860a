"""The files of the option -f.

As with kubectl, it takes a file, a list, a pattern, a folder, or - for standard input.
"""

import glob
import sys
from collections.abc import Iterator
from pathlib import Path

from kimi_linear_operator.cli.failure import CommandError

STANDARD_INPUT = "standard input"

_EXTENSIONS = (".json", ".yaml", ".yml")
"""In a folder, kubectl reads only files with these extensions."""


def find(argument: str, *, recursive: bool) -> list[str]:
    """Return the files of one -f, in the order in which they are read.

    Args:
        argument: The argument of -f.
        recursive: Whether to read subfolders, too.

    Raises:
        CommandError: The argument is a URL, or a folder without files to read.
    """
    if argument == "-":
        return [STANDARD_INPUT]
    if argument.startswith(("http://", "https://")):
        raise CommandError(f"{argument}: URLs are not supported; use `curl -fsSL {argument} | kimi-linear ... -f -`")
    if Path(argument).exists():
        return list(_files_of(Path(argument), recursive))
    if "," in argument:
        return [file for part in argument.split(",") for file in find(part, recursive=recursive)]
    matches = sorted(glob.glob(argument))  # noqa: PTH207 - Path.glob takes no absolute pattern
    return [file for match in matches for file in _files_of(Path(match), recursive)] or [argument]


def text(file: str) -> str:
    """Return the text of a file.

    Raises:
        OSError, ValueError: The file cannot be read, or is not text.
    """
    return sys.stdin.read() if file == STANDARD_INPUT else Path(file).read_text(encoding="utf-8-sig")


def _files_of(path: Path, recursive: bool) -> Iterator[str]:
    if not path.is_dir():
        yield str(path)
        return
    entries = path.rglob("*") if recursive else path.iterdir()
    files = sorted(str(entry) for entry in entries if entry.suffix in _EXTENSIONS and entry.is_file())
    if not files:
        deeper = "" if recursive else " (-R includes its subfolders)"
        raise CommandError(f"{path}: no file ends in {', '.join(_EXTENSIONS)}{deeper}")
    yield from files
