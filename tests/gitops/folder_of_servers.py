"""Our example of a folder of servers in Git.

Commits that change it, waits for their effect, and the end of the clients of its gate (a benchmark).
"""

from pathlib import Path

from gitops.controllers import TOOL_SECONDS
from gitops.git_host import Repository
from integration.client_pods import end_suite, result, running_pod
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, Manifest
from kimi_linear_operator.server.spec import SERVER

FOLDER = Path("deploy/gitops/servers")
NAMESPACE = "inference"
_KIMI = FOLDER / "kimi.yaml"


def change_kimi(repository: Repository, **changes: Manifest) -> str:
    """Commit changes to parts of the server; return the commit."""
    kimi = repository.read(_KIMI)
    repository.write(_KIMI, {**kimi, **{key: {**kimi[key], **part} for key, part in changes.items()}})
    return repository.push("A change to the server")


def change_everything(repository: Repository, name: str, **spec: object) -> str:
    """Replace all files by a server with this name and spec, and commit. Return the commit."""
    repository.write(_KIMI, {**repository.read(_KIMI), "metadata": {"name": name}, "spec": spec})
    repository.write(FOLDER / "kustomization.yaml", {"namespace": NAMESPACE, "resources": ["kimi.yaml"]})
    return repository.push("One server, and no gate")


def wait_until_pruned(models: Namespace, name: str) -> None:
    """Wait until a server and its Deployment are gone. The garbage collector notices new kinds late."""
    wait_for(lambda: not models.find(SERVER, name), f"the server {name} is pruned", seconds=TOOL_SECONDS)
    wait_for(lambda: not models.find(DEPLOYMENT, name), "the server's Deployment is deleted", seconds=TOOL_SECONDS)


def wait_until_repaired(models: Namespace) -> None:
    """Wait until the server has the hardware of its file in Git again."""

    def hardware() -> str:
        return str(models.server("kimi")["spec"]["hardware"])

    wait_for(hardware, "the hardware is repaired", lambda it: it == "mi300x", TOOL_SECONDS)


def end_gate(models: Namespace, **metrics: float) -> None:
    """Let the gate's clients succeed with the recipe's numbers, except for these numbers of the first suite."""
    running_pod(models, "gate", "speed-low", TOOL_SECONDS)
    end_suite(models, "gate", "speed-low", result("speed-low", metrics))
    running_pod(models, "gate", "gsm8k", TOOL_SECONDS)
    end_suite(models, "gate", "gsm8k")
