"""How commands end that have no answer."""

INTERRUPTED = 130
"""The exit code that a shell reports for a process that SIGINT (Ctrl-C) ended."""


class CommandError(Exception):
    """Ends a command with exit code 2, for example because a file can't be read or a cluster can't be reached."""
