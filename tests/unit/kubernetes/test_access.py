"""Access of pods to anything outside needs the administrator's permission, for any field that gives it."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kimi_linear_operator import cli
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes import access
from kimi_linear_operator.kubernetes.kinds import Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.resource_types import TYPES, check
from kimi_linear_operator.server.spec import SERVER
from make import make_benchmark, make_server, stored
from passes import Passes, new_cache


def reached(manifest: Manifest) -> list[str]:
    checked = check(manifest)
    assert checked.resource, checked.problems
    return access.beyond_pod(*TYPES[checked.resource.KIND].pod_templates(checked.resource))


def pod(**spec: Any) -> Manifest:
    return {"podTemplate": {"spec": spec}}


def container(name: str = "sglang", **fields: Any) -> Manifest:
    return pod(containers=[{"name": name, **fields}])


APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"security": {"seccompProfile": "RuntimeDefault", "capabilities": ["SYS_PTRACE", "DAC_OVERRIDE"]}},
        pod(volumes=[{"name": "cache", "persistentVolumeClaim": {"claimName": "c"}}], serviceAccountName="default"),
        container(securityContext={"capabilities": {"add": ["SYS_PTRACE"]}}, ports=[{"containerPort": 9090}]),
        container("sidecar", securityContext={"seccompProfile": {"type": "RuntimeDefault"}}),
        pod(securityContext={"sysctls": [{"name": "net.ipv4.tcp_keepalive_time", "value": "60"}]}),
        pod(tolerations=[{"operator": "Exists"}], priorityClassName="high"),
        {"inheritedMetadata": {"annotations": {f"{APP_ARMOR}sglang": "runtime/default", "team": "unconfined"}}},
        {"podTemplate": {"metadata": {"annotations": {f"{APP_ARMOR}sglang": "localhost/engine"}}}},
        pod(volumes=[{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}, {"downwardAPI": {}}]}}]),
    ],
    ids=str,
)
def test_pod_settings_without_outside_access_need_no_permission(spec: Manifest) -> None:
    assert reached(make_server(**spec)) == []


@pytest.mark.parametrize("container", ["router", "sglang"])
def test_an_annotation_that_only_the_replicas_override_is_seen_in_the_routers_pods(container: str) -> None:
    """The router's pods inherit these, but podTemplate has no effect on them."""
    name = f"{APP_ARMOR}{container}"
    spec: Any = {
        "inheritedMetadata": {"annotations": {name: "unconfined"}},
        "podTemplate": {"metadata": {"annotations": {name: "runtime/default"}}},
    }
    assert reached(make_server(**spec)) == []
    told = f"the AppArmor profile unconfined in container {container} (annotation {name})"
    assert reached(make_server(router={}, **spec)) == [told]
    server = make_server(router={}, **spec)
    cluster, cache = Applying(resource=server), new_cache()
    cache.put(SERVER, server)
    asyncio.run(Passes(cluster, cache).reconcile(Key("default", "kimi", SERVER)))
    assert (cluster.reasons, cluster.applied) == (["InvalidSpec"], [])


PRIVILEGED = {"privileged": True}
PTRACE = {"capabilities": {"add": ["SYS_PTRACE"]}}
UNCONFINED = {"type": "Unconfined"}
TOKEN = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
AUTOMOUNTED = "the token of a service account (automountServiceAccountToken)"


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (
            {"inheritedMetadata": {"annotations": {f"{APP_ARMOR}sglang": "unconfined"}}},
            f"the AppArmor profile unconfined in container sglang (annotation {APP_ARMOR}sglang)",
        ),
        (
            {"podTemplate": {"metadata": {"annotations": {f"{APP_ARMOR}warm": "unconfined"}}}},
            f"the AppArmor profile unconfined in container warm (annotation {APP_ARMOR}warm)",
        ),
        (
            pod(volumes=[{"name": "v", "projected": {"sources": [{"podCertificate": {"signerName": "s"}}]}}]),
            "a pod certificate (volume v)",
        ),
        (
            pod(volumes=[{"name": "v", "projected": {"sources": [{"nextYears": {}}]}}]),
            "a volume source that this operator does not know, nextYears (volume v)",
        ),
        (pod(hostPID=True), "hostPID: true"),
        (pod(hostIPC=True), "hostIPC: true"),
        ({"security": {"hostIPC": True}}, "hostIPC: true"),
        ({"security": {"capabilities": ["SYS_ADMIN"]}}, "the capability SYS_ADMIN in container sglang"),
        (
            container(securityContext={"capabilities": {"add": ["NET_RAW"]}}),
            "the capability NET_RAW in container sglang",
        ),
        (container("sidecar", securityContext=PTRACE), "the capability SYS_PTRACE in container sidecar"),
        (container("sidecar", securityContext=PRIVILEGED), "privileged: true in container sidecar"),
        (pod(initContainers=[{"name": "warm", "securityContext": PRIVILEGED}]), "privileged: true in container warm"),
        (
            pod(ephemeralContainers=[{"name": "debug", "securityContext": PRIVILEGED}]),
            "privileged: true in container debug",
        ),
        (
            pod(initContainers=[{"name": "sglang", "securityContext": PTRACE}]),
            "the capability SYS_PTRACE in container sglang",
        ),
        (
            container("sidecar", securityContext={"seccompProfile": UNCONFINED}),
            "the seccomp profile Unconfined in container sidecar",
        ),
        (pod(securityContext={"seccompProfile": UNCONFINED}), "the seccomp profile Unconfined in the pod"),
        (
            container(securityContext={"appArmorProfile": UNCONFINED}),
            "the AppArmor profile Unconfined in container sglang",
        ),
        (container(securityContext={"procMount": "Unmasked"}), "procMount: Unmasked in container sglang"),
        (container(securityContext={"seLinuxOptions": {"type": "spc_t"}}), "seLinuxOptions in container sglang"),
        (pod(securityContext={"windowsOptions": {"hostProcess": True}}), "hostProcess: true in the pod"),
        (pod(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}), "the sysctl kernel.msgmax"),
        (pod(volumes=[{"name": "x", "hostPath": {"path": "/"}}]), "the node's files (hostPath of volume x)"),
        (pod(serviceAccountName="admin"), "the service account admin"),
        (pod(serviceAccount="admin"), "the service account admin"),
        (pod(automountServiceAccountToken=True), AUTOMOUNTED),
        (pod(automountServiceAccountToken=None), AUTOMOUNTED),
        (pod(volumes=[TOKEN]), "the token of a service account (volume t)"),
        (
            container("sidecar", ports=[{"containerPort": 1, "hostPort": 80}]),
            "port 80 of the node for container sidecar",
        ),
        (
            container("sidecar", livenessProbe={"httpGet": {"host": "169.254.169.254", "port": 80}}),
            "169.254.169.254 (host of a probe or hook) from container sidecar",
        ),
        (
            container("sidecar", lifecycle={"postStart": {"tcpSocket": {"host": "10.0.0.1", "port": 22}}}),
            "10.0.0.1 (host of a probe or hook) from container sidecar",
        ),
    ],
    ids=str,
)
def test_access_beyond_the_pod_is_named(spec: Manifest, what: str) -> None:
    # The check of the pod has the SELinux options of the engine.
    assert [text for text in reached(make_server(**spec)) if "container preflight" not in text] == [what]


