"""The facts about a pod's program that messages about the pod need."""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """A program written in Python: how its log tells why it failed, and what helps.

    Attributes:
        container: The name of its container.
        check: The name of the init container that checks the pod for it; its termination message is the cause.
        memory_remedies: Maps each out-of-memory error to what to do about it.
        startup_limit: The field of the spec that limits how long it may take to start.
        startup_remedy: Another remedy if it does not start in time.
        errors: Errors that tell the cause, besides those of Python.
        vague_errors: Errors that do not tell the cause.
        consequences: Errors that follow from another one, and those that the program catches.
        shutdown: The line that marks the beginning of its shutdown after an error. Later lines do not have the cause.
        noise: Other lines that never tell the cause.
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
