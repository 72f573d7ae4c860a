"""A virtual environment in the user's cache with SGLang's own benchmark clients, without its server and torch.

`sglang_client.py` creates it once for all checkouts.
"""

import sys
from pathlib import Path

from commands import exit_code
from virtual_environment import VirtualEnvironment

REQUIREMENTS = Path(__file__).parents[2] / "requirements/sglang-client.txt"


def environment() -> VirtualEnvironment:
    """Return the environment. If it does not exist, create it: 500 MB, in a minute."""
    return VirtualEnvironment("sglang-client", "SGLang's benchmark clients", REQUIREMENTS)


def package() -> Path:
    """Return the folder of the package sglang."""
    return environment().packages / "sglang"


if __name__ == "__main__":
    sys.exit(exit_code(environment().ensure_made))
