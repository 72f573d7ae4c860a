"""The page of fields leads to the guide. tests/unit/project/test_docs.py checks that its links lead somewhere."""

import re

import pytest

from kimi_linear_operator.benchmark import commands
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.reference import fields, guides
from kimi_linear_operator.resource_types import DEFINITIONS
from kimi_linear_operator.weights import job

KINDS = {manifest["spec"]["names"]["kind"]: manifest for manifest in (item.manifest() for item in DEFINITIONS)}


def spec(kind: str) -> Manifest:
    schema = KINDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found: Manifest = schema["properties"]["spec"]["properties"]
    return found


def rows(kind: str) -> dict[str, tuple[str, str]]:
    """Return the default and the last cell of each field of a kind, by the field."""
    section = fields.page().split(f"\n## {kind}\n")[1].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {name.strip("`"): (default, text) for name, _, default, text in cells}


def required(place: str, schema: Manifest) -> set[str]:
    """Return the places of all fields in a schema without which the API server refuses the object around them."""
    inner = {f"{place}.{name}": field for name, field in schema.get("properties", {}).items()}
    items = {f"{place}[]": schema["items"]} if "items" in schema else {}
    here = {f"{place}.{name}" for name in schema.get("required", ())}
    return here.union(*(required(*field) for field in (inner | items).items()))


@pytest.mark.parametrize("kind", KINDS)
def test_each_group_of_fields_leads_to_a_page_of_the_guide(kind: str) -> None:
    groups = [name for name, field in spec(kind).items() if "properties" in field or "items" in field]
    shown = rows(kind)
    assert groups
    assert [name for name in groups if "(guide/" not in shown[f"spec.{name}"][1]] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_required_fields_of_a_spec_are_marked_and_no_others(kind: str) -> None:
    marked = {place for place, (default, _) in rows(kind).items() if default == "required"}
    assert marked == required("spec", {"properties": spec(kind)})
    assert "spec.podTemplate.spec.containers[].name" in marked


@pytest.mark.parametrize(
    ("kind", "container"),
    [
        ("KimiLinearServer", ENGINE_CONTAINER),
        ("KimiLinearBenchmark", commands.CONTAINER),
        ("KimiLinearWeights", job.CONTAINER),
    ],
)
def test_each_kind_names_the_container_of_its_own_pods(kind: str, container: str) -> None:
    assert re.search(rf"\b{container}\b", rows(kind)["spec.podTemplate.spec.containers"][1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_of_pages_names_only_existing_fields(kind: str) -> None:
    assert guides.BY_FIELD[kind].keys() - spec(kind).keys() == set()


def test_each_kind_leads_to_a_page_of_the_guide() -> None:
    assert re.findall(r"\n## (\w+)\n\nGuide: \[\w+\]\(guide/\w+\.md\)\.\n", fields.page()) == list(KINDS)
