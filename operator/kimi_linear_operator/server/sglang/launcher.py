"""Starts SGLang with an API key from a file, in the container of a server.

    python3 -c TEXT-OF-THIS-FILE KEY-FILE python3 -m sglang.launch_server --model-path ...

SGLang 0.5.7 and 0.5.23 take the key only as an argument. Every process of the pod can read a command line in /proc, so
this program adds the argument inside the process. SGLang also logs all its settings, so the key is replaced in log
records. The program uses only the standard library of Python 3.10. This file contains no single quotes and no dollar
signs, because the shell and Kubernetes would make them hard to read.
"""

import logging
import re
import runpy
import sys
from pathlib import Path
from typing import Any


def main(file: str, *command: str) -> None:
    """Run the module of a command `python3 -m MODULE ARGUMENT ...` in this process, with the key as its first argument.

    The key comes first because argparse prints unknown arguments in an error message. After `--` or an unknown
    argument, the key itself could be in this message.
    """
    key = read_key(Path(file))
    hide(key)
    module = command[2]
    sys.argv = [module, f"--api-key={key}", *command[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def read_key(file: Path) -> str:
    """Return the key in a file, without the line break that editors and `echo` add."""
    try:
        key = file.read_text().strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        sys.exit(f"Error: the API key cannot be read ({reason}): see spec.auth.apiKeySecretRef of the server")
    if not re.fullmatch("[!-~]+", key):
        sys.exit("Error: the API key is empty, or has a space or a letter beyond ASCII: correct its Secret")
    return key


def hide(key: str) -> None:
    """Replace the key, as Python quotes it, in every log record that the process makes."""
    make_record = logging.getLogRecordFactory()

    def make_hidden(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = make_record(*arguments, **options)
        if isinstance(record.msg, str):
            record.msg = record.msg.replace(repr(key), repr("[redacted]"))
        return record

    logging.setLogRecordFactory(make_hidden)


if __name__ == "__main__":
    main(*sys.argv[1:])
