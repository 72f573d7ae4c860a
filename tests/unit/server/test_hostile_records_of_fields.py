"""Whatever fields a record names, comparing it with a large spec takes little processor time."""

from collections.abc import Mapping
from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.kubernetes.unrequested import UncertainFields
from kimi_linear_operator.server import unrequested
from kimi_linear_operator.server.revision import History, Revision, Seen
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server
from processor_time import cost

# A comparison costs at most 6; with the bugs for which these tests were written, one cost more than 70.
MOST_COST = 25


def make(fields: int, levels: int, value: int) -> KimiLinearServer:
    content: Manifest = {f"k{number}": value for number in range(fields)}
    for _ in range(levels):
        content = {"a": content}
    return KimiLinearServer.model_validate(make_server(podTemplate={"spec": content}))


def record_of(server: KimiLinearServer, unowned: tuple[FieldPath, ...], requested: Mapping[FieldPath, Any]) -> Revision:
    inputs = server.spec.model_dump(by_alias=True, exclude_unset=True)
    seen = Seen(server.metadata.uid, server.metadata.generation, requested)
    return Revision(5, inputs, {"spec": {"containers": []}}, "", server.metadata.uid, 1, unowned=unowned, seen=seen)


def around(levels: int) -> FieldPath:
    return ("podTemplate", "spec", *["a"] * levels)


@pytest.mark.parametrize(
    "unowned",
    [
        tuple((f"q{number}",) for number in range(1024)),
        tuple((*around(50), f"q{number}") for number in range(1024)),
        tuple((*around(50), f"k{number}") for number in range(1024)),
    ],
    ids=["other fields", "other deep fields", "the changed fields"],
)
def test_any_unowned_fields_take_little_time(unowned: tuple[FieldPath, ...]) -> None:
    server, record = make(2300, 50, 1), record_of(make(2300, 50, 2), unowned, {})
    assert cost(lambda: unrequested.uncertain_fields(server, History([record], 5))) < MOST_COST


@pytest.mark.parametrize("levels", [0, 50])
def test_any_requested_fields_take_little_time(levels: int) -> None:
    server = make(2300, levels, 1)
    requested = {(*around(levels), f"k{number}"): 1 for number in range(1024)}
    record = record_of(make(1, levels, 2), (), requested)
    assert cost(lambda: unrequested.uncertain_fields(server, History([record], 5))) < MOST_COST
    assert cost(lambda: unrequested.remembered(record, server, UncertainFields(), {})) < MOST_COST
