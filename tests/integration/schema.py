"""Storing what the API server would refuse, as an older version of our schema may have let it in."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from integration.client import DEFINITION, STRICT_DRY_RUN, Client, path_of
from integration.namespace import server_manifest
from integration.waiting import wait_for
from kimi_linear_operator.crd import server_definition
from kimi_linear_operator.resources import SERVER

UNREADABLE = {"tensorParallelism": "four"}
"""Refused by the schema, and by whoever reads it as a KimiLinearServer."""

BROKEN_RULE = {"reasoningParser": "enabled"}
"""Of the right shape, but refused by a rule."""


@contextmanager
def relaxed_schema(client: Client) -> Iterator[None]:
    """Let the API server take `tensorParallelism: four` and broken rules for a while."""
    definition = server_definition()
    relaxed = copy.deepcopy(definition["spec"]["versions"])
    schema = relaxed[0]["schema"]["openAPIV3Schema"]
    del schema["x-kubernetes-validations"]
    schema["properties"]["spec"]["properties"]["tensorParallelism"] = {"x-kubernetes-int-or-string": True, "default": 4}
    _serve(client, relaxed, 201)
    try:
        yield
    finally:
        _serve(client, definition["spec"]["versions"], 422)


def _serve(client: Client, versions: object, answer_to_unreadable: int) -> None:
    """Change the schema and wait until the API server goes by it."""
    client.patch(DEFINITION, None, server_definition()["metadata"]["name"], {"spec": {"versions": versions}})
    unreadable = server_manifest("probe", "default", UNREADABLE)
    wait_for(
        lambda: client.send("POST", path_of(SERVER, "default"), unreadable, STRICT_DRY_RUN).status,
        f"the API server answers {answer_to_unreadable} to {UNREADABLE}",
        lambda status: status == answer_to_unreadable,
    )
