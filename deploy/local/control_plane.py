"""A Kubernetes control plane on this machine.

etcd, API server, controllers and scheduler are real, and nodes are simulated.
"""

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

import processes
from binaries import CONTROL_PLANE, KUBERNETES, binary, ensure_built, kubernetes_version
from commands import LocalClusterError, end_group, last_lines
from kubectl import Kubectl
from lifecycle import Lifecycle
from nodes import SIMULATED, stages

_START_SECONDS = 120
# Below the ports of outgoing connections, and below the ports of NodePorts.
_PORTS = range(20000, 30000)
_PORT_OPTIONS = (
    "etcdPort",
    "etcdPeerPort",
    "kubeApiserverPort",
    "kubeControllerManagerPort",
    "kubeSchedulerPort",
    "kwokControllerPort",
)
# Reads are logged, too, because the tests count them. The level Metadata contains the user and the user agent of every
# request.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
# kwok reads its Stages from the cluster, so that a test can add its own.
_KWOK_RESOURCES = ["Stage", "Logs", "ClusterLogs"]
SERVICE_ADDRESSES = "10.96.0.0/14"
# The first address belongs to the API server's own Service.
API_SERVICE_ADDRESS = "10.96.0.1"
_CONTROLLERS = ["kube-controller-manager", "kube-scheduler", "kwok-controller"]


