"""The CustomResourceDefinition: what is checked in is what the source says, and it says it completely."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kimi_linear_operator import crd
from kimi_linear_operator.api import KimiLinearServer, Manifest
from make import make_server

CRDS = Path(__file__).parents[2] / "crds"
SCHEMA: Manifest = crd.server_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


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
    """Yield a schema and all that is inside it, with their paths."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from fields(field, f"{path}.{name}")
    for keyword, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if keyword in schema:
            yield from fields(schema[keyword], path + suffix)


SPEC_FIELDS = dict(fields(SCHEMA["properties"]["spec"], "spec"))
STATUS_FIELDS = dict(fields(SCHEMA["properties"]["status"], "status"))


def test_the_generated_files_are_fresh() -> None:
    assert {path.name: path.read_text() for path in CRDS.iterdir()} == crd.files()


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"engine": {"contextLength": 8}, "model": {"tokenSecretRef": {"name": "hf"}}},
        {"service": {"headless": True}},
    ],
    ids=str,
)
def test_the_api_server_sets_the_defaults_of_the_models(spec: Manifest) -> None:
    server = KimiLinearServer.model_validate(make_server(**spec))
    assert with_defaults({"spec": spec}, SCHEMA)["spec"] == server.manifest()["spec"]


def test_a_resource_without_a_spec_is_complete_too() -> None:
    assert with_defaults({}, SCHEMA)["spec"] == KimiLinearServer.model_validate(make_server()).manifest()["spec"]


def test_a_new_resource_is_pending_and_not_ready() -> None:
    (condition,) = with_defaults({}, SCHEMA)["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "Unknown", "Pending")


def test_every_field_is_described_for_kubectl_explain() -> None:
    documented = {path: field for path, field in (SPEC_FIELDS | STATUS_FIELDS).items() if path[-1] not in "]*"}
    assert [path for path, field in documented.items() if not field.get("description")] == []


def limit(field: Manifest) -> str | None:
    """Return the keyword that limits how large a value can get, None if its type does."""
    if "enum" in field:
        return None
    if "additionalProperties" in field:
        return "maxProperties"
    # A number, or the text of a quantity.
    if field.get("x-kubernetes-int-or-string"):
        return "maxLength"
    return {"string": "maxLength", "array": "maxItems", "integer": "maximum", "number": "maximum"}.get(field["type"])


def test_everything_a_user_writes_has_a_limit() -> None:
    # Without limits the API server takes the worst for granted, and refuses the rules as too expensive.
    limits = {path: keyword for path, field in SPEC_FIELDS.items() if (keyword := limit(field))}
    assert {path for path, keyword in limits.items() if keyword not in SPEC_FIELDS[path]} == set()


def test_only_the_pod_template_takes_fields_that_the_schema_does_not_know() -> None:
    open_fields = [path for path, field in SPEC_FIELDS.items() if field.get("x-kubernetes-preserve-unknown-fields")]
    assert all(path.startswith("spec.podTemplate") for path in open_fields)
    assert "spec.podTemplate.spec" in open_fields


@pytest.mark.parametrize("keyword", ["$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "title", "not"])
def test_the_schema_is_structural(keyword: str) -> None:
    assert [path for path, field in fields(SCHEMA, "") if keyword in field] == []


def test_every_field_has_a_type() -> None:
    untyped = [path for path, field in fields(SCHEMA, "") if "type" not in field]
    assert all(SPEC_FIELDS[path.removeprefix(".")]["x-kubernetes-int-or-string"] for path in untyped)


def test_a_rule_names_a_field_of_the_schema() -> None:
    paths = {rule.get("fieldPath", ".spec").removeprefix(".") for rule in SCHEMA["x-kubernetes-validations"]}
    assert paths - set(SPEC_FIELDS) == set()


def test_warnings_only_warn() -> None:
    policy, binding = crd.warning_policy()
    assert policy["spec"]["failurePolicy"] == "Ignore"
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Warn"]}


def test_a_message_fits_on_one_line_as_the_api_server_demands() -> None:
    policy, _ = crd.warning_policy()
    validations = [*SCHEMA["x-kubernetes-validations"], *policy["spec"]["validations"]]
    assert [item["message"] for item in validations if "\n" in item["message"]] == []
