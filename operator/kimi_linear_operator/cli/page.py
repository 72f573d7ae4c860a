"""`kimi-linear page`: the configurator, one HTML page that works without a server and without a network."""

import argparse
from pathlib import Path

from kimi_linear_operator import configurator
from kimi_linear_operator.cli.failure import of_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--write", metavar="FILE", type=Path, help="write the page to this file instead of printing it")


def run(options: argparse.Namespace) -> int:
    """Print or write the page."""
    text = configurator.page()
    if options.write is None:
        print(text, end="")
        return 0
    try:
        options.write.write_text(text, encoding="utf-8")
    except OSError as error:
        raise of_file(f"--write {options.write}", error) from error
    return 0
