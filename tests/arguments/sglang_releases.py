"""The real argument parsers of SGLang's releases, each in a separate process."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import packages
from binaries import cache_folder

_TESTS = Path(__file__).parents[1]
_REQUIREMENTS = _TESTS.parent / "requirements"
RELEASES = {"0.5.7": "sglang.txt", "0.5.23": "sglang-newest.txt"}
"""The release of the recipe and the newest release, each with the file that pins it."""


@dataclass(frozen=True)
class Parsed:
    """The result of a module's parser for a command line."""

    error: str | None
    arguments: Mapping[str, Any]


def parse(release: str, commands: Sequence[Sequence[str]]) -> list[Parsed]:
    """Return the results of a release's parser for command lines (`python3 -m MODULE ARGUMENTS`)."""
    assert all(list(command[:2]) == ["python3", "-m"] for command in commands)
    answers = _ask(release, [list(command[2:]) for command in commands])
    return [Parsed(answer.get("error"), answer.get("arguments", {})) for answer in answers]


@cache
def spellings(release: str, *command: str) -> Mapping[str, str]:
    """Return every spelling of a module's options and the setting of each, given a command line that it accepts."""
    answer: Mapping[str, str] = _ask(release, [list(command)], "spellings")
    return answer


def _ask(release: str, commands: list[list[str]], *options: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "arguments.parse", *options],
        input=json.dumps(commands),
        env={"PYTHONPATH": f"{_package(release)}{os.pathsep}{_TESTS}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@cache
def _package(release: str) -> Path:
    requirements = [_REQUIREMENTS / RELEASES[release], _REQUIREMENTS / "sglang-arguments.txt"]
    return packages.installed(cache_folder(), f"sglang-{release}", f"SGLang {release} without its engine", requirements)
