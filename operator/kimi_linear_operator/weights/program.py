"""How to find the cause of a failure in the log of the program that fetches. It runs no inference engine."""

import re

from kimi_linear_operator.kubernetes.program import Program
from kimi_linear_operator.weights.job import CONTAINER

_NOTHING = re.compile(r"(?!)")

FETCH = Program(
    container=CONTAINER,
    check="",
    memory_remedies={},
    startup_limit="",
    startup_remedy="",
    errors=_NOTHING,
    vague_errors=_NOTHING,
    consequences=_NOTHING,
    shutdown=_NOTHING,
    noise=_NOTHING,
)
