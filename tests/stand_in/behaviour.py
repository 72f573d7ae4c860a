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
    """Seconds before the port is opened."""
    warm_up_seconds: float = 1.0
    """Seconds after that, before the server is healthy."""
    seconds_per_token: float = 0.001
    tokens_per_event: int = 10
    """Tokens per event of a stream. By default, SGLang sends one event per token."""
    accuracy: float = 0.705
    """The share of right answers to the questions 0 to 199 of `data.py`: 141 of 200, as in the recipe."""
    mangle_every: int = 0
    """One of this many tool calls has incomplete arguments, as from a broken parser; 0 for none."""
    fail_every: int = 0
    """One of this many requests fails with HTTP 500; 1 for all, 0 for none."""
    fail_after: int = 0
    """The number of answered requests before the first failure."""
    die_after: int = 0
    """After this many answers, the process kills itself in the middle of the next request; 0 for never."""

    hang_after: int = 0
    """After this many answers, the engine is dead but the process still runs; 0 for never.

    As in 0.5.7 when its scheduler was killed.
    """

    def fails(self, number: int) -> bool:
        """Whether the request with that number, counted from 1, fails."""
        return bool(self.fail_every) and number > self.fail_after and (number - self.fail_after) % self.fail_every == 0

    def mangles(self, number: int) -> bool:
        """Whether the tool call with that number, counted from 1, has incomplete arguments."""
        return bool(self.mangle_every) and number % self.mangle_every == 0

    def hangs(self, number: int) -> bool:
        """Whether the engine is dead at the request with that number."""
        return bool(self.hang_after) and number > self.hang_after

    def dies(self, number: int) -> bool:
        """Whether the process dies in the request with that number."""
        return bool(self.die_after) and number > self.die_after


def from_environment(environment: Mapping[str, str] = os.environ) -> Behaviour:
    """Return the behaviour that the environment asks for.

    Raises:
        ValueError: A variable is unknown or no number.
    """
    known = {f"{_PREFIX}{field.name.upper()}": field for field in fields(Behaviour)}
    given = {name: text for name, text in environment.items() if name.startswith(_PREFIX)}
    if unknown := given.keys() - known.keys():
        raise ValueError(f"Unknown: {', '.join(sorted(unknown))}. Choose from: {', '.join(known)}.")
    return Behaviour(**{known[name].name: json.loads(text) for name, text in given.items()})
