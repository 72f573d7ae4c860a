"""Operators only for one test. Each watches one namespace, and reaches the API server only through a proxy."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from control_plane import LocalCluster
from integration.client import Client
from integration.fault_proxy import FaultProxy
from integration.faults import Matches
from integration.namespace import Namespace, temporary_namespace
from integration.permissions import grant
from integration.processes_under_test import Operator, log_for_failures
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import LEASE, Kind
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.runtime.lists import GATHER_SECONDS, REST
from passes import CHILDREN, OPTIONAL, RESOURCES

SANDBOX_ACCOUNT = "sandboxed-operator"
PAIR_ACCOUNTS = ("first-replica", "second-replica")
CURTAILED_ACCOUNTS = ("curtailed-operator", "curtailed-second-replica")
"""Operators whose roles are removed by tests. A forbidden request of such an operator is not a fault of the chart."""


def _is_list_of(kind: Kind) -> Matches:
    """Match a list with objects. kopf's own lists, before a watch, contain none."""
    return lambda call: (
        call.is_list and call.concerns(kind) and call.status == 200 and "fieldSelector" not in call.query
    )


def user_of(account: str) -> str:
    """Return the user name of an operator's service account in the audit log."""
    return f"system:serviceaccount:kube-system:{account}"


@dataclass(frozen=True)
class Sandbox:
    """A namespace, its operator, and the proxy between the operator and the API server.

    Attributes:
        others: More namespaces that the same operator looks after. The Lease is in the first namespace.
    """

    namespace: Namespace
    proxy: FaultProxy
    operator: Operator
    others: tuple[Namespace, ...] = ()

    def wait_for_resync(self) -> None:
        """Wait until the operator has listed everything after its start.

        Otherwise these lists would hide lost events of a watch.

        The cluster may not have optional kinds.
        """

        def unlisted() -> list[str]:
            needed = (kind for kind in (*CHILDREN, *RESOURCES) if kind not in OPTIONAL)
            return [kind.plural for kind in needed if not self.proxy.count(_is_list_of(kind))]

        wait_for(unlisted, "every kind was listed", lambda kinds: not kinds)

    def wait_until_lists_rest(self) -> None:
        """Wait for the list after the start of each watch, so that no more lists are due."""
        pause = REST.first + 2 * GATHER_SECONDS
        wait_for(self._seconds_since_list, "no more lists are due", lambda seconds: seconds > pause)

    def _seconds_since_list(self) -> float:
        return time.monotonic() - max(call.began for call in self.proxy.calls if call.is_list)

    def restart_after_crash(self) -> None:
        """Start the operator again, without a wait for the end of the dead operator's lease."""
        self.namespace.delete(LEASE, MANAGER)
        self.operator.start()


@dataclass(frozen=True)
class Sandboxes:
    """Opens sandboxes. The operator for all namespaces is stopped, because otherwise it would do their work."""

    cluster: LocalCluster
    client: Client
    everywhere: Operator

    @contextmanager
    def open(self) -> Iterator[Sandbox]:
        """Create a sandbox with an operator that is not started yet. At the end, it must stop on SIGTERM."""
        with temporary_namespace(self.client) as namespace, self._replica((namespace,), SANDBOX_ACCOUNT) as sandbox:
            yield sandbox

    @contextmanager
    def open_wide(self, namespaces: int, replicas: int = 1) -> Iterator[list[Sandbox]]:
        """Create replicas of an operator of several namespaces. Each namespace has a Role that a test can remove."""
        with ExitStack() as opened:
            places = tuple(opened.enter_context(temporary_namespace(self.client)) for _ in range(namespaces))
            accounts = CURTAILED_ACCOUNTS[:replicas]
            yield [opened.enter_context(self._replica(places, account)) for account in accounts]

    @contextmanager
    def open_pair(self) -> Iterator[tuple[Sandbox, Sandbox]]:
        """Make two sandboxes of one namespace, whose operators share a Lease and are different users."""
        first, second = PAIR_ACCOUNTS
        with (
            temporary_namespace(self.client) as namespace,
            self._replica((namespace,), first) as one,
            self._replica((namespace,), second) as other,
        ):
            yield one, other

    @contextmanager
    def _replica(self, namespaces: tuple[Namespace, ...], account: str) -> Iterator[Sandbox]:
        self.everywhere.stop()
        for place in namespaces:
            grant(self.client, place.name, account)
        namespace, *others = namespaces
        file = self.cluster.state / f"{namespace.name}-{account}"
        log = file.with_suffix(".log")
        looked_after = [f"--namespace={place.name}" for place in namespaces]
        arguments = (*looked_after, f"--lease={namespace.name}/{MANAGER}")
        with FaultProxy(self.cluster) as proxy:
            kubeconfig = proxy.kubeconfig_for(self._kubeconfig(account), file.with_suffix(".kubeconfig"))
            operator = Operator(kubeconfig, log, arguments)
            with log_for_failures(log):
                try:
                    yield Sandbox(namespace, proxy, operator, tuple(others))
                    assert operator.stop() == 0, "the operator's exit code after SIGTERM"
                finally:
                    operator.kill()

    def _kubeconfig(self, account: str) -> Path:
        file = self.cluster.state / f"kube-system-{account}.kubeconfig"
        return file if file.exists() else self.cluster.kubeconfig_of(account, "kube-system")
