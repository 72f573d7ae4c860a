"""The Helm chart, tested without Helm: its copied files are up to date, and its files agree with each other."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import chart
import kimi_linear_operator
from chart import CHART, SERVERS_CHART
from kimi_linear_operator.kubernetes import crd
from kimi_linear_operator.resource_types import DEFINITIONS

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
# Maps of Kubernetes or of the user. Their keys are not values of the chart.
OPEN = {"annotations", "labels", "podSecurityContext", "resources", "securityContext"}


def values(tree: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the paths of all values that a user can set."""
    for key, value in tree.items():
        if isinstance(value, dict) and value and key not in OPEN:
            yield from values(value, f"{path}{key}.")
        else:
            yield path + key


def allowed(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the paths of all values that the schema allows."""
    for key, item in schema["properties"].items():
        if "properties" in item:
            assert item["additionalProperties"] is False, path + key
            yield from allowed(item, f"{path}{key}.")
        else:
            yield path + key


@pytest.mark.parametrize("folder", chart.COPIES)
def test_the_charts_copies_are_fresh(folder: str) -> None:
    copied = {file.name: file.read_bytes() for file in (CHART / folder).iterdir()}
    assert copied == {file.name: file.read_bytes() for file in chart.COPIES[folder]}, "run `make generate`"


def test_the_chart_contains_every_definition_and_warning() -> None:
    assert {file.name: file.read_text() for file in (CHART / "files/crds").iterdir()} == crd.files(DEFINITIONS)


@pytest.mark.parametrize("folder", [CHART, SERVERS_CHART], ids=lambda folder: folder.name)
def test_the_table_of_values_is_fresh(folder: Path) -> None:
    assert (folder / "README.md").read_text() == chart.readme(folder), "run `make generate`"


def test_the_schema_of_servers_is_fresh() -> None:
    assert (SERVERS_CHART / "values.schema.json").read_text() == chart.servers_schema(), "run `make generate`"


def test_every_value_is_explained() -> None:
    assert [name for name, _, _ in chart.values_table(CHART)] == list(values(VALUES))


def test_the_schema_has_exactly_the_values_of_the_chart() -> None:
    assert sorted(allowed(SCHEMA)) == sorted(values(VALUES))
    assert SCHEMA["additionalProperties"] is False


@pytest.mark.parametrize("folder", [CHART, SERVERS_CHART], ids=lambda folder: folder.name)
def test_a_chart_has_the_version_of_the_operator(folder: Path) -> None:
    about = yaml.safe_load((folder / "Chart.yaml").read_text())
    assert (about["version"], about["appVersion"]) == (kimi_linear_operator.__version__,) * 2


def test_no_rule_has_a_wildcard_or_reads_secrets() -> None:
    text = (CHART / "templates/_rules.tpl").read_text() + (CHART / "templates/rbac.yaml").read_text()
    assert "*]" not in text.replace("/*", "")
    assert "secrets" not in text


@pytest.mark.parametrize("file", sorted((CHART / "ci").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_tests_use_only_existing_values(file: Path) -> None:
    known = list(values(VALUES))
    given = [name for name in values(yaml.safe_load(file.read_text())) if not name.startswith(tuple(known))]
    assert given == []
