"""For both tools: controllers and operator as processes, and our examples with the address of our Git host."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from chart import ROOT
from commands import end_group, last_lines
from control_plane import LocalCluster
from gitops.git_host import GIT_CONFIGURATION, Repository
from integration.processes_under_test import operator_of_release
from kimi_linear_operator.kubernetes.kinds import Manifest

GITOPS = ROOT / "deploy/gitops"
# The time limit for a tool on a busy machine. On an idle machine, it takes a few seconds.
TOOL_SECONDS = 180.0
# Git would use a proxy for the loopback interface, too.
_NO_PROXY = dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1")


@contextmanager
def controller(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a controller with its log in a file. It must not end before the end of the block."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=file,
            stderr=file,
            env=os.environ | GIT_CONFIGURATION | _NO_PROXY | dict(environment or {}),
            start_new_session=True,
        )
    try:
        yield
        assert process.poll() is None, f"{command[0]} ended:\n{last_lines(log.read_text(), 20)}"
    finally:
        end_group(process)


@contextmanager
def running_operator(cluster: LocalCluster, log: Path) -> Iterator[None]:
    """Run the operator as the service account of the release, whose own pods do nothing on simulated nodes.

    It must exit with code 0 after SIGTERM.
    """
    process = operator_of_release(cluster, log)
    try:
        process.start()
        yield
        assert process.stop() == 0
    finally:
        process.kill()


def example(file: Path, repository: Repository) -> list[Manifest]:
    """Return the objects of an example, with our Git host in place of the example's."""
    text = file.read_text().replace("https://git.example.com", repository.host)
    return [document for document in yaml.safe_load_all(text) if document]
