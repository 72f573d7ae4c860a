"""Stored objects that the current schema or rules refuse. Their status says so, and other objects are not affected."""

import pytest

from integration.client import Client
from integration.namespace import Namespace
from integration.processes_under_test import Operator
from integration.schema import BROKEN_RULE, UNREADABLE, relaxed_schema
from integration.waiting import stays

pytestmark = pytest.mark.usefixtures("operator")


def test_an_unreadable_server_is_reported_and_disturbs_no_other(client: Client, namespace: Namespace) -> None:
    with relaxed_schema(client):
        namespace.create_server("broken", UNREADABLE)
        accepted = namespace.wait_for_condition("broken", "Accepted", "False", "InvalidSpec")
        assert "spec.tensorParallelism" in accepted["message"]
        namespace.wait_for_condition("broken", "Stalled", "True", "InvalidSpec")
        namespace.create_server("healthy")
        namespace.wait_until_ready("healthy")
        namespace.change_server("broken", {"tensorParallelism": 4})
        namespace.wait_until_ready("broken")


def test_a_server_that_became_unreadable_before_the_operators_start_is_reported(
    client: Client, operator: Operator, namespace: Namespace
) -> None:
    with operator.stopped(), relaxed_schema(client):
        namespace.create_server("broken", UNREADABLE)
        namespace.create_server("healthy")
    namespace.wait_until_ready("healthy")
    accepted = namespace.wait_for_condition("broken", "Accepted", "False", "InvalidSpec")
    assert "spec.tensorParallelism" in accepted["message"]
    namespace.change_server("broken", {"tensorParallelism": 4})
    namespace.wait_until_ready("broken")


@pytest.mark.parametrize("invalid", [UNREADABLE, BROKEN_RULE], ids=["unreadable", "broken rule"])
def test_a_running_server_keeps_serving_while_its_spec_is_invalid(
    client: Client, operator: Operator, namespace: Namespace, invalid: dict[str, str]
) -> None:
    namespace.create_server("kimi")
    serving = namespace.wait_until_ready("kimi")
    pods = _pod_names(namespace)
    # The API server uses its rules again before the operator starts.
    with operator.stopped(), relaxed_schema(client):
        namespace.change_server("kimi", invalid)
    namespace.wait_for_condition("kimi", "Accepted", "False", "InvalidSpec")
    namespace.wait_for_condition("kimi", "Ready", "False", "InvalidSpec")
    namespace.wait_for_condition("kimi", "Available", "True")
    stays(lambda: _pod_names(namespace), "the same pods run", lambda names: names == pods, 1.5)
    assert namespace.server("kimi")["status"]["image"] == serving["status"]["image"]
    namespace.change_server("kimi", {"tensorParallelism": 4, "reasoningParser": "disabled"})
    namespace.wait_until_ready("kimi")
    assert _pod_names(namespace) == pods


def _pod_names(namespace: Namespace) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in namespace.pods("kimi"))