class LocalCluster(Lifecycle):
    """One control plane, started by kwokctl. All its files are in one folder.

    Without controllers, it consists only of etcd and the API server: objects are stored and watched, and nothing else
    happens. With an address, kubelets and pods reach the API server at this address. Otherwise the API server listens
    only on the loopback interface.
    """

    description = "a Kubernetes control plane, built from source"

    def __init__(self, state: Path, name: str, *, controllers: bool = True, address: str | None = None) -> None:
        self.state = state.resolve()
        self.name = name
        self.controllers = controllers
        self.address = address
        self.kubeconfig = self.state / "kubeconfig"
        self.audit_log = self._workdir / "logs" / "audit.log"
        self.kubectl = Kubectl(binary("kubectl"), self.kubeconfig)

    @property
    def bin(self) -> list[Path]:
        """The folders with kubectl and the other programs, for PATH."""
        return [binary(name).parent for name in ("kubectl", "kwokctl", "helm")]

    @property
    def server(self) -> str:
        """The address of the API server."""
        return str(_load(self.kubeconfig)["clusters"][0]["cluster"]["server"])

    def running(self) -> bool:
        """Whether all components run and are ready."""
        return self.kubeconfig.exists() and not self._dead() and self.kubectl.answers()

    def start(self) -> None:
        """Start it, unless it runs. First remove the remains of an earlier one."""
        if any(letter.isspace() for letter in str(self.state)):
            raise LocalClusterError(f"kwokctl does not work in a folder with a space in its name: {self.state}")
        ensure_built(CONTROL_PLANE)
        if self.running():
            return
        self.stop()
        try:
            self._create()
            self._settle()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all its processes, even if it never became ready, and remove its folder."""
        processes.kill_all(self.state)
        shutil.rmtree(self.state, ignore_errors=True)

    @contextmanager
    def ended(self) -> Iterator[Path]:
        """End its processes and yield etcd's folder. Afterwards, start them again with the contents of that folder."""
        self._kwokctl("stop")
        yield self._workdir / "etcd"
        self._kwokctl("start")
        self.kubectl.wait_until_ready()
        # Delete the Leases of the earlier kwok. Otherwise the new kwok would not simulate these nodes until the Leases
        # expire.
        self.kubectl("delete", "leases", "--all", "--namespace=kube-node-lease")

    def _kwokctl(self, verb: str) -> None:
        command = [str(binary("kwokctl")), verb, "cluster", f"--name={self.name}"]
        with (self.state / "kwokctl.log").open("a") as log:
            subprocess.run(command, env=self._environment(), stdout=log, stderr=log, check=True, timeout=_START_SECONDS)

    def kubeconfig_for(self, service_account: str, cluster_role: str) -> Path:
        """A kubeconfig of a service account in kube-system with this ClusterRole in all namespaces.

        The audit log names the user system:serviceaccount:kube-system:SERVICE_ACCOUNT.
        """
        self.kubectl.apply(_service_account(service_account, cluster_role))
        return self.kubeconfig_of(service_account, "kube-system")

    def kubeconfig_of(self, service_account: str, namespace: str) -> Path:
        """A kubeconfig of an existing service account, with a token that is valid for a day."""
        token = self.kubectl("create", "token", service_account, f"--namespace={namespace}", "--duration=24h").strip()
        content = _load(self.kubeconfig)
        content["users"] = [{"name": service_account, "user": {"token": token}}]
        content["contexts"][0]["context"]["user"] = service_account
        file = self.state / f"{namespace}-{service_account}.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(content))
        return file

    @property
    def pki(self) -> Path:
        """The folder with the cluster's certificates: ca.crt, and the administrator's admin.crt and admin.key."""
        return self._workdir / "pki"

    @property
    def _workdir(self) -> Path:
        """The folder in which kwokctl keeps the files of the cluster."""
        return self.state / "clusters" / self.name

    def _create(self) -> None:
        self.state.mkdir(parents=True)
        (self.state / "audit-policy.yaml").write_text(yaml.safe_dump(_AUDIT_POLICY))
        (self.state / "kwokctl.yaml").write_text(yaml.safe_dump(self._configuration()))
        config = f"--config={self.state / 'kwokctl.yaml'}"
        kubeconfig = f"--kubeconfig={self.kubeconfig}"
        command = [str(binary("kwokctl")), "create", "cluster", f"--name={self.name}", config, kubeconfig]
        with (self.state / "kwokctl.log").open("w") as log:
            process = subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log, start_new_session=True)
            try:
                self._wait_for(process)
            finally:
                end_group(process)
        if self.address:
            # kwokctl writes the loopback address, but in a pod or in another network this address is wrong.
            text = self.kubeconfig.read_text()
            self.kubeconfig.write_text(text.replace("https://127.0.0.1:", f"https://{self.address}:"))

    def _settle(self) -> None:
        """Wait until it can be used. With controllers, wait until nodes and pods work."""
        try:
            if self.controllers:
                self._bring_stages()
            self.kubectl.wait_until_ready()
        except LocalClusterError as error:
            self._raise_if_dead(error)
            raise

    def _bring_stages(self) -> None:
        """Apply the Stages, and wait until pods can be created. Pods need the default service account."""
        self.kubectl.wait_until_served("stages.kwok.x-k8s.io")
        self.kubectl.apply(stages())
        self.kubectl("wait", "--timeout=60s", "--for=create", "serviceaccount/default", "--namespace=default")

    def _raise_if_dead(self, cause: Exception | None = None) -> None:
        if dead := self._dead():
            raise LocalClusterError(self._failure(f"{dead} ended while the cluster started", f"{dead}.log")) from cause

    def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None:
            # kwokctl itself would keep waiting for a component that has already failed.
            self._raise_if_dead()
            if time.monotonic() > deadline:
                raise LocalClusterError(self._failure(f"The cluster was not ready after {_START_SECONDS} s"))
            time.sleep(0.1)
        if process.returncode:
            raise LocalClusterError(self._failure("kwokctl could not create the cluster"))

    def _dead(self) -> str | None:
        """A component that was started but has ended."""
        started = sorted(file.stem for file in (self._workdir / "pids").glob("*.pid"))
        alive = processes.of_cluster(self.state).values()
        return next((name for name in started if name not in alive), None)

    def _failure(self, what: str, component_log: str = "") -> str:
        log = self._workdir / "logs" / component_log if component_log else self.state / "kwokctl.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        return f"{what}. The last lines of {log.name}:\n{last_lines(text)}"

    def _configuration(self) -> dict[str, Any]:
        """The configuration of kwokctl: https://kwok.sigs.k8s.io/docs/user/configuration/."""
        return {
            "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
            "kind": "KwokctlConfiguration",
            "options": {
                "runtime": "binary",
                "bindAddress": "127.0.0.1",
                "kubeVersion": kubernetes_version(KUBERNETES.go_mod),
                "kubeAuditPolicy": str(self.state / "audit-policy.yaml"),
                "disableQPSLimits": True,
                **({"enableCRDs": _KWOK_RESOURCES} if self.controllers else {"disable": _CONTROLLERS}),
                **_binary_options(),
                **dict(zip(_PORT_OPTIONS, free_ports(len(_PORT_OPTIONS)), strict=True)),
                "kubeApiserverCertSANs": [API_SERVICE_ADDRESS, *([self.address] if self.address else ())],
            },
            "componentsPatches": [
                # etcd's data is deleted with the cluster, so it need not survive a crash of the machine.
                _patch("etcd", {"unsafe-no-fsync": "true"}),
                *self._api_server_patches(),
                *(_controllers_patches() if self.controllers else ()),
                *(_real_node_patches() if self.address else ()),
            ],
        }

    def _api_server_patches(self) -> list[dict[str, Any]]:
        arguments = {
            # The default is a /24, which is full after 254 Services.
            "service-cluster-ip-range": SERVICE_ADDRESSES,
            # Nothing uses 192.0.2.1. On a machine without a network, the API server does not start without an address.
            "advertise-address": self.address or "192.0.2.1",
            # As in OpenShift, a client may block an owner's deletion only if it has the permission to update the
            # owner's finalizers.
            "enable-admission-plugins": "OwnerReferencesPermissionEnforcement",
            "audit-log-maxsize": "1000",
            "audit-log-maxbackup": "1",
        }
        if not self.address:
            return [_patch("kube-apiserver", arguments)]
        arguments |= {
            "kubelet-client-certificate": str(self.pki / "admin.crt"),
            "kubelet-client-key": str(self.pki / "admin.key"),
            "kubelet-preferred-address-types": "InternalIP",
        }
        everywhere = _patch("kube-apiserver", {"bind-address": "0.0.0.0"}, override=True)  # noqa: S104 - in its own network
        return [_patch("kube-apiserver", arguments), everywhere]

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("KWOK_")}
        # kwokctl calls the first kubectl on PATH. Without one, it would download kubectl.
        path = os.pathsep.join([*map(str, self.bin), os.environ.get("PATH", os.defpath)])
        return own | {"KWOK_WORKDIR": str(self.state), "PATH": path}


