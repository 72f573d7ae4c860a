"""The facts of a server take little memory and time, whatever its fields are named and nobody owns."""

import gc
import json
import tracemalloc

import pytest

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.index import ServerFacts, facts
from kimi_linear_operator.server.spec import SERVER
from make import make_server
from processor_time import cost

# The cache keeps specs of up to 16 KiB without a limit on their number.
MOST_BYTES = 16 * 1024
# It costs about 0.3.
MOST_COST = 5
WRITTEN = {"manager": "me", "operation": "Update", "fieldsV1": {"f:spec": {"f:suspend": {}}}}


def nested(names: list[str], levels: int, around: str = "a") -> Manifest:
    value: Manifest = dict.fromkeys(names, 0)
    for _ in range(levels):
        value = {around: value}
    return value


def facts_of(spec: Manifest) -> ServerFacts:
    server = {**make_server(), "spec": spec}
    server["metadata"] = {**server["metadata"], "managedFields": [WRITTEN]}
    found = facts(SERVER, json.loads(json.dumps(server)))
    assert isinstance(found, ServerFacts)
    return found


@pytest.mark.parametrize(
    ("names", "levels", "around"),
    [("{}", 54, "a"), ("{}" + "x" * 480, 54, "a"), ("{}", 54, "a" * 4000), ("{}", 1, "a")],
    ids=["deep", "long names", "long names of objects", "wide"],
)
def test_facts_take_little_memory_and_time(names: str, levels: int, around: str) -> None:
    gc.collect()
    tracemalloc.start()
    kept = [facts_of(nested([names.format(1000 * n + key) for key in range(500)], levels, around)) for n in range(5)]
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < len(kept) * MOST_BYTES
    spec = nested([names.format(key) for key in range(500)], levels, around)
    assert cost(lambda: facts_of(spec), tries=3) < MOST_COST


def test_the_fields_of_a_usual_spec_are_known() -> None:
    found = facts_of({"suspend": True, "engine": {"version": "v1", "args": ["é", '"']}, "hardware": "mi300x"})
    assert found.unowned == (("engine", "version"), ("engine", "args"), ("hardware",))


def test_too_many_fields_are_unknown() -> None:
    assert facts_of(nested([str(number) for number in range(500)], 54)).unowned is None
