"""Completion in real shells and by kubectl: Tab after the beginning of a name gives the name of a server."""

import os
import pty
import select
import shlex
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

import debian
from commands import LocalClusterError, run
from control_plane import LocalCluster
from integration.namespace import Namespace
from integration.processes_under_test import COMMAND

pytestmark = pytest.mark.usefixtures("no_operator")

SERVER = "unmistakable"
LINE = "kimi-linear status unmis"
_SECONDS = 60
# A user's settings before the line of the install guide is added.
_INTERACTIVE = {
    "bash": ("bash --norc --noprofile -i", 'eval "$(kimi-linear completion bash)"'),
    "zsh": ("zsh -f -i", 'autoload -Uz compinit && compinit -u -D; eval "$(kimi-linear completion zsh)"'),
}


@pytest.fixture
def environment(cluster: LocalCluster, namespace: Namespace, tmp_path: Path) -> dict[str, str]:
    """The variables of a user whose kubeconfig leads to a namespace with a server."""
    namespace.create_server(SERVER)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(cluster.kubeconfig.read_text())
    folders = [*map(str, cluster.bin), str(Path(COMMAND).parent), os.environ["PATH"]]
    variables = {"KUBECONFIG": str(kubeconfig), "PATH": os.pathsep.join(folders), "TERM": "dumb", "PS1": "ready$ "}
    found = {**os.environ, **variables, "HOME": str(tmp_path)}
    run(["kubectl", "config", "set-context", "--current", f"--namespace={namespace.name}"], env=found)
    return found


def ensure_installed(shell: str) -> None:
    """Install a shell, or skip."""
    try:
        debian.ensure_installed({shell: shell})
    except LocalClusterError as error:
        pytest.skip(str(error))


class Terminal:
    """A shell in a terminal."""

    def __init__(self, command: str, environment: Mapping[str, str]) -> None:
        self._main, replica = pty.openpty()
        self._process = subprocess.Popen(
            shlex.split(command),
            env=environment,
            stdin=replica,
            stdout=replica,
            stderr=replica,
            start_new_session=True,
        )
        os.close(replica)

    def type(self, text: str) -> None:
        """Type text."""
        os.write(self._main, text.encode())

    def wait_for(self, text: str) -> str:
        """Wait until the shell has shown this text. Return the output since the last call."""
        shown, deadline = "", time.monotonic() + _SECONDS
        while text not in shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{text} did not come in {_SECONDS} s:\n{shown}"
            if select.select([self._main], [], [], left)[0]:
                shown += os.read(self._main, 65536).decode(errors="replace")
        return shown

    def close(self) -> None:
        """End the shell."""
        self._process.kill()
        self._process.wait()
        os.close(self._main)


@pytest.mark.parametrize("shell", _INTERACTIVE)
def test_tab_completes_the_name_of_a_server(shell: str, environment: dict[str, str]) -> None:
    ensure_installed(shell)
    command, prepare = _INTERACTIVE[shell]
    terminal = Terminal(command, environment)
    try:
        # The shell shows typed text, too. So the awaited text is typed in another form.
        terminal.type(f"{prepare}; echo pre''pared\n")
        terminal.wait_for("prepared")
        terminal.type(f"{LINE}\t")
        terminal.wait_for(SERVER)
    finally:
        terminal.close()


def test_fish_completes_the_name_of_a_server(environment: dict[str, str]) -> None:
    ensure_installed("fish")
    script = f"kimi-linear completion fish | source; complete --do-complete='{LINE}'"
    assert run(["fish", "--no-config", "--command", script], env=environment) == f"{SERVER}\n"


def test_kubectl_completes_the_name_of_a_server(environment: dict[str, str]) -> None:
    words = run(["kubectl", "__complete", "kimi-linear", "status", "unmis"], env=environment).splitlines()
    assert words == [SERVER, ":4"]
