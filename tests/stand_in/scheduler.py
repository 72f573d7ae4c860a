"""A process that does nothing, in place of SGLang's scheduler. Tests kill or stop it like SGLang's scheduler."""

import os
import signal
import time
from pathlib import Path

# Linux shows only fifteen letters of the name.
NAME = "sglang::scheduler"
_LOOKS_FOR_ITS_PARENT_SECONDS = 0.2
_DYING_SECONDS = 0.001


class Scheduler:
    """The process. It ends together with the process that starts it."""

    def __init__(self) -> None:
        parent = os.getpid()
        self.number = os.fork()
        if not self.number:
            _live_with(parent)

    @property
    def is_running(self) -> bool:
        """Whether it is neither dead nor stopped."""
        text = Path(f"/proc/{self.number}/stat").read_text()
        return text.rpartition(")")[2].split()[0] in {"R", "S", "D"}

    def kill(self) -> None:
        """Kill it, as if a GPU failed. Return when it is dead."""
        os.kill(self.number, signal.SIGKILL)
        while self.is_running:
            time.sleep(_DYING_SECONDS)


def _live_with(parent: int) -> None:
    Path("/proc/self/comm").write_text(NAME)
    while os.getppid() == parent:
        time.sleep(_LOOKS_FOR_ITS_PARENT_SECONDS)
    os._exit(0)
