"""Compares the processor time of a piece of work with that of a reference, so that it depends little on the machine."""

import copy
import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# With these numbers, the reference takes about 15 ms on a core of a current server.
_CONTAINERS = 8
_FIELDS = 20
_ROUNDS = 25


def _object() -> dict[str, Any]:
    """Return an object of 10 kB that resembles a Deployment."""
    variables = [{"name": f"VARIABLE_{number}", "value": "x" * number} for number in range(_FIELDS)]
    arguments = [f"--flag-{number}={number}" for number in range(_FIELDS)]
    containers = [
        {"name": f"container-{number}", "image": f"registry.example.com/image-{number}:1"}
        | {"env": variables, "args": arguments}
        for number in range(_CONTAINERS)
    ]
    labels = {f"label-{number}": "x" for number in range(2 * _FIELDS)}
    return {"metadata": {"labels": labels}, "spec": {"containers": containers}}


_TEXT = json.dumps(_object())


def _work_for_reference() -> None:
    """Decode, copy, sort and encode, as passes do."""
    for _ in range(_ROUNDS):
        decoded = copy.deepcopy(json.loads(_TEXT))
        for container in decoded["spec"]["containers"]:
            container["env"].sort(key=lambda item: item["value"] + item["name"], reverse=True)
        json.dumps(decoded, sort_keys=True)


@dataclass
class Measured:
    """A piece of work that was measured.

    Attributes:
        cost: Its processor time as a multiple of the time of the reference.
    """

    cost: float = 0.0


@contextmanager
def measured() -> Iterator[Measured]:
    """Measure the block between two runs of the reference. The result is known after the block."""
    found = Measured()
    with _without_older_objects():
        before = _reference_seconds()
        begin = time.thread_time()
        yield found
        seconds = time.thread_time() - begin
        found.cost = 2 * seconds / (before + _reference_seconds())


def cost(work: Callable[[], object], tries: int = 1) -> float:
    """Return the processor time of a piece of work as a multiple of the time of the reference.

    Args:
        work: What to measure.
        tries: How often to do the work, if each repetition costs as much as the first one. The smallest cost counts.
    """
    return min(_cost(work) for _ in range(tries))


def _cost(work: Callable[[], object]) -> float:
    with measured() as found:
        work()
    return found.cost


def _reference_seconds() -> float:
    begin = time.thread_time()
    _work_for_reference()
    return time.thread_time() - begin


@contextmanager
def _without_older_objects() -> Iterator[None]:
    """Let the garbage collector ignore all objects that exist now. The objects and garbage of other tests cost nothing.

    A collection before the measurement would need a quarter of a second after thousands of tests.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
