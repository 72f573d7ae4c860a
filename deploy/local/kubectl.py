"""kubectl, bound to one cluster."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import LocalClusterError, run, succeeds


@dataclass(frozen=True)
class Kubectl:
    """Calls kubectl with one kubeconfig."""

    program: Path
    kubeconfig: Path | None
    """None for what the variable KUBECONFIG says."""

    def __call__(self, *arguments: str, stdin: str = "", timeout: float = 60) -> str:
        """The output of kubectl with these arguments; LocalClusterError if it fails."""
        return run([*self._command, *arguments], stdin=stdin, timeout=timeout)

    def apply(self, manifests: Sequence[dict[str, Any]]) -> None:
        """Apply these manifests, server-side."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        manager = "--field-manager=kimi-linear-local-cluster"
        self("apply", "--server-side", "--force-conflicts", manager, "--filename=-", stdin=json.dumps(items))

    def answers(self) -> bool:
        """Whether the API server is there and ready."""
        return succeeds([*self._command, "get", "--raw=/readyz", "--request-timeout=5s"])

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Wait for the API server, its default roles included."""
        deadline = time.monotonic() + seconds
        while not self.answers():
            if time.monotonic() > deadline:
                raise LocalClusterError(f"The API server was not ready after {seconds:.0f} s.")
            time.sleep(0.1)

    @property
    def _command(self) -> list[str | Path]:
        return [self.program, f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else [self.program]
