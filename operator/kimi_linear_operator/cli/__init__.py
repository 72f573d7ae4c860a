"""The `kimi-linear` command. Each verb has a module.

Exit codes: 0 if the answer is yes; 1 if it is no (invalid, different, not ready); 2 if the command failed.
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
    "page": "print the configurator, a page on which you configure a server and its benchmark",
    "crd": "print the CustomResourceDefinitions and the warning policy",
    "status": "show the state of a resource, why it is not ready and what to do; with -w, follow it",
    "report": "show the results of a benchmark, or compare two",
    "verify": "ask a server questions now, and say whether its answers are right",
    "completion": "print a script that completes the command's words in a shell",
    "run": "run the operator",
}


def main(arguments: Sequence[str] | None = None, prog: str = "kimi-linear") -> int:
    """Run the command and return its exit code.

    Args:
        arguments: The words after the command; those of the process by default.
        prog: What the user calls the command.
    """
    if "_ARGCOMPLETE" in os.environ:
        _answer_shell()
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(words, prog).parse_args(words)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except CommandError as error:
        print(f"{prog} {options.verb}: {cleaned(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, for example `head`, has closed the pipe. Without this line, Python's flush at exit would fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def plugin() -> int:
    """Run the command as a plugin of kubectl. kubectl finds the plugin by the name `kubectl-kimi_linear`."""
    return main(prog="kubectl kimi-linear")


def complete_plugin() -> int:
    """Print the words that complete the plugin's command line. kubectl runs this as `kubectl_complete-kimi_linear`."""
    completion = importlib.import_module("kimi_linear_operator.cli.completion")
    words = sys.argv[1:]
    print("\n".join(completion.answer_for_kubectl(_parser(words[:-1], "kimi-linear"), words)))
    return 0


def _answer_shell() -> None:
    """Print the words that a shell asks for, and end the process."""
    completion = importlib.import_module("kimi_linear_operator.cli.completion")
    completion.answer_shell(_parser(completion.words_asked_for(), "kimi-linear"))


def _parser(words: Sequence[str], prog: str) -> argparse.ArgumentParser:
    """Return the parser.

    It imports only the chosen verb, because most verbs need neither kopf nor the client library.
    """
    parser = argparse.ArgumentParser(prog=prog, description=kimi_linear_operator.__doc__)
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
