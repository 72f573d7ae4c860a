"""Facts about a pod's program, for messages about the pod."""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """A program written in Python. Its fields say how its log shows why it failed, and what helps.

    Attributes:
        container: The name of its container.
        check: The name of the init container that checks the pod before the program starts. If the check fails, the
            init container's termination message is the cause.
        memory_remedies: The remedy for each out-of-memory error.
        startup_limit: The field of the spec that limits the time of a start.
        startup_remedy: Another remedy if the program does not start in time.
        errors: Errors that show the cause, in addition to Python's exceptions.
        vague_errors: Errors that do not show the cause.
        consequences: Errors that another error has caused, and errors that the program catches.
        shutdown: The line at which the program begins to shut down after an error. Later lines do not contain the
            cause.
        noise: Other lines that never show the cause.
    """

    container: str
    check: str
    memory_remedies: Mapping[re.Pattern[str], str]
    startup_limit: str
    startup_remedy: str
    errors: re.Pattern[str]
    vague_errors: re.Pattern[str]
    consequences: re.Pattern[str]
    shutdown: re.Pattern[str]
    noise: re.Pattern[str]
