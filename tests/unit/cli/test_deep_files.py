"""Deeply nested files are refused with a message, at any depth, and so are files whose aliases stand for very much."""

import json
from pathlib import Path

import pytest

from kimi_linear_operator.cli import main

DEEP = [70, 150, 1_000, 9_900]


def text(levels: int, form: str) -> str:
    manifest = {"apiVersion": "kimi-linear.io/v1alpha1", "kind": "KimiLinearServer", "metadata": {"name": "kimi"}}
    written = json.dumps({**manifest, "spec": {"podTemplate": {"spec": {"x": "HERE"}}}})
    deep = '{"a":' * levels + "1" + "}" * levels
    return written.replace('"HERE"', deep) if form == "json" else f"# YAML\n---\n{written}".replace('"HERE"', deep)


@pytest.mark.parametrize("levels", DEEP)
@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize("verb", ["validate", "render"])
def test_a_deeply_nested_file_is_refused_with_a_message(
    verb: str, form: str, levels: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"deep.{form}"
    file.write_text(text(levels, form))
    assert main([verb, "-f", str(file)]) in (1, 2)
    told = capsys.readouterr().err
    assert "nested" in told
    assert "64 levels" in told


def test_a_file_with_aliases_for_billions_of_values_is_refused_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))]
    file = tmp_path / "aliases.yaml"
    file.write_text("\n".join(lines))
    assert main(["validate", "-f", str(file)]) == 2
    assert "with its aliases, this has more than 1000000 keys and values" in capsys.readouterr().err
