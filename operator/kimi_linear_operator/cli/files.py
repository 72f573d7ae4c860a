"""Which files -f means: as for kubectl, a file, a list, a pattern, a folder, or - for standard input."""

import glob
import sys
from collections.abc import Iterator
from pathlib import Path

from kimi_linear_operator.cli.failure import CommandError

STANDARD_INPUT = "standard input"

_EXTENSIONS = (".json", ".yaml", ".yml")
"""Of a folder, kubectl reads files with these names only."""


def find(given: str, *, recursive: bool) -> list[str]:
    """Return the files that one -f means, in the order in which they are read.

    Args:
        given: What stands after -f.
        recursive: Whether folders within a folder are read, too.

    Raises:
        CommandError: It means no file.
    """
    if given == "-":
        return [STANDARD_INPUT]
    if given.startswith(("http://", "https://")):
        raise CommandError(f"{given}: addresses are not read; use `curl -fsSL {given} | kimi-linear ... -f -`")
    if Path(given).exists():
        return list(_files_of(Path(given), recursive))
    if "," in given:
        return [file for part in given.split(",") for file in find(part, recursive=recursive)]
    matches = sorted(glob.glob(given))  # noqa: PTH207 - Path.glob takes no absolute pattern
    return [file for match in matches for file in _files_of(Path(match), recursive)] or [given]


def text(file: str) -> str:
    """Return what is in a file.

    Raises:
        OSError, ValueError: It cannot be read, or is no text.
    """
    return sys.stdin.read() if file == STANDARD_INPUT else Path(file).read_text(encoding="utf-8-sig")


def _files_of(path: Path, recursive: bool) -> Iterator[str]:
    if not path.is_dir():
        yield str(path)
        return
    found = path.rglob("*") if recursive else path.iterdir()
    files = sorted(str(file) for file in found if file.suffix in _EXTENSIONS and file.is_file())
    if not files:
        deeper = "" if recursive else " (-R looks into its folders, too)"
        raise CommandError(f"{path}: no file ends in {', '.join(_EXTENSIONS)}{deeper}")
    yield from files
