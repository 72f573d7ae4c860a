"""The walkthrough's recordings of a terminal. Their commands are run, and the output is compared with the recordings.

Each is the block after a comment with its name: `<!-- recording: NAME -->`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from pod_cluster import PodCluster

ROOT = Path(__file__).parents[2]
WALKTHROUGH = ROOT / "docs/guide/walkthrough.md"

_PROMPT = "$ "
# The benchmark takes longest: four suites, each in a pod of its own.
_COMMAND_SECONDS = 600
# The parts that differ in each run: times, other numbers, and generated names.
_CHANGING = (
    # On kind, where GPUs are only a number, no pod has the check, and the node has another name.
    (r"(?m)^(preflight |.* Init container preflight: ).*\n", ""),
    (r"(?m)(^.* Pod \S+ on )\S+:", r"\1NODE:"),
    # A command that follows a resource may see different states, depending on the machine.
    (r"(?m)^[-0-9T:]+Z \S+ is not ready: .*\n", ""),
    # Generated names have no vowels, but the hash of a Job that fetches is hexadecimal.
    (r"-fetch-[0-9a-f]{6}\b", "-fetch-HASH"),
    (r"-[b-df-hj-np-tv-xz24-9]{5,10}\b", "-NAME"),
    # Answers of a model with random weights.
    (r'(?m)^".*"$', "NONSENSE"),
    (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) .*", "DATE"),
    (r"\d+(\.\d+)?(h|m|s)(\d+s)?\b", "AGE"),
    (r"\d+([.,]\d+)*", "NUMBER"),
    # Speeds of this machine.
    (r"(?m)\b(better|worse|same)$", "CHANGE"),
    # The width of a column depends on its contents.
    (r" {2,}", " "),
    (r"-{2,}", "-"),
)


def _block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- recording: {name} -->\n```text\n).*?(?=```)", re.DOTALL)


def shown(name: str) -> str:
    """Return a recording as the walkthrough shows it."""
    found = _block(name).search(WALKTHROUGH.read_text())
    assert found, f"the walkthrough has no block after <!-- recording: {name} -->"
    return found[0]


def record(cluster: PodCluster, name: str) -> str:
    """Run a recording's commands, and return what a terminal would show."""
    typed = [line for line in shown(name).splitlines() if line.startswith(_PROMPT)]
    lines = [f"{line}\n{output_of(cluster, line.removeprefix(_PROMPT))}".rstrip() for line in typed]
    return "\n\n".join(lines) + "\n"


def output_of(cluster: PodCluster, command: str) -> str:
    """Return the output of a command in the root folder of the project."""
    folders = [*map(str, cluster.bin), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "PATH": os.pathsep.join(folders)}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_COMMAND_SECONDS,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{_explanation(cluster)}"
    return done.stdout


def _explanation(cluster: PodCluster) -> str:
    """Return the cluster's state that helps to find out why a command failed."""
    pods = cluster.kubectl("get", "pods", "--all-namespaces", "--output=wide")
    return pods + cluster.kubectl("events", "--all-namespaces", "--types=Warning")


def compare(name: str, recorded: str, *, update: bool) -> None:
    """Fail if the walkthrough shows another recording. With `update`, first replace the shown recording."""
    if update:
        WALKTHROUGH.write_text(_block(name).sub(lambda _: recorded, WALKTHROUGH.read_text()))
    assert _without_numbers(shown(name)) == _without_numbers(recorded), "run pytest with --update-golden"


def _without_numbers(recording: str) -> str:
    """Return a recording without the parts that differ in every run."""
    for pattern, word in _CHANGING:
        recording = re.sub(pattern, word, recording)
    return recording
