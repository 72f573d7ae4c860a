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
# Where the user has pushed the image. Nothing pulls it, because the nodes are simulated.
IMAGE = "registry.example.com/kimi-linear-operator"


def test_every_command_of_the_user_guide_succeeds(cluster: LocalCluster, operator: Operator) -> None:
    commands = _commands_of_the_guide()
    assert {shlex.split(command)[0] for command in commands} == {"helm", "kubectl", "kimi-linear"}
    folders = [*map(str, cluster.bin), str(Path(COMMAND).parent), os.environ["PATH"]]
    paths = {"KUBECONFIG": str(cluster.kubeconfig), "PATH": os.pathsep.join(folders)}
    for command in commands:
        done = _run(command, {**os.environ, **paths, "IMAGE": IMAGE})
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"


def test_the_command_that_installs_says_at_once_that_the_image_is_missing() -> None:
    [command] = [command for command in _commands_of_the_guide() if command.startswith("helm upgrade --install ")]
    done = _run(command, {name: value for name, value in os.environ.items() if name != "IMAGE"})
    assert done.returncode != 0
    assert "IMAGE: first set it to the repository of your image" in done.stderr
    assert "helm" not in done.stderr.lower()


def test_the_single_file_can_name_the_image(tmp_path: Path) -> None:
    text = (GUIDE / "install.md").read_text()
    [command] = re.findall(r"^\| one file \| `([^`]+)`", text, re.MULTILINE)
    (tmp_path / "deploy").mkdir()
    file = tmp_path / "deploy/install.yaml"
    file.write_text((ROOT / "deploy/install.yaml").read_text())
    assert _run(command, {**os.environ, "IMAGE": IMAGE}, tmp_path).returncode == 0
    images = re.findall(r"^ +image: (\S*kimi-linear-operator\S*)$", file.read_text(), re.MULTILINE)
    assert images
    assert [image for image in images if not image.startswith(f"{IMAGE}:")] == []


def test_every_shown_command_is_run_by_a_test() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("charts/*/*.md")]
    shown = {command for page in pages for command in _commands(page.read_text())}
    assert shown - {*_commands_of_the_guide()} == set()


def _commands_of_the_guide() -> list[str]:
    """Return the commands of all pages, in the order of the guide's list of pages."""
    pages = re.findall(r"^\| \[\w+\]\(([\w-]+\.md)\)", (GUIDE / "README.md").read_text(), re.MULTILINE)
    return [command for page in pages for command in _commands((GUIDE / page).read_text())]


def _run(command: str, environment: dict[str, str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command as a user's shell does."""
    shell = ["bash", "-c", command]
    return subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def _commands(text: str) -> list[str]:
    blocks = re.findall(r"```(?:console|sh|shell|bash)\n(.*?)```", text, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.strip()]
