"""The user guide's commands do what it says, in the order in which it gives them."""

import os
import re
import shlex
import subprocess
from pathlib import Path

from control_plane import LocalCluster
from integration.processes_under_test import COMMAND, Operator

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/user-guide.md"


def test_every_command_of_the_user_guide_succeeds(cluster: LocalCluster, operator: Operator) -> None:
    commands = _commands(GUIDE.read_text())
    assert {shlex.split(command)[0] for command in commands} == {"helm", "kubectl", "kimi-linear"}
    folders = [*map(str, cluster.bin), str(Path(COMMAND).parent), os.environ["PATH"]]
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "PATH": os.pathsep.join(folders)}
    for command in commands:
        done = subprocess.run(
            shlex.split(command), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"


def test_no_page_shows_commands_that_no_test_runs() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    assert [page.name for page in pages if page != GUIDE and _commands(page.read_text())] == []


def _commands(text: str) -> list[str]:
    blocks = re.findall(r"```(?:console|sh|shell|bash)\n(.*?)```", text, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.strip()]
