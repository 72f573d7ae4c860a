"""Operators of a test's own: each looks after one namespace, and reaches the API server only through a proxy."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from control_plane import LocalCluster
from integration.client import Client
from integration.fault_proxy import FaultProxy
from integration.namespace import Namespace, temporary_namespace
from integration.processes_under_test import Operator
from integration.waiting import wait_for
from kimi_linear_operator.resources import SERVER
from kimi_linear_operator.resources.kinds import LEASE
from kimi_linear_operator.resources.metadata import MANAGER

logger = logging.getLogger(__name__)

SANDBOX_ACCOUNT = "sandboxed-operator"
SANDBOX_USER = f"system:serviceaccount:kube-system:{SANDBOX_ACCOUNT}"

_LONGEST_LOG = 6000


@dataclass(frozen=True)
class Sandbox:
    """A namespace, the operator that looks after it alone, and the proxy between it and the API server."""

    namespace: Namespace
    proxy: FaultProxy
    operator: Operator

    def wait_for_resync(self) -> None:
        """Wait until the operator has listed everything ten seconds after its start, which hides what watches lose."""

        def lists() -> int:
            return self.proxy.count(lambda call: call.is_list and call.concerns(SERVER))

        # Before it starts to watch, kopf before each watch, and the one that is meant.
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
    def open(self, account: str = SANDBOX_ACCOUNT) -> Iterator[Sandbox]:
        """Make a sandbox, whose operator is not started yet; afterwards that must end as it is told."""
        self.everywhere.stop()
        with temporary_namespace(self.client) as namespace, FaultProxy(self.cluster) as proxy:
            kubeconfig = proxy.kubeconfig_for(self._kubeconfig(account), self._file(namespace, "kubeconfig"))
            log = self._file(namespace, "log")
            lease = f"{namespace.name}/{MANAGER}"
            operator = Operator(kubeconfig, log, ("--namespace", namespace.name, "--lease", lease))
            try:
                yield Sandbox(namespace, proxy, operator)
                assert operator.stop() == 0, "the operator's exit code after SIGTERM"
            except BaseException:
                logger.error(
                    "The operator's log ends with:\n%s", log.read_text()[-_LONGEST_LOG:] if log.exists() else ""
                )
                raise
            finally:
                operator.kill()

    def _kubeconfig(self, account: str) -> Path:
        file = self.cluster.state / f"{account}.kubeconfig"
        return file if file.exists() else self.cluster.kubeconfig_for(account, "cluster-admin")

    def _file(self, namespace: Namespace, suffix: str) -> Path:
        return self.cluster.state / f"{namespace.name}.{suffix}"