def test_access_of_a_benchmarks_pods_is_named_before_its_server_is_known() -> None:
    spec = pod(hostPID=True, volumes=[{"name": "x", "hostPath": {"path": "/"}}])
    assert reached(make_benchmark()) == []
    assert reached(make_benchmark(**spec)) == ["hostPID: true", "the node's files (hostPath of volume x)"]
    client = container("client", securityContext=PTRACE)
    assert reached(make_benchmark(**client)) == ["the capability SYS_PTRACE in container client"]


@pytest.mark.parametrize(
    "spec",
    [
        pod(securityContext="x", volumes=[{"name": "x", "projected": {"sources": "x"}}], ephemeralContainers="x"),
        container(lifecycle="x", livenessProbe=["x"], securityContext={"capabilities": {"add": "x"}}),
        container(securityContext={"capabilities": {"add": 7}}),
        container("sidecar", securityContext={"capabilities": 7}, ports=[{"containerPort": 1, "hostPort": "x"}]),
    ],
    ids=str,
)
def test_values_of_a_wrong_shape_are_left_to_the_api_server(spec: Manifest) -> None:
    assert isinstance(reached(make_server(**spec)), list)


def test_the_refusal_names_the_access_and_who_can_allow_it() -> None:
    assert access.refusal(["hostPID: true"]) == (
        "the pods would get access that is not allowed: hostPID: true. Remove this from podTemplate and security, or "
        "ask an administrator to run the operator with --allow-node-access (the chart's value allowNodeAccess)"
    )


def test_the_command_line_warns_about_access_that_only_some_operators_allow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kimi.yaml"
    file.write_text(json.dumps(make_server(**pod(hostPID=True))))
    assert cli.main(["validate", "-f", str(file)]) == 0
    told = capsys.readouterr()
    assert "KimiLinearServer kimi: valid" in told.out
    assert f"warning: spec.podTemplate: {access.refusal(['hostPID: true'])}" in told.err
    assert cli.main(["validate", "-f", str(file), "--output", "json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["items"]
    assert (report["valid"], [problem["severity"] for problem in report["problems"]]) == (True, ["warning"])


@dataclass
class Applying:
    """An empty cluster that records applied objects and statuses."""

    applied: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    resource: Manifest | None = None

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.resource if kind in (SERVER, BENCHMARK) else None

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        self.applied.append(kind.kind)
        return stored({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "2"}})

    async def apply_new(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self.apply(kind, manifest)

    async def patch_status(self, kind: Kind, manifest: Manifest, status: Manifest, **_: bool) -> Manifest:
        self.reasons += [item["reason"] for item in status["conditions"] if item["type"] == "Accepted"]
        return dict(manifest["metadata"])

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        return manifest


@pytest.mark.parametrize(("allows", "reason"), [(False, "InvalidSpec"), (True, "SpecValid")])
def test_the_administrator_decides_whether_access_beyond_the_pod_is_applied(allows: bool, reason: str) -> None:
    server = make_server(**pod(hostPID=True))
    cache, cluster = new_cache(), Applying(resource=server)
    cache.put(SERVER, server)
    reconciler = Passes(cluster, cache, allows_node_access=allows)
    asyncio.run(reconciler.reconcile(Key("default", "kimi", SERVER)))
    assert cluster.reasons == [reason]
    assert ("Deployment" in cluster.applied) == allows


def test_a_benchmark_with_access_beyond_the_pod_is_refused_too() -> None:
    benchmark = make_benchmark(**pod(hostPID=True))
    cache, cluster = new_cache(), Applying(resource=benchmark)
    cache.put(BENCHMARK, benchmark)
    asyncio.run(Passes(cluster, cache).reconcile(Key("default", "nightly", BENCHMARK)))
    assert (cluster.reasons, cluster.applied) == (["InvalidSpec"], [])
