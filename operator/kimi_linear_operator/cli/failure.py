"""The error that ends a command with exit code 2."""


class CommandError(Exception):
    """A question that could not be answered: a file that can't be read, a cluster that can't be reached."""
