"""The error of commands."""


class CommandError(Exception):
    """Ends a command with exit code 2, for example because a file can't be read or a cluster can't be reached."""
