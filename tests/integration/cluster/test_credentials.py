"""Tokens are rotated, and refused for a while. The operator continues with the newest contents of its files."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from integration.faults import refuse
from integration.namespace import Namespace
from integration.sandbox import SANDBOX_ACCOUNT, Sandbox, Sandboxes

# The longest time in which the operator recovers from any fault.
_RECOVERY_SECONDS = 30.0


@dataclass(frozen=True)
class Rotation:
    """A sandbox whose operator reads its token from a file, as in a pod, and the next token."""

    sandbox: Sandbox
    file: Path
    next: str


@pytest.fixture
def rotation(sandboxes: Sandboxes, tmp_path: Path) -> Iterator[Rotation]:
    with sandboxes.open() as sandbox:
        kubeconfig, file = sandbox.operator.kubeconfig, tmp_path / "token"
        content = yaml.safe_load(kubeconfig.read_text())
        user = content["users"][0]["user"]
        file.write_text(user.pop("token"))
        user["tokenFile"] = str(file)
        kubeconfig.write_text(yaml.safe_dump(content))
        sandbox.operator.start()
        token = sandboxes.cluster.kubectl("create", "token", SANDBOX_ACCOUNT, "--namespace=kube-system").strip()
        yield Rotation(sandbox, file, token)


@pytest.mark.parametrize("late_seconds", [0.0, 8.0], ids=["in time", "too late"])
def test_a_rotated_token_is_used_for_watches_and_writes(rotation: Rotation, late_seconds: float) -> None:
    namespace, proxy = rotation.sandbox.namespace, rotation.sandbox.proxy
    namespace.create_server("kimi", {"tensorParallelism": 1})
    namespace.wait_until_ready("kimi")
    old = rotation.file.read_text()

    proxy.begin(refuse(401), lambda call: call.token == old)
    proxy.cut_watches()
    _change(namespace, 1)
    # The kubelet may write the file only after the API server has begun to refuse the old token.
    time.sleep(late_seconds)
    _replace(rotation.file, rotation.next)
    rotated = time.monotonic()

    namespace.wait_until_ready("kimi", _RECOVERY_SECONDS)
    _change(namespace, 2)
    namespace.wait_until_ready("kimi")
    answered = [call for call in proxy.calls if call.began > rotated and call.token == rotation.next]
    assert any(call.is_watch for call in answered)
    assert any(call.is_write for call in answered)
    assert rotation.sandbox.operator.is_running
    assert "Watching ended" not in rotation.sandbox.operator.told()


def test_a_token_that_is_refused_twice_is_used_again_once_it_is_accepted(sandbox: Sandbox) -> None:
    namespace, proxy = sandbox.namespace, sandbox.proxy
    namespace.create_server("kimi", {"tensorParallelism": 1})
    namespace.wait_until_ready("kimi")
    for number, seconds in enumerate((1.0, 8.0)):
        with proxy.fault(refuse(401)):
            proxy.cut_watches()
            _change(namespace, number)
            time.sleep(seconds)
        namespace.wait_until_ready("kimi", _RECOVERY_SECONDS)
    assert sandbox.operator.is_running
    assert "Watching ended" not in sandbox.operator.told()


def _replace(file: Path, text: str) -> None:
    """Replace a file atomically, as the kubelet does, so that no reader sees half of it."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def _change(namespace: Namespace, number: int) -> None:
    """Change a field so that there are new pods."""
    namespace.change_server("kimi", {"podTemplate": {"metadata": {"annotations": {"change": str(number)}}}})
