"""Where compiled kernels are kept.

They outlive the pod only if the spec asks for it, and share a folder only where this is safe.
"""

from typing import Any

import pytest

from kimi_linear_operator.kubernetes.access import beyond_pod
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server


def template(**spec: Any) -> Manifest:
    built: Manifest = build_pod_template(KimiLinearServer.model_validate(make_server(**spec)))
    return built


def pod(**spec: Any) -> Manifest:
    built: Manifest = template(**spec)["spec"]
    return built


def mounts(**spec: Any) -> dict[str, Manifest]:
    return {mount["mountPath"]: mount for mount in pod(**spec)["containers"][0]["volumeMounts"]}


def variables(**spec: Any) -> dict[str, Manifest]:
    return {variable["name"]: variable for variable in pod(**spec)["containers"][0]["env"]}


CLAIM: Manifest = {"kernelCache": {"existingClaim": "kernels"}}
FOLDER: Manifest = {"kernelCache": {"hostPath": "/var/lib/kernels"}}


def test_without_spec_kernel_cache_nothing_is_added() -> None:
    assert pod() == pod(kernelCache={})
    assert "/kernels/triton" not in mounts()
    assert "KIMI_LINEAR_NODE" not in variables()


@pytest.mark.parametrize("place", [CLAIM, FOLDER], ids=["claim", "folder"])
def test_only_tritons_kernels_are_kept_outside_the_pod(place: Manifest) -> None:
    kept = mounts(**place)["/kernels/triton"]["name"]
    [volume] = [volume for volume in pod(**place)["volumes"] if volume["name"] == kept]
    assert "emptyDir" not in volume
    paths = {name: variables(**place)[name]["value"] for name in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")}
    assert paths == {"TRITON_CACHE_DIR": "/kernels/triton", "TORCHINDUCTOR_CACHE_DIR": "/kernels/inductor"}
    assert {"name": "kernels", "emptyDir": {}} in pod(**place)["volumes"]
    assert "AITER_JIT_DIR" not in variables(**place)


def test_each_image_has_a_folder_and_in_a_claim_each_node_too() -> None:
    one, other = ({"engine": {"image": image}} for image in ("a/sglang:v0.5.7", "a/sglang:v0.5.8"))
    assert (
        mounts(**FOLDER, **one)["/kernels/triton"]["subPath"] != mounts(**FOLDER, **other)["/kernels/triton"]["subPath"]
    )
    folder = mounts(**CLAIM, **one)["/kernels/triton"]["subPathExpr"]
    assert folder == f"{mounts(**FOLDER, **one)['/kernels/triton']['subPath']}/$(KIMI_LINEAR_NODE)"
    source = variables(**CLAIM)["KIMI_LINEAR_NODE"]["valueFrom"]
    assert source == {"fieldRef": {"fieldPath": "spec.nodeName"}}


def test_a_folder_of_the_node_needs_the_administrators_consent_and_a_claim_does_not() -> None:
    assert beyond_pod(template(**FOLDER)) == ["the node's files (hostPath of volume kernel-cache)"]
    assert beyond_pod(template(**CLAIM)) == []


def test_the_folder_of_a_pod_can_have_a_limit() -> None:
    assert {"name": "kernels", "emptyDir": {"sizeLimit": "20Gi"}} in pod(kernelCache={"sizeLimit": "20Gi"})["volumes"]


@pytest.mark.parametrize("place", [CLAIM, FOLDER], ids=["claim", "folder"])
def test_the_preflight_check_does_not_mount_the_kernel_cache(place: Manifest) -> None:
    [check] = pod(**place)["initContainers"]
    assert [mount["name"] for mount in check["volumeMounts"]] == ["dshm", "cache"]
