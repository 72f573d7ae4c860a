"""The page of fields leads to the guide. tests/unit/project/test_docs.py checks that its links lead somewhere."""

import re

import pytest

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.reference import fields, guides
from kimi_linear_operator.resource_types import DEFINITIONS

KINDS = {manifest["spec"]["names"]["kind"]: manifest for manifest in (item.manifest() for item in DEFINITIONS)}


def spec(kind: str) -> Manifest:
    schema = KINDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found: Manifest = schema["properties"]["spec"]["properties"]
    return found


def rows(kind: str) -> dict[str, str]:
    """Return the last cell of each field of a kind, by the field."""
    section = fields.page().split(f"\n## {kind}\n")[1].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {name.strip("`"): text for name, *_, text in cells}


@pytest.mark.parametrize("kind", KINDS)
def test_each_group_of_fields_leads_to_a_page_of_the_guide(kind: str) -> None:
    groups = [name for name, field in spec(kind).items() if "properties" in field or "items" in field]
    shown = rows(kind)
    assert groups
    assert [name for name in groups if "(guide/" not in shown[f"spec.{name}"]] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_of_pages_names_only_existing_fields(kind: str) -> None:
    assert guides.BY_FIELD[kind].keys() - spec(kind).keys() == set()


def test_each_kind_leads_to_a_page_of_the_guide() -> None:
    assert re.findall(r"\n## (\w+)\n\nGuide: \[\w+\]\(guide/\w+\.md\)\.\n", fields.page()) == list(KINDS)
