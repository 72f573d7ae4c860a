"""The page of the command line says what `--help` says."""

import re

import pytest

from kimi_linear_operator import cli
from kimi_linear_operator.cli import VERBS
from kimi_linear_operator.reference import command_line


def rows(verb: str) -> list[list[str]]:
    """Return the cells of the table of a verb's arguments."""
    section = command_line.page().split(f"\n## kimi-linear {verb}\n")[1].partition("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_the_arguments_and_the_texts_of_its_help(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    # Otherwise the help breaks words at hyphens.
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    told = capsys.readouterr().out
    options = set(re.findall(r"--[a-z][\w-]*", told.partition("\n\n")[2])) - {"--help"}
    listed = rows(verb)
    assert listed
    assert {name for names, *_ in listed for name in re.findall(r"`(--[\w-]+)`", names)} == options
    assert [text for *_, text in listed if words(text) not in words(told)] == []
