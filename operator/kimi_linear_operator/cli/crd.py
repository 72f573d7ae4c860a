"""`kimi-linear crd`: the CustomResourceDefinitions and the admission policy."""

import argparse
from pathlib import Path

from kimi_linear_operator.kubernetes import crd
from kimi_linear_operator.resource_types import DEFINITIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "--write",
        metavar="FOLDER",
        type=Path,
        help="write each object to its own file in this folder, instead of printing it",
    )


def run(options: argparse.Namespace) -> int:
    """Print or write the files."""
    files = crd.files(DEFINITIONS)
    if options.write is None:
        print("---\n".join(files.values()), end="")
        return 0
    options.write.mkdir(exist_ok=True)
    for name, text in files.items():
        (options.write / name).write_text(text)
    return 0
