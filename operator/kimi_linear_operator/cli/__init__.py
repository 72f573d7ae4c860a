"""The `kimi-linear` command. Each verb has a module.

Exit codes: 0 for yes, 1 for no (invalid, different, not ready), 2 if the command failed.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

import kimi_linear_operator
from kimi_linear_operator.cli.failure import CommandError
from kimi_linear_operator.foreigntext import cleaned

VERBS = {
    "command": "print the recipe's command that starts a server by hand",
    "validate": "check resources, without a cluster",
    "render": "print the objects that the operator would create, without a cluster",
    "diff": "show what applying resources would change in the cluster",
    "page": "print the configurator: a page to choose a server and its benchmark",
    "crd": "print the CustomResourceDefinitions and the warning policy",
    "status": "show the state of a server, and why it is not ready",
    "report": "show the results of a benchmark, or compare two",
    "run": "run the operator",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. The arguments default to those of the process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(words).parse_args(words)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except CommandError as error:
        print(f"kimi-linear {options.verb}: {cleaned(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, for example `head`, has closed the pipe. Without this, Python's flush at exit would fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser. It imports only the chosen verb, because most verbs do not need kopf or the client."""
    parser = argparse.ArgumentParser(prog="kimi-linear", description=kimi_linear_operator.__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {kimi_linear_operator.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    chosen = next((word for word in words if not word.startswith("-")), None)
    for verb, text in VERBS.items():
        subparser = verbs.add_parser(verb, help=text, description=text[0].upper() + text[1:] + ".")
        if verb == chosen:
            module = importlib.import_module(f"kimi_linear_operator.cli.{verb}")
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser
