"""kubectl, bound to one cluster."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import LocalClusterError, run, succeeds

_SECONDS_TO_ANSWER = 60


@dataclass(frozen=True)
class Kubectl:
    """Calls kubectl with one kubeconfig."""

    program: Path
    kubeconfig: Path | None
    """None for the kubeconfig of the variable KUBECONFIG."""

    def __call__(self, *arguments: str, stdin: str = "", timeout: float = 60) -> str:
        """The output of kubectl with these arguments. Raises LocalClusterError if it fails."""
        return run([*self._command, *arguments], stdin=stdin, timeout=timeout)

    def apply(self, manifests: Sequence[dict[str, Any]]) -> None:
        """Apply these manifests, server-side."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        manager = "--field-manager=kimi-linear-local-cluster"
        self("apply", "--server-side", "--force-conflicts", manager, "--filename=-", stdin=json.dumps(items))

    def answers(self) -> bool:
        """Whether the API server answers and is ready."""
        return succeeds([*self._command, "get", "--raw=/readyz", "--request-timeout=5s"])

    def wait_until_ready(self) -> None:
        """Wait for the API server and its default roles."""
        _wait_until(self.answers, "become ready")

    def wait_until_served(self, *kinds: str) -> None:
        """Wait until objects of these kinds can be read. The kinds have the names of their definitions.

        `kubectl wait` fails while a definition has no status, and the API server serves a kind only some time after its
        definition is established.
        """
        _wait_until(lambda: all(self._serves(kind) for kind in kinds), f"serve {' and '.join(kinds)}")

    def _serves(self, kind: str) -> bool:
        return succeeds([*self._command, "get", kind, "--all-namespaces", "--output=name"])

    @property
    def _command(self) -> list[str | Path]:
        return [self.program, f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else [self.program]


def _wait_until(holds: Callable[[], bool], wanted: str) -> None:
    """Wait until a condition about the API server is true. Raises LocalClusterError if this takes too long."""
    deadline = time.monotonic() + _SECONDS_TO_ANSWER
    while not holds():
        if time.monotonic() > deadline:
            raise LocalClusterError(f"The API server did not {wanted} within {_SECONDS_TO_ANSWER} s.")
        time.sleep(0.1)
