"""The explanation of a reason."""

from dataclasses import dataclass
from typing import Literal

UsedBy = Literal["server", "benchmark", "weights", "both"]

NOTHING = "Nothing."
WAIT = "Wait."


@dataclass(frozen=True)
class Explanation:
    """What a reason means for the user.

    Attributes:
        used_by: The resources whose conditions use it.
        meaning: What has happened.
        remedy: What to do; NOTHING if all is well, WAIT if the problem ends by itself.
    """

    used_by: UsedBy
    meaning: str
    remedy: str
