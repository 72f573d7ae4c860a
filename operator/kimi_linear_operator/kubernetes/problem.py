"""A problem with a resource, and its words."""

import json
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """What is wrong where, and what to do about it.

    Attributes:
        severity: An error stops the resource from being applied, a warning does not.
        path: The field, as `kubectl` names it: `spec.engine.extraArgs[0]`.
        message: What is wrong and the remedy; the recipe's own words may take two lines.
        value: What the field holds, when it is short enough to show: a string, a number or a boolean.
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
    """Join a message's lines: neither a CRD's rule nor a condition can hold a line break."""
    return ". ".join(message.splitlines())
