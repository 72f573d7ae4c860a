"""The configurator's page, tested without a browser: its contents, and the verb that writes it."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kimi_linear_operator import cli, configurator
from kimi_linear_operator.benchmark import rules as benchmark_rules
from kimi_linear_operator.benchmark.spec import BenchmarkSpec
from kimi_linear_operator.configurator import form
from kimi_linear_operator.configurator.contents import contents
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server import rules as server_rules
from kimi_linear_operator.server.spec import ServerSpec
from make import make_server

PAGE = configurator.page()


def element(name: str, attributes: str = "") -> str:
    [text] = re.findall(rf"<{name}{attributes}>(.*?)</{name}>", PAGE, re.DOTALL)
    return str(text)


def test_the_verb_prints_the_page_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["page"]) == 0
    assert capsys.readouterr().out == PAGE
    assert cli.main(["page", "--write", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == PAGE
    assert capsys.readouterr() == ("", "")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["page", "--write", str(tmp_path / "no" / "page.html")]) == 2
    assert capsys.readouterr().err.startswith("kimi-linear page: --write ")


def test_the_data_in_the_page_can_be_read_back() -> None:
    assert json.loads(element("script", ' type="application/json" id="data"')) == json.loads(json.dumps(contents()))
    assert "{{" not in PAGE.replace("{{ x }}", "")


@pytest.mark.parametrize("name", ["script", "style"])
def test_the_pages_security_policy_allows_only_its_own_script_and_style(name: str) -> None:
    digest = base64.b64encode(hashlib.sha256(element(name).encode()).digest()).decode()
    assert f"{name}-src 'sha256-{digest}'" in PAGE
    assert "default-src 'none'" in PAGE


def test_the_page_contains_no_address_that_a_browser_would_fetch() -> None:
    assert (
        re.findall(r"\b(?:src|href|action)=[\"']?(?!data:,)[^\"'\s>]+", element("head", "") + element("body", "")) == []
    )


def test_the_page_contains_the_licence_of_its_library() -> None:
    assert re.search(r"@marcbachmann/cel-js \d+\.\d+\.\d+\n\n(.*\n)*Permission is hereby granted, free of charge", PAGE)


@pytest.mark.parametrize(("resource", "rules"), [("server", server_rules.RULES), ("benchmark", benchmark_rules.RULES)])
def test_every_rule_is_in_the_page_unchanged(resource: str, rules: Any) -> None:
    told = [
        (rule["severity"], rule["at"], rule["expression"], rule["message"]) for rule in contents()[resource]["rules"]
    ]
    assert told == [(rule.severity, rule.at, rule.expression, rule.message) for rule in rules]


@pytest.mark.parametrize(
    ("resource", "spec", "layout"), [("server", ServerSpec, form.SERVER), ("benchmark", BenchmarkSpec, form.BENCHMARK)]
)
def test_every_field_of_a_spec_is_on_the_page_or_listed_as_left_out(
    resource: str, spec: Any, layout: form.Layout
) -> None:
    shown = {field["path"].split(".")[0] for group in contents()[resource]["groups"] for field in group["fields"]}
    known = {field.alias for field in spec.model_fields.values()}
    lists_of_objects = {"thresholds"} & known
    whole = {path for path in (*layout.left_out, *layout.implied) if "." not in path}
    assert known - shown - lists_of_objects == whole


@pytest.mark.parametrize(("resource", "layout"), [("server", form.SERVER), ("benchmark", form.BENCHMARK)])
def test_every_object_on_the_page_can_be_completed(resource: str, layout: form.Layout) -> None:
    """All required fields of an object have a control if one of its fields has a control."""
    content = contents()[resource]
    shown = [field["path"] for group in content["groups"] for field in group["fields"]]

    def missing(node: Manifest, path: str) -> Iterator[str]:
        for name, below in node.get("properties", {}).items():
            inner = f"{path}{name}"
            if any(field.startswith(f"{inner}.") for field in shown):
                required = (f"{inner}.{each}" for each in below.get("required", ()))
                yield from (each for each in required if not any(f"{field}.".startswith(f"{each}.") for field in shown))
                yield from missing(below, f"{inner}.")

    spec = content["schema"]["properties"]["spec"]
    assert {*missing(spec, "")} <= {*layout.implied}


def test_a_new_field_joins_the_page_by_itself() -> None:
    spec: Manifest = {
        "properties": {
            "fresh": {"type": "integer"},
            "kvCache": {
                "description": "About it.",
                "properties": {
                    "maxTokens": {"type": "integer"},
                    "rules": {"type": "array", "items": {"properties": {}}},
                },
            },
        }
    }
    layout = form.Layout(first=(), left_out=())
    _, general, added = form.groups(spec, layout)
    assert [field["path"] for field in general["fields"]] == ["fresh"]
    assert (added["title"], added["about"]) == ("Kv cache", "About it.")
    assert added["fields"] == [{"path": "kvCache.maxTokens", "label": "Max tokens", "isWritten": False, "choices": {}}]


@pytest.mark.parametrize(
    "spec",
    [
        {"hardware": "h100"},
        {"tensorParallelism": 3},
        {"service": {"port": 0}},
        {"service": {"port": 65536}},
        {"engine": {"memoryFractionStatic": 0}},
        {"engine": {"memoryFractionStatic": 1}},
        {"engine": {"image": ""}},
        {"engine": {"version": "latest"}},
        {"engine": {"version": "v" * 65}},
        {"engine": {"extraArgs": ["x"] * 65}},
        {"service": {"annotations": {str(number): "" for number in range(33)}}},
    ],
    ids=str,
)
def test_each_bound_has_the_message_of_the_models(spec: Manifest) -> None:
    [problem] = check(make_server(**spec)).problems
    node = contents()["server"]["schema"]
    for name in problem.path.split("."):
        node = node["properties"][name]
    assert problem.message in [found["message"].replace("{}", "65") for found in node["checks"]]


def test_the_first_choices_are_those_of_the_recipe() -> None:
    first = contents()["server"]["groups"][0]["fields"]
    assert [(field["path"], list(field["choices"])) for field in first] == [
        ("hardware", ["mi300x", "mi325x", "mi355x"]),
        ("model.variant", ["instruct"]),
        ("reasoningParser", ["disabled", "enabled"]),
        ("toolCallParser", ["disabled", "enabled"]),
    ]
