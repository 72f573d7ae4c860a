"""The CustomResourceDefinition in the repository equals the generated one, and is complete."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from kimi_linear_operator import resource_types
from kimi_linear_operator.benchmark import rules as benchmark
from kimi_linear_operator.benchmark.definition import DEFINITION as BENCHMARK_DEFINITION
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.kubernetes import crd
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server import rules as server
from kimi_linear_operator.server.definition import DEFINITION as SERVER_DEFINITION
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_benchmark, make_server

CRDS = Path(__file__).parents[3] / "crds"
DEFINITIONS = {"server": SERVER_DEFINITION.manifest(), "benchmark": BENCHMARK_DEFINITION.manifest()}
SCHEMAS: dict[str, Manifest] = {
    name: definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for name, definition in DEFINITIONS.items()
}
EVERY_SCHEMA = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)


def with_defaults(value: Any, schema: Manifest) -> Any:
    """Set defaults as the API server does."""
    if isinstance(value, list):
        return [with_defaults(item, schema["items"]) for item in value]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    defaults = {name: field["default"] for name, field in properties.items() if "default" in field}
    complete = {**defaults, **value}
    return {name: with_defaults(item, properties.get(name, {})) for name, item in complete.items()}


def fields(schema: Manifest, path: str) -> Iterator[tuple[str, Manifest]]:
    """Yield a schema and all schemas in it, with their paths."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from fields(field, f"{path}.{name}")
    for keyword, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if keyword in schema:
            yield from fields(schema[keyword], path + suffix)


def spec_fields(schema: Manifest) -> dict[str, Manifest]:
    return dict(fields(schema["properties"]["spec"], "spec"))


def status_fields(schema: Manifest) -> dict[str, Manifest]:
    return dict(fields(schema["properties"]["status"], "status"))


def test_the_generated_files_are_fresh() -> None:
    definitions = resource_types.DEFINITIONS
    assert {path.name: path.read_text() for path in CRDS.glob("*.*")} == crd.files(definitions)
    schemas = {str(path.relative_to(CRDS / "schemas")): path.read_text() for path in CRDS.rglob("*.json")}
    assert schemas == crd.schema_files(definitions)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"engine": {"contextLength": 8}, "model": {"tokenSecretRef": {"name": "hf"}}},
        {"service": {"headless": True}},
    ],
    ids=str,
)
def test_the_api_server_sets_the_defaults_of_a_server(spec: Manifest) -> None:
    server = KimiLinearServer.model_validate(make_server(**spec))
    assert with_defaults({"spec": spec}, SCHEMAS["server"])["spec"] == server.manifest()["spec"]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"suites": [{"name": "own", "speed": {"numPrompts": 1}}, {"name": "asked", "accuracy": {}}]},
        {"endpoint": {"url": "http://kimi:30000", "apiKeySecretRef": {"name": "key"}}, "baseline": {"source": "none"}},
    ],
    ids=str,
)
def test_the_api_server_sets_the_defaults_of_a_benchmark(spec: Manifest) -> None:
    manifest = make_benchmark(**spec)
    benchmark = KimiLinearBenchmark.model_validate(manifest)
    assert with_defaults({"spec": manifest["spec"]}, SCHEMAS["benchmark"])["spec"] == benchmark.manifest()["spec"]


def test_a_server_without_a_spec_is_complete_too() -> None:
    stored = with_defaults({}, SCHEMAS["server"])["spec"]
    assert stored == KimiLinearServer.model_validate(make_server()).manifest()["spec"]


@pytest.mark.parametrize(
    ("name", "states"),
    [("server", {"Ready": "Unknown"}), ("benchmark", {"Succeeded": "Unknown", "Reconciling": "True"})],
)
def test_a_new_resource_is_pending_and_not_ready(name: str, states: dict[str, str]) -> None:
    conditions = with_defaults({}, SCHEMAS[name])["status"]["conditions"]
    assert {condition["type"]: condition["status"] for condition in conditions} == states
    assert {condition["reason"] for condition in conditions} == {"Pending"}


@EVERY_SCHEMA
def test_every_field_is_described_for_kubectl_explain(schema: Manifest) -> None:
    known = spec_fields(schema) | status_fields(schema)
    documented = {path: field for path, field in known.items() if path[-1] not in "]*"}
    assert [path for path, field in documented.items() if not field.get("description")] == []


def limit(field: Manifest) -> str | None:
    """Return the keyword that limits the size of a value, None if the type itself limits it."""
    if "enum" in field:
        return None
    if "additionalProperties" in field:
        return "maxProperties"
    # A number, or the text of a quantity.
    if field.get("x-kubernetes-int-or-string"):
        return "maxLength"
    return {"string": "maxLength", "array": "maxItems", "integer": "maximum", "number": "maximum"}.get(field["type"])


