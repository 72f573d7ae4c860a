"""Two entries of the operator in the managed fields become one, even if others change the object in the meantime."""

import asyncio
import json
from typing import Any, cast

import pytest

from answering import UNFIT_PATCH
from kimi_linear_operator.cluster.answer import Answer
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.cluster.pages import Pages
from kimi_linear_operator.cluster.transport import Transport
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER


class Busy:
    """An API server with a Deployment that its controller changes before each of the first patches comes."""

    def __init__(self, changes: int) -> None:
        self.changes, self.version = changes, 10

    @property
    def live(self) -> Manifest:
        fields: Manifest = {"f:spec": {"f:replicas": {}}}
        entry = {"manager": MANAGER, "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields}
        entries = [{**entry, "operation": "Apply"}, {**entry, "operation": "Update"}]
        metadata = {"name": "kimi", "namespace": "default", "uid": "1", "resourceVersion": str(self.version)}
        return {"kind": "Deployment", "metadata": {**metadata, "managedFields": entries}}

    async def answer(self, request: Any, *_: Any) -> Answer:
        if request.method == "PATCH":
            if self.changes:
                self.changes, self.version = self.changes - 1, self.version + 1
            if request.body[0]["value"] != str(self.version):
                return Answer(422, json.dumps({"kind": "Status", "message": UNFIT_PATCH}).encode(), "")
            self.version += 1
        return Answer(200, json.dumps(self.live).encode(), "")


def unified(server: Busy) -> Manifest:
    transport = cast(Transport, server)
    return asyncio.run(Cluster(transport, Pages(transport)).unify(DEPLOYMENT, server.live))


@pytest.mark.parametrize("changes", [0, 1, 3])
def test_a_change_by_somebody_else_does_not_prevent_it(changes: int) -> None:
    server = Busy(changes)
    assert unified(server)["metadata"]["resourceVersion"] == str(11 + changes)


def test_an_object_that_changes_all_the_time_is_no_fault_of_the_spec() -> None:
    with pytest.raises(ApiError, match="keeps changing") as caught:
        unified(Busy(100))
    assert caught.value.is_passing
