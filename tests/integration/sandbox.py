"""Operators of a test's own: each looks after one namespace, and reaches the API server only through a proxy."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from control_plane import LocalCluster
from integration.client import Client
from integration.fault_proxy import FaultProxy
from integration.namespace import Namespace, temporary_namespace
from integration.permissions import grant
from integration.processes_under_test import Operator, log_for_failures
from integration.waiting import wait_for
from kimi_linear_operator.resources import SERVER
from kimi_linear_operator.resources.kinds import LEASE
from kimi_linear_operator.resources.metadata import MANAGER

SANDBOX_ACCOUNT = "sandboxed-operator"
PAIR_ACCOUNTS = ("first-replica", "second-replica")


def user_of(account: str) -> str:
    """Return what the audit log calls a service account of an operator."""
    return f"system:serviceaccount:kube-system:{account}"


@dataclass(frozen=True)
class Sandbox:
    """A namespace, the operator that looks after it alone, and the proxy between it and the API server."""

    namespace: Namespace
    proxy: FaultProxy
    operator: Operator

    def wait_for_resync(self) -> None:
        """Wait until the operator has listed everything after its start: that would hide what watches lose."""

        def lists() -> int:
            return self.proxy.count(lambda call: call.is_list and call.concerns(SERVER))

        # Whether they can be listed, kopf before each watch, and the one that is meant.
        wait_for(lists, "servers were listed three times", lambda count: count >= 3)

    def restart_after_crash(self) -> None:
        """Start the operator again; nobody has to wait until the lease of the dead one runs out."""
        self.namespace.delete(LEASE, MANAGER)
        self.operator.start()


@dataclass(frozen=True)
class Sandboxes:
    """Opens sandboxes. The operator for all namespaces is stopped: what one leaves undone, the other would do."""

    cluster: LocalCluster
    client: Client
    everywhere: Operator

    @contextmanager
    def open(self) -> Iterator[Sandbox]:
        """Make a sandbox, whose operator is not started yet; afterwards that must end as it is told."""
        with temporary_namespace(self.client) as namespace, self._replica(namespace, SANDBOX_ACCOUNT) as sandbox:
            yield sandbox

    @contextmanager
    def open_pair(self) -> Iterator[tuple[Sandbox, Sandbox]]:
        """Make two sandboxes of one namespace, whose operators share a Lease and are different users."""
        first, second = PAIR_ACCOUNTS
        with (
            temporary_namespace(self.client) as namespace,
            self._replica(namespace, first) as one,
            self._replica(namespace, second) as other,
        ):
            yield one, other

    @contextmanager
    def _replica(self, namespace: Namespace, account: str) -> Iterator[Sandbox]:
        self.everywhere.stop()
        grant(self.client, namespace.name, account)
        file = self.cluster.state / f"{namespace.name}-{account}"
        log = file.with_suffix(".log")
        arguments = ("--namespace", namespace.name, "--lease", f"{namespace.name}/{MANAGER}")
        with FaultProxy(self.cluster) as proxy:
            kubeconfig = proxy.kubeconfig_for(self._kubeconfig(account), file.with_suffix(".kubeconfig"))
            operator = Operator(kubeconfig, log, arguments)
            with log_for_failures(log):
                try:
                    yield Sandbox(namespace, proxy, operator)
                    assert operator.stop() == 0, "the operator's exit code after SIGTERM"
                finally:
                    operator.kill()

    def _kubeconfig(self, account: str) -> Path:
        file = self.cluster.state / f"{account}.kubeconfig"
        return file if file.exists() else self.cluster.kubeconfig_of(account, "kube-system")
