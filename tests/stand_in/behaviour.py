"""The stand-in's delays and faults, from the environment."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

_PREFIX = "STAND_IN_"


@dataclass(frozen=True)
class Behaviour:
    """Each field is an environment variable: `fail_every` is STAND_IN_FAIL_EVERY."""

    load_seconds: float = 2.0
    """Before the port is opened."""
    warm_up_seconds: float = 1.0
    """From then on, before it is healthy."""
    seconds_per_token: float = 0.001
    tokens_per_event: int = 10
    """Of a stream; SGLang sends one event a token unless told otherwise."""
    accuracy: float = 0.705
    """The share of questions 0 to 199 of `data.py` that it answers rightly: 141 of 200, as in the recipe."""
    mangle_every: int = 0
    """One of this many tool calls has arguments that end in the middle, as a broken parser gives; 0 none."""
    fail_every: int = 0
    """One of this many requests fails with HTTP 500; 1 fails all, 0 none."""
    fail_after: int = 0
    """The number of requests that are answered before one fails."""
    die_after: int = 0
    """After this many answers, the process kills itself in the middle of the next request; 0 is never."""

    hang_after: int = 0
    """After this many answers, the engine is dead and the process lives on; 0 is never.

    As in 0.5.7 when its scheduler was killed.
    """

    def fails(self, number: int) -> bool:
        """Whether the request of that number, from 1 on, fails."""
        return bool(self.fail_every) and number > self.fail_after and (number - self.fail_after) % self.fail_every == 0

    def mangles(self, number: int) -> bool:
        """Whether the tool call of that number, from 1 on, has arguments that end in the middle."""
        return bool(self.mangle_every) and number % self.mangle_every == 0

    def hangs(self, number: int) -> bool:
        """Whether the engine is dead by the request of that number."""
        return bool(self.hang_after) and number > self.hang_after

    def dies(self, number: int) -> bool:
        """Whether the process dies in the request of that number."""
        return bool(self.die_after) and number > self.die_after


def from_environment(environment: Mapping[str, str] = os.environ) -> Behaviour:
    """Return what the environment asks for.

    Raises:
        ValueError: A variable is unknown or no number.
    """
    known = {f"{_PREFIX}{field.name.upper()}": field for field in fields(Behaviour)}
    given = {name: text for name, text in environment.items() if name.startswith(_PREFIX)}
    if unknown := given.keys() - known.keys():
        raise ValueError(f"Unknown: {', '.join(sorted(unknown))}. Choose from: {', '.join(known)}.")
    return Behaviour(**{known[name].name: json.loads(text) for name, text in given.items()})