def free_ports(count: int) -> list[int]:
    """Free ports of the loopback interface, picked at random."""
    ports: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                ports.append(port)
        if len(ports) == count:
            return ports
    raise LocalClusterError(f"All ports of 127.0.0.1 from {_PORTS[0]} to {_PORTS[-1]} are in use.")


def _load(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    return content


def _binary_options() -> dict[str, str]:
    return {
        "etcdBinary": str(binary("etcd")),
        "kubeApiserverBinary": str(binary("kube-apiserver")),
        "kubeControllerManagerBinary": str(binary("kube-controller-manager")),
        "kubeSchedulerBinary": str(binary("kube-scheduler")),
        "kwokControllerBinary": str(binary("kwok")),
    }


def _controllers_patches() -> list[dict[str, Any]]:
    [(key, value)] = SIMULATED.items()
    return [
        # Each component runs only once, so it needs no Lease. If the machine stopped for ten seconds, it would lose the
        # Lease and end. By default, autoscalers check every 15 s, which is too seldom for tests.
        _patch("kube-controller-manager", {"leader-elect": "false", "horizontal-pod-autoscaler-sync-period": "2s"}),
        _patch("kube-scheduler", {"leader-elect": "false"}),
        _patch("kwok-controller", {"manage-nodes-with-annotation-selector": f"{key}={value}"}),
        _patch("kwok-controller", {"manage-all-nodes": "false"}, override=True),
    ]


def _real_node_patches() -> list[dict[str, Any]]:
    """How long a kubelet may be silent. kwokctl sets 200 s, for many simulated nodes. Kubernetes' own value is 50 s."""
    return [_patch("kube-controller-manager", {"node-monitor-grace-period": "50s"}, override=True)]


def _patch(component: str, arguments: dict[str, str], override: bool = False) -> dict[str, Any]:
    extra = [{"key": key, "value": value, "override": override} for key, value in arguments.items()]
    return {"name": component, "extraArgs": extra}


def _service_account(name: str, cluster_role: str) -> list[dict[str, Any]]:
    subject = {"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "kube-system"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"{name}-{cluster_role}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role},
            "subjects": [subject],
        },
    ]
