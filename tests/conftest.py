"""What all tests share: the switch that rewrites golden files, and how hard hypothesis tries."""

import pytest
from hypothesis import settings

# The same examples every time: a test fails because of a change, not because of the day.
settings.register_profile("repeatable", max_examples=60, deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files instead of comparing")
