"""Completion: the words that a shell and kubectl get. The command runs as a process."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kimi_linear_operator.cli import VERBS, main
from kimi_linear_operator.cli.completion import SHELLS

ROOT = Path(__file__).parents[3]


def run(code: str, *words: str, environment: dict[str, str] | None = None) -> str:
    """Return the command's standard output and its output to file descriptor 8, without a cluster."""
    python = [sys.executable, "-c", f"import sys; from kimi_linear_operator import cli; {code}", *words]
    variables = {**os.environ, "KUBECONFIG": "/nowhere", **(environment or {})}
    command = ["bash", "-c", '"$@" 8>&1', "bash", *python]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=60).stdout


def asked_by_kubectl(*words: str) -> list[str]:
    *found, directive = run("sys.exit(cli.complete_plugin())", *words).splitlines()
    assert directive == ":4"
    return found


def asked_by_a_shell(line: str) -> list[str]:
    """Return the words that the bash script gets from file descriptor 8."""
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    return run("cli.main()", environment=asked).split()


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script_for_the_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "kimi-linear" in capsys.readouterr().out


def test_bash_can_read_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    script = capsys.readouterr().out
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\ncomplete -p kimi-linear"], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("kimi-linear\n")


def test_a_shell_completes_verbs_options_and_values() -> None:
    assert set(asked_by_a_shell("kimi-linear ")) >= set(VERBS)
    assert asked_by_a_shell("kimi-linear sta") == ["status"]
    assert "--watch" in asked_by_a_shell("kimi-linear status --")
    assert asked_by_a_shell("kimi-linear command --hardware mi32") == ["mi325x"]


def test_kubectl_completes_the_same_words() -> None:
    assert asked_by_kubectl("sta") == ["status"]
    assert set(asked_by_kubectl("")) >= set(VERBS)
    assert "--watch" in asked_by_kubectl("status", "--")
    assert asked_by_kubectl("command", "--hardware", "mi32") == ["mi325x"]


def test_without_a_cluster_no_name_is_completed() -> None:
    assert asked_by_kubectl("status", "ki") == []


def test_kubectl_finds_the_plugin_and_its_completion_by_their_names() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["kubectl-kimi_linear"] == "kimi_linear_operator.cli:plugin"
    assert scripts["kubectl_complete-kimi_linear"] == "kimi_linear_operator.cli:complete_plugin"


def test_the_plugins_help_uses_the_name_that_users_type() -> None:
    assert run("sys.exit(cli.plugin())", "--help").startswith("usage: kubectl kimi-linear ")
