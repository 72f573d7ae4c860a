"""`kimi-linear crd`: the CustomResourceDefinitions, the admission policies, and JSON schemas for other tools."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from kimi_linear_operator.cli.failure import of_file
from kimi_linear_operator.kubernetes import crd
from kimi_linear_operator.resource_types import DEFINITIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "--write",
        metavar="FOLDER",
        type=Path,
        help="write each object and the JSON schemas to files in this folder, instead of printing the objects",
    )


def run(options: argparse.Namespace) -> int:
    """Print or write the files."""
    files = crd.files(DEFINITIONS)
    if options.write is None:
        print("---\n".join(files.values()), end="")
        return 0
    schemas = {f"schemas/{path}": text for path, text in crd.schema_files(DEFINITIONS).items()}
    try:
        _write(options.write, {**files, **schemas})
    except OSError as error:
        raise of_file(f"--write {options.write}", error) from error
    return 0


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
