"""Stores objects that the API server now refuses, but that an older version of our schema accepted."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from integration.client import DEFINITION, STRICT_DRY_RUN, Client, path_of
from integration.client_pods import benchmark_manifest
from integration.namespace import server_manifest
from integration.newer_version import FRACTION
from integration.waiting import wait_for
from kimi_linear_operator.benchmark.definition import DEFINITION as BENCHMARK_DEFINITION
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.crd import Definition
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.resource_types import DEFINITIONS
from kimi_linear_operator.server.definition import DEFINITION as SERVER_DEFINITION
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.weights.definition import DEFINITION as WEIGHTS_DEFINITION

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
            _serve(client, _relaxed(definition))
        _wait_for_answer(client, 201)
        yield
    finally:
        for definition in definitions:
            _serve(client, definition)
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
    newer = copy.deepcopy(SERVER_DEFINITION.manifest())
    spec = _schema_of_spec(newer)
    spec["properties"]["warmUp"] = {"type": "string", "default": "enabled"}
    _set_fraction(spec, FRACTION)
    with another_definition(
        client, SERVER_DEFINITION, newer, {}, lambda found: found["engine"].get("memoryFractionStatic") == FRACTION
    ):
        yield


ROUTER_CPU = "750m"
"""The default that `definition_of_routers` sets in every router without resources."""


@contextmanager
def definition_of_routers(client: Client) -> Iterator[None]:
    """Let the API server use the CRD of a newer version for a while, in which `spec.router.resources` has a default."""
    newer = copy.deepcopy(SERVER_DEFINITION.manifest())
    router = _schema_of_spec(newer)["properties"]["router"]
    router["properties"]["resources"]["default"] = {"requests": {"cpu": ROUTER_CPU}}
    with another_definition(
        client, SERVER_DEFINITION, newer, {"router": {}}, lambda found: ROUTER_CPU in str(found.get("router"))
    ):
        yield


@contextmanager
def definition_of_fraction(client: Client, fraction: float | None) -> Iterator[None]:
    """Let the API server use the CRD of another version for a while.

    Args:
        client: A client of the API server.
        fraction: The default of `engine.memoryFractionStatic`, None if the other version does not have this field.
    """
    other = copy.deepcopy(SERVER_DEFINITION.manifest())
    spec = _schema_of_spec(other)
    spec["properties"]["warmUp"] = {"type": "string", "default": str(fraction)}
    if fraction is None:
        del spec["properties"]["engine"]["properties"]["memoryFractionStatic"]
    else:
        _set_fraction(spec, fraction)
    with another_definition(client, SERVER_DEFINITION, other, {}, lambda found: found.get("warmUp") == str(fraction)):
        yield


def _schema_of_spec(definition: Manifest) -> Manifest:
    """Return the schema of the spec in a CRD with one version, so that a caller can change it."""
    [version] = definition["spec"]["versions"]
    schema: Manifest = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def _set_fraction(spec: Manifest, fraction: float) -> None:
    engine = spec["properties"]["engine"]
    engine["properties"]["memoryFractionStatic"]["default"] = fraction
    for default in (engine["default"], spec["default"]["engine"]):
        default["memoryFractionStatic"] = fraction


PULL_POLICY = "Always"
"""The default that `definition_of_containers` sets in every container of a podTemplate without this field."""


@contextmanager
def definition_of_containers(client: Client) -> Iterator[None]:
    """Let the API server use the CRD of a newer version for a while. It declares more fields of a podTemplate.

    It sets a default within items of a list, and drops the null that removes hostAliases.
    """
    newer = copy.deepcopy(SERVER_DEFINITION.manifest())
    spec = _schema_of_spec(newer)
    pod = spec["properties"]["podTemplate"]["properties"]["spec"]["properties"]
    pod["containers"]["items"]["properties"]["imagePullPolicy"] = {"type": "string", "default": PULL_POLICY}
    item = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    pod["hostAliases"] = {"type": "array", "maxItems": 16, "items": item}
    container = {"podTemplate": {"spec": {"containers": [{"name": "sglang"}]}}}
    with another_definition(client, SERVER_DEFINITION, newer, container, lambda found: PULL_POLICY in str(found)):
        yield


MIRROR = "https://mirror.example.com"
"""The default that `definition_of_mirrors` sets in all weights without an address."""


@contextmanager
def definition_of_mirrors(client: Client) -> Iterator[None]:
    """Let the API server use a newer version's CRD of weights for a while, with a default in lists and one outside."""
    newer = copy.deepcopy(WEIGHTS_DEFINITION.manifest())
    spec = _schema_of_spec(newer)["properties"]
    spec["source"]["properties"]["endpoint"]["default"] = MIRROR
    containers = spec["podTemplate"]["properties"]["spec"]["properties"]["containers"]
    containers["items"]["properties"]["imagePullPolicy"] = {"type": "string", "default": PULL_POLICY}
    with another_definition(
        client, WEIGHTS_DEFINITION, newer, {"source": {}}, lambda found: found["source"].get("endpoint") == MIRROR
    ):
        yield


@contextmanager
def definition_of_energy(client: Client) -> Iterator[None]:
    """Let the API server use a newer version's CRD of benchmarks for a while.

    Results have the field energy, the number of completed requests may be text, and the spec has a new field.
    """
    newer = copy.deepcopy(BENCHMARK_DEFINITION.manifest())
    [version] = newer["spec"]["versions"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    fields = status["properties"]["results"]["items"]["properties"]
    fields["energy"] = {"type": "integer"}
    fields["completed"] = {"x-kubernetes-int-or-string": True}
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["measureEnergy"] = {"type": "boolean", "default": True}
    of_server = {"serverRef": {"name": "kimi"}}
    with another_definition(client, BENCHMARK_DEFINITION, newer, of_server, lambda found: "measureEnergy" in found):
        yield


@contextmanager
def another_definition(
    client: Client, own: Definition, other: Manifest, spec: Manifest, shows_other: Callable[[Manifest], bool]
) -> Iterator[None]:
    """Let the API server use the CRD of another version for a while.

    It uses a changed CRD only some time after it has stored it. So this waits at the beginning and at the end.

    Args:
        client: A client of the API server.
        own: The definition of this version.
        other: The CRD of the other version.
        spec: A valid spec.
        shows_other: Whether this spec has defaults of the other version, as the API server reads it.
    """
    kind = own.model.KIND
    probe = {**_server(spec), "kind": kind.kind}

    def wait_until_used(*, is_other: bool) -> None:
        wait_for(
            lambda: client.request("POST", path_of(kind, "default"), probe, STRICT_DRY_RUN)["spec"],
            f"the API server uses the {'other' if is_other else 'own'} definition of {kind.kind}",
            lambda found: shows_other(found) is is_other,
        )

    try:
        _serve(client, other)
        wait_until_used(is_other=True)
        yield
    finally:
        _serve(client, own.manifest())
        wait_until_used(is_other=False)


def _serve(client: Client, definition: Manifest) -> None:
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
