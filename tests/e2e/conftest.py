"""A real node for the tests here, where the machine can have one."""

import os

import pytest

from binaries import CONTROL_PLANE, REAL_NODE, missing
from machine import missing_packages, obstacle


@pytest.fixture(scope="session")
def real_node_possible() -> None:
    """Skip with the reason if this machine cannot have a real node; in CI, one that can must."""
    if reason := obstacle():
        pytest.skip(reason)
    lacking = [*missing_packages(), *(program.name for program in missing((*CONTROL_PLANE, *REAL_NODE)))]
    if lacking and not os.environ.get("CI"):
        pytest.skip(f"not there yet: {', '.join(lacking)} (make e2e brings them)")
