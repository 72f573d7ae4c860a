"""How the log of the fetching program tells why it failed. The program is plain Python, without an inference engine."""

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
