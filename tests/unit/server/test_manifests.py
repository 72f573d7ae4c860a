"""Properties of the objects for any spec. The golden files contain whole objects."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server import manifests
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server

# As AMD's node labeller writes it: the partition mode of the GPUs, and the partition mode of their memory.
NO_PARTITIONS: Manifest = {
    "key": "amd.com/gpu.compute-memory-partition",
    "operator": "NotIn",
    "values": [f"{compute}_nps{memory}" for compute in ("cpx", "dpx", "qpx", "tpx") for memory in (1, 2, 4, 8)],
}


def no_parts(compute_units: list[str]) -> Manifest:
    """Exclude nodes whose GPUs have one of these numbers of compute units: such GPUs are partitions."""
    return {"key": "amd.com/gpu.cu-count", "operator": "NotIn", "values": compute_units}


SHARED_MEMORY = "/dev/shm"  # noqa: S108 - in the container
AMD64 = {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def build(name: str = "kimi", **spec: Any) -> list[Manifest]:
    return manifests.build(KimiLinearServer.model_validate(make_server(name, **spec)))


def deployment(name: str = "kimi", **spec: Any) -> Manifest:
    (found,) = [manifest for manifest in build(name, **spec) if manifest["kind"] == "Deployment"]
    return found


def pod_template(name: str = "kimi", **spec: Any) -> Manifest:
    return dict(deployment(name, **spec)["spec"]["template"])


def engine_container(**spec: Any) -> Manifest:
    (container,) = [item for item in pod_template(**spec)["spec"]["containers"] if item["name"] == "sglang"]
    return dict(container)


def flag(container: Manifest, name: str) -> str:
    return str(container["args"][container["args"].index(name) + 1])


@pytest.mark.parametrize("parallelism", [1, 2, 4, 8])
def test_a_replica_gets_as_many_gpus_as_sglang_uses(parallelism: int) -> None:
    container = engine_container(tensorParallelism=parallelism)
    assert container["resources"]["limits"] == {"amd.com/gpu": str(parallelism)}
    assert container["resources"]["requests"]["amd.com/gpu"] == str(parallelism)
    assert flag(container, "--tp") == str(parallelism)


@pytest.mark.parametrize(("parallelism", "size"), [(1, "4Gi"), (2, "8Gi"), (4, "16Gi"), (8, "32Gi")])
def test_shared_memory_grows_with_the_gpus(parallelism: int, size: str) -> None:
    volumes = pod_template(tensorParallelism=parallelism)["spec"]["volumes"]
    assert {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": size}} in volumes


@pytest.mark.parametrize("hardware", ["mi300x", "mi325x", "mi355x"])
def test_fused_decoding_is_switched_off_although_the_image_switches_it_on(hardware: str) -> None:
    env = engine_container(hardware=hardware)["env"]
    assert [item for item in env if item["name"] == "SGLANG_ROCM_FUSED_DECODE_MLA"] == [
        {"name": "SGLANG_ROCM_FUSED_DECODE_MLA", "value": "0"}
    ]


@pytest.mark.parametrize(
    ("hardware", "device_ids", "parts"),
    [
        ("mi300x", ["74a1", "74a9", "74b5", "74bd"], ["152", "76", "38"]),
        ("mi325x", ["74a5", "74b9"], ["152", "76", "38"]),
        ("mi355x", ["75a3", "75b3"], ["128", "64", "32"]),
    ],
)
def test_pods_run_only_on_nodes_of_their_hardware(hardware: str, device_ids: list[str], parts: list[str]) -> None:
    expression = {"key": "amd.com/gpu.device-id", "operator": "In", "values": device_ids}
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression, no_parts(parts), NO_PARTITIONS, AMD64]}]}
    assert pod_template(hardware=hardware)["spec"]["affinity"] == {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
    }


def test_a_custom_image_may_have_another_architecture() -> None:
    assert str(AMD64) in str(pod_template()["spec"]["affinity"])
    assert str(AMD64) not in str(pod_template(engine={"image": "a/sglang:v0.5.7"})["spec"]["affinity"])


@pytest.mark.parametrize(("parallelism", "cpu", "memory"), [(1, "3", "16Gi"), (4, "6", "64Gi"), (8, "10", "128Gi")])
def test_a_replica_is_not_the_first_to_be_evicted(parallelism: int, cpu: str, memory: str) -> None:
    requests = engine_container(tensorParallelism=parallelism)["resources"]["requests"]
    assert {"cpu": cpu, "memory": memory, "ephemeral-storage": "120Gi"}.items() <= requests.items()


CLAIM = {"name": "cache", "persistentVolumeClaim": {"claimName": "weights"}}


@pytest.mark.parametrize(
    ("spec", "is_requested"),
    [
        ({}, True),
        ({"podTemplate": {"spec": {"volumes": [{**CLAIM, "name": "other"}]}}}, True),
        ({"podTemplate": {"spec": {"volumes": [CLAIM]}}}, False),
        ({"model": {"path": "/models/kimi"}}, False),
    ],
    ids=["from the hub", "another volume", "a volume for the cache", "weights in a volume"],
)
def test_disk_space_is_requested_only_for_weights_that_are_kept_in_the_pod(spec: Manifest, is_requested: bool) -> None:
    assert ("ephemeral-storage" in engine_container(**spec)["resources"]["requests"]) == is_requested


@pytest.mark.parametrize(
    ("given", "requests"),
    [
        ({"limits": {"memory": "32Gi"}}, {"cpu": "6", "ephemeral-storage": "120Gi"}),
        ({"requests": {"cpu": "1"}}, {"cpu": "1", "memory": "64Gi", "ephemeral-storage": "120Gi"}),
        (
            {"limits": {"cpu": 8, "memory": "96Gi"}, "requests": {"cpu": 8, "memory": "96Gi"}},
            {"cpu": 8, "memory": "96Gi", "ephemeral-storage": "120Gi"},
        ),
    ],
    ids=["a limit below our request", "a request", "a guaranteed pod"],
)
def test_a_users_requests_and_limits_replace_ours(given: Manifest, requests: Manifest) -> None:
    container = {"name": "sglang", "resources": given}
    built = engine_container(podTemplate={"spec": {"containers": [container]}})["resources"]
    assert built["requests"] == {"amd.com/gpu": "4", **requests}
    assert built["limits"] == {"amd.com/gpu": "4", **given.get("limits", {})}


def test_kernels_are_compiled_where_no_other_pod_writes_even_with_a_shared_cache() -> None:
    spec = pod_template(podTemplate={"spec": {"volumes": [CLAIM]}})["spec"]
    container = spec["containers"][0]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for name in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        (value,) = [item["value"] for item in container["env"] if item["name"] == name]
        (volume,) = [mounts[path] for path in mounts if value.startswith(f"{path}/")]
        assert volumes[volume] == {"name": volume, "emptyDir": {}}


@pytest.mark.parametrize(
    ("pod", "is_emptied"),
    [
        ({}, True),
        ({"volumes": [{"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}}]}, False),
        (
            {"containers": [{"name": "sglang", "volumeMounts": [{"name": "mine", "mountPath": f"{SHARED_MEMORY}/"}]}]},
            False,
        ),
        ({"containers": [{"name": "other", "volumeMounts": [{"name": "mine", "mountPath": SHARED_MEMORY}]}]}, True),
    ],
    ids=["our volume", "a user's volume", "a user's mount", "a sidecar's mount"],
)
def test_only_our_own_shared_memory_is_emptied_at_a_start(pod: Manifest, is_emptied: bool) -> None:
    script = engine_container(podTemplate={"spec": pod})["command"][2]
    assert script.startswith("rm -rf /dev/shm/") == is_emptied


def test_the_kubelet_assigns_cpus_unless_the_user_says_otherwise() -> None:
    name = "SGLANG_SET_CPU_AFFINITY"
    mine = {"containers": [{"name": "sglang", "env": [{"name": name, "value": "1"}]}]}
    assert {"name": name, "value": "0"} in engine_container()["env"]
    assert [item for item in engine_container(podTemplate={"spec": mine})["env"] if item["name"] == name] == [
        {"name": name, "value": "1"}
    ]


def test_a_proxy_in_the_template_does_not_come_between_the_engine_and_itself() -> None:
    variables = [{"name": "HTTP_PROXY", "value": "http://proxy:1"}, {"name": "NO_PROXY", "value": ".svc"}]
    sidecar = {"name": "log-shipper", "image": "a", "env": variables}
    spec = pod_template(podTemplate={"spec": {"containers": [{"name": "sglang", "env": variables}, sidecar]}})["spec"]
    engine, other = spec["containers"]
    assert {"name": "NO_PROXY", "value": ".svc,localhost,127.0.0.1,0.0.0.0,::1"} in engine["env"]
    assert other["env"] == variables


def test_a_server_answers_on_every_address_of_its_pods_and_services() -> None:
    spec = pod_template()["spec"]
    host = flag(spec["containers"][0], "--host")
    assert spec["hostAliases"] == [{"ip": ip, "hostnames": [host]} for ip in ("0.0.0.0", "::")]  # noqa: S104
    services = [child for child in build(service={"headless": True}) if child["kind"] == "Service"]
    assert [service["spec"]["ipFamilyPolicy"] for service in services] == ["PreferDualStack"] * 2


@pytest.mark.parametrize(
    ("spec", "has_budget"),
    [({}, False), ({"replicas": 0}, False), ({"replicas": 2}, True), ({"replicas": 2, "suspend": True}, False)],
    ids=str,
)
def test_a_drain_takes_one_replica_at_a_time_and_never_waits_for_a_single_one(spec: Manifest, has_budget: bool) -> None:
    budgets = [child["spec"] for child in build(**spec) if child["kind"] == "PodDisruptionBudget"]
    selector = {"matchLabels": {"kimi-linear.io/server": "kimi"}}
    budget = {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": selector}
    assert budgets == ([budget] if has_budget else [])


def test_replicas_go_to_different_nodes_if_there_is_room() -> None:
    (spread,) = pod_template()["spec"]["topologySpreadConstraints"]
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["labelSelector"] == {"matchLabels": {"kimi-linear.io/server": "kimi"}}


def test_a_users_spread_constraint_replaces_ours() -> None:
    mine = {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
    spec = pod_template(podTemplate={"spec": {"topologySpreadConstraints": [mine]}})["spec"]
    (spread,) = spec["topologySpreadConstraints"]
    assert (spread["whenUnsatisfiable"], spread["maxSkew"]) == ("DoNotSchedule", 1)


def test_a_probe_can_be_removed_or_get_another_handler() -> None:
    changes = {"livenessProbe": None, "readinessProbe": {"exec": {"command": ["true"]}}}
    container = engine_container(podTemplate={"spec": {"containers": [{"name": "sglang", **changes}]}})
    assert "livenessProbe" not in container
    assert container["readinessProbe"].keys() & {"exec", "httpGet"} == {"exec"}


ZONE = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"]}
NODE = {"key": "metadata.name", "operator": "In", "values": ["gpu-7"]}


@pytest.mark.parametrize(
    "required",
    [
        {},
        {"nodeSelectorTerms": []},
        {"nodeSelectorTerms": [{"matchExpressions": [ZONE]}]},
        {"nodeSelectorTerms": [{"matchExpressions": [ZONE]}, {"matchFields": [NODE]}]},
    ],
    ids=["none", "no terms", "one term", "alternatives"],
)
def test_the_hardware_is_required_in_every_alternative_that_the_overlay_allows(required: Manifest) -> None:
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    spec = pod_template(podTemplate={"spec": {"affinity": affinity}})["spec"]
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    hardware = {"key": "amd.com/gpu.device-id", "operator": "In", "values": ["74a1", "74a9", "74b5", "74bd"]}
    wanted = required.get("nodeSelectorTerms") or [{}]
    added = [hardware, no_parts(["152", "76", "38"]), NO_PARTITIONS, AMD64]
    assert terms == [{**term, "matchExpressions": [*term.get("matchExpressions", []), *added]} for term in wanted]


def test_a_preferred_node_stays_preferred() -> None:
    preferred = [{"weight": 1, "preference": {"matchExpressions": [ZONE]}}]
    node_affinity = {"preferredDuringSchedulingIgnoredDuringExecution": preferred}
    spec = pod_template(podTemplate={"spec": {"affinity": {"nodeAffinity": node_affinity}}})["spec"]
    assert spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] == preferred


@pytest.mark.parametrize("strategy", ["InPlace", "Recreate"])
def test_a_rollout_needs_no_spare_gpu_unless_requested(strategy: str) -> None:
    wanted = deployment(rollout={"strategy": strategy})["spec"]["strategy"]
    assert wanted.get("rollingUpdate", {"maxSurge": 0})["maxSurge"] == 0


@pytest.mark.parametrize(("startup", "drain"), [(3600, 300), (60, 0), (86400, 3600)])
def test_a_rollout_may_take_as_long_as_draining_and_loading_may(startup: int, drain: int) -> None:
    spec = deployment(startup={"timeoutSeconds": startup}, drain={"timeoutSeconds": drain})["spec"]
    container = spec["template"]["spec"]["containers"][0]
    probe = container["startupProbe"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == pause + drain
    assert spec["progressDeadlineSeconds"] >= probe["periodSeconds"] * probe["failureThreshold"] + pause + drain


def test_no_container_is_privileged_and_no_token_is_mounted() -> None:
    spec = pod_template()["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert {"hostNetwork", "hostPID", "hostIPC"} & set(spec) == set()
    assert engine_container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_PTRACE"]},
        "seccompProfile": {"type": "Unconfined"},
    }


def test_no_capability_is_added_when_none_is_requested() -> None:
    context = engine_container(security={"capabilities": []})["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_children_of_the_longest_server_name_have_valid_names_and_labels() -> None:
    children = build("k" * 50, service={"headless": True})
    assert len(children) == 3
    for child in children:
        assert DNS_LABEL.fullmatch(child["metadata"]["name"])
        assert max(map(len, child["metadata"]["labels"].values())) <= 63


def test_children_never_share_a_name() -> None:
    children = [(child["kind"], child["metadata"]["name"]) for child in build(service={"headless": True})]
    assert len(children) == len(set(children))


def test_services_and_deployment_select_pods_by_a_label_that_never_changes() -> None:
    selector = {"kimi-linear.io/server": "kimi"}
    *services, wanted = build(service={"headless": True}, podTemplate={"metadata": {"labels": {"team": "search"}}})
    assert wanted["spec"]["selector"] == {"matchLabels": selector}
    assert [service["spec"]["selector"] for service in services] == [selector, selector]
    assert selector.items() <= wanted["spec"]["template"]["metadata"]["labels"].items()


def test_objects_that_no_server_owns_yet_name_no_owner() -> None:
    manifest = make_server()
    del manifest["metadata"]["uid"]
    children = manifests.build(KimiLinearServer.model_validate(manifest))
    assert [child["metadata"].get("ownerReferences") for child in children] == [None, None]


def test_a_pod_template_does_not_depend_on_the_servers_identity() -> None:
    other = make_server()
    other["metadata"] |= {"uid": "another", "generation": 7, "resourceVersion": "900"}
    (*_, rebuilt) = manifests.build(KimiLinearServer.model_validate(other))
    assert rebuilt["spec"] == deployment()["spec"]
    assert rebuilt["metadata"] != deployment()["metadata"]


def test_a_pod_template_does_not_depend_on_the_order_of_fields() -> None:
    fields: Manifest = {
        "hardware": "mi325x",
        "engine": {"version": "v0.5.7", "contextLength": 8},
        "model": {"servedName": "k"},
    }
    turned = {key: fields[key] for key in reversed(fields)}
    assert yaml.safe_dump(build(**fields), sort_keys=False) == yaml.safe_dump(build(**turned), sort_keys=False)


@pytest.mark.parametrize(
    "change",
    [{"replicas": 3}, {"suspend": True}, {"rollout": {"strategy": "Surge"}}, {"service": {"port": 80}}],
    ids=str,
)
def test_a_change_that_does_not_affect_pods_keeps_the_pod_template(change: Manifest) -> None:
    assert pod_template(**change) == pod_template()


def test_another_process_renders_the_same_bytes(tmp_path: Path) -> None:
    file = tmp_path / "kimi.yaml"
    file.write_text(yaml.safe_dump(make_server(podTemplate={"metadata": {"labels": {"b": "1", "a": "2"}}})))
    command = [sys.executable, "-m", "kimi_linear_operator", "render", "-f", str(file)]
    outputs = {
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert b"kind: Deployment" in outputs.pop()
