"""Stores objects that the API server now refuses, but that an older version of our schema accepted."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from integration.client import DEFINITION, STRICT_DRY_RUN, Client, path_of
from integration.client_pods import benchmark_manifest
from integration.namespace import server_manifest
from integration.newer_version import FRACTION
from integration.waiting import wait_for
from kimi_linear_operator.benchmark.definition import DEFINITION as BENCHMARK_DEFINITION
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.resource_types import DEFINITIONS
from kimi_linear_operator.server.definition import DEFINITION as SERVER_DEFINITION
from kimi_linear_operator.server.spec import SERVER

UNREADABLE = {"tensorParallelism": "four"}
"""Refused by the schema, and by the model KimiLinearServer."""

BROKEN_RULE = {"reasoningParser": "enabled"}
"""A spec that fits the schema, but breaks a rule."""


def without_rules(schema: Manifest) -> Manifest:
    """Return a schema without its rules."""
    plain = {key: value for key, value in schema.items() if key != "x-kubernetes-validations"}
    if "properties" in plain:
        plain["properties"] = {name: without_rules(field) for name, field in plain["properties"].items()}
    return plain


@contextmanager
def relaxed_schema(client: Client) -> Iterator[None]:
    """For a while, let the API server accept `tensorParallelism: four` and objects that break rules."""
    definitions = [found.manifest() for found in DEFINITIONS]
    try:
        for definition in definitions:
            serve(client, _relaxed(definition))
        _wait_for_answer(client, 201)
        yield
    finally:
        for definition in definitions:
            serve(client, definition)
        _wait_for_answer(client, 422)


def _relaxed(definition: Manifest) -> Manifest:
    relaxed = copy.deepcopy(definition)
    [version] = relaxed["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"] = without_rules(version["schema"]["openAPIV3Schema"])
    if definition["spec"]["names"]["kind"] == SERVER.kind:
        schema["properties"]["spec"]["properties"]["tensorParallelism"] = {
            "x-kubernetes-int-or-string": True,
            "default": 4,
        }
    return relaxed


@contextmanager
def newer_definition(client: Client) -> Iterator[None]:
    """Let the API server use the CRD of a newer version for a while.

    In it, a field has a new default, and another field is new.
    """
    definition = SERVER_DEFINITION.manifest()
    newer = copy.deepcopy(definition)
    [version] = newer["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["warmUp"] = {"type": "string", "default": "enabled"}
    engine = spec["properties"]["engine"]
    engine["properties"]["memoryFractionStatic"]["default"] = FRACTION
    for default in (engine["default"], spec["default"]["engine"]):
        default["memoryFractionStatic"] = FRACTION
    try:
        serve(client, newer)
        _wait_for_default(client, FRACTION)
        yield
    finally:
        serve(client, definition)
        _wait_for_default(client, None)


PULL_POLICY = "Always"
"""The default that `definition_of_containers` sets in every container of a podTemplate without this field."""


@contextmanager
def definition_of_containers(client: Client) -> Iterator[None]:
    """Let the API server use the CRD of a newer version for a while. It declares more fields of a podTemplate.

    It sets a default within items of a list, and drops the null that removes hostAliases.
    """
    definition = SERVER_DEFINITION.manifest()
    newer = copy.deepcopy(definition)
    [version] = newer["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    pod = spec["properties"]["podTemplate"]["properties"]["spec"]["properties"]
    pod["containers"]["items"]["properties"]["imagePullPolicy"] = {"type": "string", "default": PULL_POLICY}
    item = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    pod["hostAliases"] = {"type": "array", "maxItems": 16, "items": item}
    try:
        serve(client, newer)
        _wait_for_pull_policy(client, PULL_POLICY)
        yield
    finally:
        serve(client, definition)
        _wait_for_pull_policy(client, None)


@contextmanager
def definition_of_energy(client: Client) -> Iterator[None]:
    """Let the API server use a newer version's CRD of benchmarks for a while.

    Results have the field energy, the number of completed requests may be text, and the spec has a new field.
    """
    definition = BENCHMARK_DEFINITION.manifest()
    newer = copy.deepcopy(definition)
    [version] = newer["spec"]["versions"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    fields = status["properties"]["results"]["items"]["properties"]
    fields["energy"] = {"type": "integer"}
    fields["completed"] = {"x-kubernetes-int-or-string": True}
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["measureEnergy"] = {"type": "boolean", "default": True}
    try:
        serve(client, newer)
        _wait_for_energy(client, True)
        yield
    finally:
        serve(client, definition)
        _wait_for_energy(client, None)


def _wait_for_energy(client: Client, expected: bool | None) -> None:
    probe = benchmark_manifest("probe", "default", {"serverRef": {"name": "kimi"}})
    wait_for(
        lambda: client.request("POST", path_of(BENCHMARK, "default"), probe, STRICT_DRY_RUN)["spec"],
        f"the default of measureEnergy is {expected}",
        lambda spec: spec.get("measureEnergy") is expected,
    )


def _wait_for_pull_policy(client: Client, expected: str | None) -> None:
    probe = _server({"podTemplate": {"spec": {"containers": [{"name": "sglang"}]}}})
    wait_for(
        lambda: client.request("POST", path_of(SERVER, "default"), probe, STRICT_DRY_RUN)["spec"]["podTemplate"],
        f"the default of imagePullPolicy is {expected}",
        lambda found: found["spec"]["containers"][0].get("imagePullPolicy") == expected,
    )


def _wait_for_default(client: Client, expected: float | None) -> None:
    wait_for(
        lambda: client.request("POST", path_of(SERVER, "default"), _server({}), STRICT_DRY_RUN)["spec"]["engine"],
        f"the default of memoryFractionStatic is {expected}",
        lambda engine: engine.get("memoryFractionStatic") == expected,
    )


def serve(client: Client, definition: Manifest) -> None:
    """Install these versions of a CRD. The API server uses the former versions for another moment."""
    client.patch(
        DEFINITION, None, definition["metadata"]["name"], {"spec": {"versions": definition["spec"]["versions"]}}
    )


def _wait_for_answer(client: Client, expected: int) -> None:
    """Wait until the API server uses the current CRDs, and so gives this answer to a broken object."""
    for kind, broken in ((SERVER, _server(UNREADABLE)), (SERVER, _server(BROKEN_RULE)), (BENCHMARK, _benchmark())):
        wait_for(
            lambda kind=kind, broken=broken: (
                client.send(  # type: ignore[misc]
                    "POST", path_of(kind, "default"), broken, STRICT_DRY_RUN
                ).status
            ),
            f"the API server answers {expected} to a {kind.kind} with {broken['spec']}",
            lambda status: status == expected,
        )


def _server(spec: object) -> Manifest:
    return server_manifest("probe", "default", spec)


def _benchmark() -> Manifest:
    suites = [{"name": "gsm8k"}, {"name": "gsm8k"}]
    return benchmark_manifest("probe", "default", {"serverRef": {"name": "kimi"}, "suites": suites})
