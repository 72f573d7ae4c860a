"""A problem with a field of a resource."""

import json
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a field, and what to do about it.

    Attributes:
        severity: A resource with an error is not applied. A warning changes nothing.
        path: The field, as `kubectl` writes it: `spec.engine.extraArgs[0]`.
        message: What is wrong, and the remedy. The recipe's own messages may have two lines.
        value: The field's value if it is a string, a number or a boolean, and short enough to show.
    """

    severity: Severity
    path: str
    message: str
    value: str | int | float | bool | None = None

    def __str__(self) -> str:
        """Return the problem on one line."""
        shown = "" if self.value is None else f"{json.dumps(self.value)}: "
        return f"{self.path}: {shown}{one_line(self.message)}"


def one_line(message: str) -> str:
    """Join the lines of a message: neither a rule of a CRD nor a condition can have a line break."""
    return ". ".join(message.splitlines())
