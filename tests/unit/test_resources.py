"""What every set of objects promises, whatever the spec; whole objects are in the golden files."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kimi_linear_operator import resources
from kimi_linear_operator.api import KimiLinearServer, Manifest
from make import make_server

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def build(name: str = "kimi", **spec: Any) -> list[Manifest]:
    return resources.build(KimiLinearServer.model_validate(make_server(name, **spec)))


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
    assert container["resources"] == {
        "requests": {"amd.com/gpu": str(parallelism)},
        "limits": {"amd.com/gpu": str(parallelism)},
    }
    assert flag(container, "--tp") == str(parallelism)


@pytest.mark.parametrize(("parallelism", "size"), [(1, "4Gi"), (2, "8Gi"), (4, "16Gi"), (8, "32Gi")])
def test_shared_memory_grows_with_the_gpus(parallelism: int, size: str) -> None:
    volumes = pod_template(tensorParallelism=parallelism)["spec"]["volumes"]
    assert {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": size}} in volumes


@pytest.mark.parametrize("hardware", ["mi300x", "mi325x", "mi355x"])
def test_fused_decoding_is_switched_off_which_the_image_switches_on(hardware: str) -> None:
    env = engine_container(hardware=hardware)["env"]
    assert [item for item in env if item["name"] == "SGLANG_ROCM_FUSED_DECODE_MLA"] == [
        {"name": "SGLANG_ROCM_FUSED_DECODE_MLA", "value": "0"}
    ]


@pytest.mark.parametrize(
    ("hardware", "device_ids"),
    [("mi300x", ["74a1", "74a9", "74b5", "74bd"]), ("mi325x", ["74a5", "74b9"]), ("mi355x", ["75a3", "75b3"])],
)
def test_pods_run_on_nodes_of_their_hardware_only(hardware: str, device_ids: list[str]) -> None:
    expression = {"key": "amd.com/gpu.device-id", "operator": "In", "values": device_ids}
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    assert pod_template(hardware=hardware)["spec"]["affinity"] == {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
    }


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
    assert terms == [{**term, "matchExpressions": [*term.get("matchExpressions", []), hardware]} for term in wanted]


def test_a_preferred_node_stays_preferred() -> None:
    preferred = [{"weight": 1, "preference": {"matchExpressions": [ZONE]}}]
    node_affinity = {"preferredDuringSchedulingIgnoredDuringExecution": preferred}
    spec = pod_template(podTemplate={"spec": {"affinity": {"nodeAffinity": node_affinity}}})["spec"]
    assert spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] == preferred


@pytest.mark.parametrize("strategy", ["InPlace", "Recreate"])
def test_a_rollout_needs_no_spare_gpu_unless_asked_for(strategy: str) -> None:
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


def test_nothing_is_privileged_and_no_token_is_mounted() -> None:
    spec = pod_template()["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert {"hostNetwork", "hostPID", "hostIPC"} & set(spec) == set()
    assert engine_container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_PTRACE"]},
        "seccompProfile": {"type": "Unconfined"},
    }


def test_no_capability_is_added_when_none_is_asked_for() -> None:
    context = engine_container(security={"capabilities": []})["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_every_child_of_the_longest_name_has_a_name_and_labels_that_kubernetes_takes() -> None:
    children = build("k" * 50, service={"headless": True})
    assert len(children) == 3
    for child in children:
        assert DNS_LABEL.fullmatch(child["metadata"]["name"])
        assert max(map(len, child["metadata"]["labels"].values())) <= 63


def test_children_never_share_a_name() -> None:
    children = [(child["kind"], child["metadata"]["name"]) for child in build(service={"headless": True})]
    assert len(children) == len(set(children))


def test_services_select_the_pods_of_the_deployment_by_what_can_never_change() -> None:
    selector = {"kimi-linear.io/server": "kimi"}
    *services, wanted = build(service={"headless": True}, podTemplate={"metadata": {"labels": {"team": "search"}}})
    assert wanted["spec"]["selector"] == {"matchLabels": selector}
    assert [service["spec"]["selector"] for service in services] == [selector, selector]
    assert selector.items() <= wanted["spec"]["template"]["metadata"]["labels"].items()


def test_objects_that_no_server_owns_yet_name_no_owner() -> None:
    manifest = make_server()
    del manifest["metadata"]["uid"]
    children = resources.build(KimiLinearServer.model_validate(manifest))
    assert [child["metadata"].get("ownerReferences") for child in children] == [None, None]


def test_a_pod_template_does_not_depend_on_which_object_asks_for_it() -> None:
    other = make_server()
    other["metadata"] |= {"uid": "another", "generation": 7, "resourceVersion": "900"}
    (*_, rebuilt) = resources.build(KimiLinearServer.model_validate(other))
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
def test_what_does_not_concern_a_pod_restarts_none(change: Manifest) -> None:
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
