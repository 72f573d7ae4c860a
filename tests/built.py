"""What tests need to be built or installed before: in CI it has to be there."""

import os
from collections.abc import Sequence

import pytest

from binaries import Program, missing


def skip_unless_built(programs: Sequence[Program], packages: Sequence[str] = ()) -> None:
    """Skip with the names of what is not there, and with the command that brings it; in CI go on, and fail."""
    lacking = [*packages, *(program.name for program in missing(programs))]
    if lacking and not os.environ.get("CI"):
        pytest.skip(f"not there yet: {', '.join(lacking)} (make test brings them)")
