"""Protects existing clusters. Only clusters that are made for tests are used."""

import os
import shutil
from pathlib import Path

import yaml

from binaries import binary
from commands import LocalClusterError
from kubectl import Kubectl

# The usual tools give such context names to clusters on the user's own machine.
TEST_CONTEXTS = (
    "kind-",
    "k3d-",
    "minikube",
    "kwok-",
    "kimi-linear-",
    "docker-desktop",
    "rancher-desktop",
    "colima",
)


def is_test_context(context: str) -> bool:
    """Whether a context's name says that its cluster is for tests."""
    return context.startswith(TEST_CONTEXTS)


def current_context(kubeconfig: str) -> str:
    """The current context of a KUBECONFIG value. As with kubectl, the first file with a context counts."""
    for file in filter(None, kubeconfig.split(os.pathsep)):
        content = yaml.safe_load(Path(file).read_text()) if Path(file).exists() else None
        if context := (content or {}).get("current-context"):
            return str(context)
    raise LocalClusterError(f"KUBECONFIG is set to {kubeconfig}, which has no current context. Unset it, or set one.")


def checked_cluster(kubeconfig: str) -> Kubectl:
    """The cluster that KUBECONFIG points at, if its name says that it is for tests."""
    context = current_context(kubeconfig)
    if not is_test_context(context):
        raise LocalClusterError(
            f"Refused: KUBECONFIG points at the context {context}, which does not look like a test cluster.\n"
            f"The names of test clusters start with {', '.join(TEST_CONTEXTS)}.\n"
            "Run `unset KUBECONFIG` to start a local cluster instead, or point it at a test cluster."
        )
    program = shutil.which("kubectl") or binary("kubectl")
    # kubectl's option --kubeconfig takes one file, but the variable may list several.
    return Kubectl(Path(program), None)
