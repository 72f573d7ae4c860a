"""SGLang's own benchmark clients, without its server and torch: a virtual environment in the user's cache.

`sglang_client.py` makes it, once for all checkouts.
"""

import sys
from pathlib import Path

from commands import exit_code
from virtual_environment import VirtualEnvironment

REQUIREMENTS = Path(__file__).parents[2] / "requirements/sglang-client.txt"


def environment() -> VirtualEnvironment:
    """Return the environment, which may have to be made: 500 MB, in a minute."""
    return VirtualEnvironment("sglang-client", "SGLang's benchmark clients", REQUIREMENTS)


def package() -> Path:
    """Return the folder of the package sglang."""
    return environment().packages / "sglang"


if __name__ == "__main__":
    sys.exit(exit_code(environment().ensure_made))
