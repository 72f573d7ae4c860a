"""Fixtures for several modules of benchmarks' tests."""

import pytest

from integration.namespace import Namespace
from integration.processes_under_test import Operator


@pytest.fixture
def bare(operator: Operator, namespace: Namespace) -> Namespace:
    """A namespace without a server, for benchmarks of an endpoint."""
    return namespace
