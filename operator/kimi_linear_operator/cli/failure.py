"""How a command ends if it has no answer."""

INTERRUPTED = 130
"""The exit code that a shell reports when SIGINT (Ctrl-C) has ended a process."""


class CommandError(Exception):
    """Ends a command with exit code 2, for example because a file can't be read or a cluster can't be reached."""
