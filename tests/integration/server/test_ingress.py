"""The Ingress of a server on a real control plane. tests/exposure sends real requests through an Ingress."""

import pytest

from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import INGRESS

pytestmark = pytest.mark.usefixtures("operator")


def test_an_ingress_is_created_and_deleted_with_its_field(namespace: Namespace) -> None:
    namespace.create_server("kimi", {"ingress": {"hosts": ["kimi.example.com"]}})
    made = wait_for(lambda: namespace.find(INGRESS, "kimi"), "the Ingress")
    assert made
    assert [rule["host"] for rule in made["spec"]["rules"]] == ["kimi.example.com"]
    namespace.wait_until_ready("kimi")
    namespace.change_server("kimi", {"ingress": None})
    wait_for(lambda: namespace.find(INGRESS, "kimi") is None, "the Ingress is gone")
