"""The commands of the user guide work as the guide says, in the order of the guide."""

import os
import re
import shlex
import subprocess
from pathlib import Path

from control_plane import LocalCluster
from integration.processes_under_test import COMMAND, Operator

ROOT = Path(__file__).parents[3]
GUIDE = ROOT / "docs/guide"


def test_every_command_of_the_user_guide_succeeds(cluster: LocalCluster, operator: Operator) -> None:
    commands = _commands_of_the_guide()
    assert {shlex.split(command)[0] for command in commands} == {"helm", "kubectl", "kimi-linear"}
    folders = [*map(str, cluster.bin), str(Path(COMMAND).parent), os.environ["PATH"]]
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "PATH": os.pathsep.join(folders)}
    for command in commands:
        done = subprocess.run(
            shlex.split(command), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"


def test_every_shown_command_is_run_by_a_test() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("charts/*/*.md")]
    shown = {command for page in pages for command in _commands(page.read_text())}
    assert shown - {*_commands_of_the_guide()} == set()


def _commands_of_the_guide() -> list[str]:
    """Return the commands of all pages, in the order of the guide's list of pages."""
    pages = re.findall(r"^\| \[\w+\]\(([\w-]+\.md)\)", (GUIDE / "README.md").read_text(), re.MULTILINE)
    return [command for page in pages for command in _commands((GUIDE / page).read_text())]


def _commands(text: str) -> list[str]:
    blocks = re.findall(r"```(?:console|sh|shell|bash)\n(.*?)```", text, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.strip()]