@EVERY_SCHEMA
def test_every_field_that_a_user_writes_has_a_limit(schema: Manifest) -> None:
    # Without limits, the API server assumes the largest possible values and refuses the rules as too expensive.
    limits = {path: (limit(field), field) for path, field in spec_fields(schema).items()}
    assert {path for path, (keyword, field) in limits.items() if keyword and keyword not in field} == set()


@EVERY_SCHEMA
def test_only_the_pod_template_accepts_fields_that_the_schema_does_not_know(schema: Manifest) -> None:
    known = spec_fields(schema)
    open_fields = [path for path, field in known.items() if field.get("x-kubernetes-preserve-unknown-fields")]
    assert all(path.startswith("spec.podTemplate") for path in open_fields)
    assert "spec.podTemplate.spec" in open_fields


@EVERY_SCHEMA
@pytest.mark.parametrize("keyword", ["$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "title", "not"])
def test_the_schema_is_structural(schema: Manifest, keyword: str) -> None:
    assert [path for path, field in fields(schema, "") if keyword in field] == []


@EVERY_SCHEMA
def test_every_field_has_a_type(schema: Manifest) -> None:
    untyped = [path for path, field in fields(schema, "") if "type" not in field]
    assert all(spec_fields(schema)[path.removeprefix(".")]["x-kubernetes-int-or-string"] for path in untyped)


def rules_of(schema: Manifest) -> list[tuple[str, Manifest]]:
    """Return every rule of the API server with the path of its node."""
    return [
        (path.removeprefix("."), rule)
        for path, node in fields(schema, "")
        for rule in node.get("x-kubernetes-validations", ())
    ]


@EVERY_SCHEMA
def test_a_rule_names_a_field_of_the_schema(schema: Manifest) -> None:
    named = {f"{path}{rule['fieldPath']}".removeprefix(".") for path, rule in rules_of(schema) if "fieldPath" in rule}
    assert named - set(spec_fields(schema)) == set()


@EVERY_SCHEMA
def test_every_rule_of_the_table_is_in_the_schema_once(schema: Manifest) -> None:
    tables = {"KimiLinearServer": server.ERRORS, "KimiLinearBenchmark": (*benchmark.ERRORS, *benchmark.TRANSITIONS)}
    [kind] = [name for name, known in SCHEMAS.items() if known is schema]
    expected = [(rule.at, rule.crd_validation()) for rule in tables[f"KimiLinear{kind.capitalize()}"]]
    assert sorted(rules_of(schema), key=str) == sorted(expected, key=str)


@EVERY_SCHEMA
def test_a_rule_applies_only_to_changes_of_the_fields_that_it_reads(schema: Manifest) -> None:
    # The API server itself accepts an unchanged value or list. A list counts as one value.
    unguarded = [
        (path, rule["rule"])
        for path, rule in rules_of(schema)
        if not rule.get("optionalOldSelf") and "properties" in dict(fields(schema, ""))[f".{path}".rstrip(".")]
    ]
    assert [rule for _, rule in unguarded if not rule.startswith("!has(oldSelf.status)")] == []


@EVERY_SCHEMA
def test_the_default_of_an_object_contains_the_defaults_of_its_fields(schema: Manifest) -> None:
    # The API server checks the rules for an object's default before it sets the defaults of the fields in it.
    for path, field in spec_fields(schema).items():
        if isinstance(field.get("default"), dict):
            assert field["default"] == with_defaults(field["default"], field), path


WARNING_POLICIES = [item for found in resource_types.DEFINITIONS for item in found.warning_policy()]
POLICIES = [item for item in WARNING_POLICIES if item["kind"] == "ValidatingAdmissionPolicy"]


def test_warnings_only_warn() -> None:
    assert {policy["spec"]["failurePolicy"] for policy in POLICIES} == {"Ignore"}
    bindings = [item["spec"] for item in WARNING_POLICIES if item["kind"] == "ValidatingAdmissionPolicyBinding"]
    names = [policy["metadata"]["name"] for policy in POLICIES]
    assert bindings == [{"policyName": name, "validationActions": ["Warn"]} for name in names]


def test_every_message_of_a_rule_is_one_line() -> None:
    rules = [rule for schema in SCHEMAS.values() for _, rule in rules_of(schema)]
    validations = [*rules, *(item for policy in POLICIES for item in policy["spec"]["validations"])]
    assert [item["message"] for item in validations if "\n" in item["message"]] == []


class Multiple(BaseModel):
    """A field with a keyword that CRDs do not have."""

    size: int = Field(default=16, multiple_of=16)


def test_a_keyword_that_the_crd_would_lose_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot contain multipleOf: write a rule instead"):
        crd.structural(Multiple)
