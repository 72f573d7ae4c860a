"""Programs and packages that tests need. In CI, they must exist."""

import os
from collections.abc import Sequence

import pytest

from binaries import Program, missing


def skip_unless_built(programs: Sequence[Program], packages: Sequence[str] = ()) -> None:
    """Skip with the missing names and the command that installs them. In CI, do not skip, so that the test fails."""
    lacking = [*packages, *(program.name for program in missing(programs))]
    if lacking and not os.environ.get("CI"):
        pytest.skip(f"not there yet: {', '.join(lacking)} (make test brings them)")
