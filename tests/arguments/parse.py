"""A program that runs modules of SGLang until they have parsed their command line.

Standard input is a JSON list of command lines, each [module, argument ...]. The answer on standard output is a list of
{"arguments": {name: value}} or {"error": text}. With the argument `spellings`, the answer has every spelling of an
option that the first module's parser takes (also abbreviations), and the name that the spelling stands for.
"""

import argparse
import contextlib
import io
import json
import runpy
import sys
import warnings
from typing import Any

from arguments import stubs


class _ParsedError(BaseException):
    """Ends a module when its arguments are known. It is not an Exception, so no handler catches it."""

    def __init__(self, parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
        self.parser = parser
        self.arguments = arguments


def _stop_after_parsing() -> None:
    """Make every parser end the program with its result."""
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        raise _ParsedError(parser, parse_args(parser, args, namespace))

    argparse.ArgumentParser.parse_args = parse_and_stop  # type: ignore[method-assign, assignment]


def parse(module: str, arguments: list[str]) -> dict[str, Any]:
    """Run a module like `python -m`, until it has parsed its arguments."""
    said = io.StringIO()
    given, sys.argv = sys.argv, [module, *arguments]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except _ParsedError as parsed:
        return {"arguments": vars(parsed.arguments), "parser": parsed.parser}
    except SystemExit as error:
        return {"error": f"{said.getvalue()[-2000:]} (exit code {error.code})"}
    finally:
        sys.argv = given
    return {"error": "it did not parse its arguments"}


def spellings(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return every option and every unambiguous abbreviation, with the name of the setting."""
    found = {}
    for option in parser._option_string_actions:
        for length in range(len("--x"), len(option) + 1):
            written = option[:length]
            exact = parser._option_string_actions.get(written)
            actions = [exact] if exact else [match[0] for match in parser._get_option_tuples(written)]
            if len(actions) == 1:
                found[written] = actions[0].dest
    return found


def main() -> None:
    """Answer for all command lines."""
    warnings.simplefilter("ignore")
    stubs.install()
    _stop_after_parsing()
    answers = [parse(module, arguments) for module, *arguments in json.load(sys.stdin)]
    parsers = [answer.pop("parser", None) for answer in answers]
    json.dump(spellings(parsers[0]) if "spellings" in sys.argv else answers, sys.stdout, default=repr)


if __name__ == "__main__":
    main()
