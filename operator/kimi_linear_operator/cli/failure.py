"""How commands end that have no answer."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, as a shell reports a process that SIGINT ended."""


class CommandError(Exception):
    """Ends a command with exit code 2: a file can't be read, or a cluster can't be reached."""
