"""Nodes in tests have exactly the labels that AMD's labeller writes, according to its source."""

import pytest

from amd_labels import CHART, CPX, DAEMONSET, MI300X, MI300X_VF, MI325X, MI350X, MI355X, PARTITION, WHOLE, Gpu, labels

# AMD's installation guide shows the first six; the older prefix and the counts are from createLabels in main.go.
ONE_MODEL = {
    "amd.com/gpu.cu-count": "304",
    "amd.com/gpu.device-id": "74a1",
    "amd.com/gpu.family": "AI",
    "amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM",
    "amd.com/gpu.simd-count": "1216",
    "amd.com/gpu.vram": "192G",
    "beta.amd.com/gpu.cu-count": "304",
    "beta.amd.com/gpu.cu-count.304": "8",
    "beta.amd.com/gpu.device-id": "74a1",
    "beta.amd.com/gpu.device-id.74a1": "8",
    "beta.amd.com/gpu.family": "AI",
    "beta.amd.com/gpu.family.AI": "8",
    "beta.amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM",
    "beta.amd.com/gpu.product-name.AMD_Instinct_MI300X_OAM": "8",
    "beta.amd.com/gpu.simd-count": "1216",
    "beta.amd.com/gpu.simd-count.1216": "8",
    "beta.amd.com/gpu.vram": "192G",
    "beta.amd.com/gpu.vram.192G": "8",
}


def test_labels_of_the_daemonset_have_both_prefixes_and_counts_under_the_older_one() -> None:
    assert labels([MI300X] * 8, DAEMONSET) == ONE_MODEL


def test_a_node_of_the_helm_chart_has_no_product_name() -> None:
    assert labels([MI300X] * 8, CHART) == {key: value for key, value in ONE_MODEL.items() if "product-name" not in key}


def test_a_virtual_function_has_its_own_id_and_name() -> None:
    written = labels([MI300X_VF] * 8)
    assert written["amd.com/gpu.device-id"] == "74b5"
    assert written["amd.com/gpu.product-name"] == "AMD_Instinct_MI300X_VF"
    assert written.keys() - ONE_MODEL.keys() == {
        "beta.amd.com/gpu.device-id.74b5",
        "beta.amd.com/gpu.product-name.AMD_Instinct_MI300X_VF",
    }


def test_a_node_with_two_models_has_counts_in_place_of_differing_properties() -> None:
    assert labels([MI300X] * 4 + [MI325X] * 4, ("device-id", "cu-count")) == {
        "amd.com/gpu.device-id.74a1": "4",
        "amd.com/gpu.device-id.74a5": "4",
        "beta.amd.com/gpu.device-id.74a1": "4",
        "beta.amd.com/gpu.device-id.74a5": "4",
        "amd.com/gpu.cu-count": "304",
        "beta.amd.com/gpu.cu-count": "304",
        "beta.amd.com/gpu.cu-count.304": "8",
    }


@pytest.mark.parametrize(
    ("gpu", "compute_units", "simds", "vram"), [(MI300X, "38", "152", "24G"), (MI355X, "32", "128", "36G")]
)
def test_a_partition_has_its_share_of_the_gpu_and_ids_are_counted_once_per_gpu(
    gpu: Gpu, compute_units: str, simds: str, vram: str
) -> None:
    written = labels([gpu] * 8, DAEMONSET, CPX)
    assert written["amd.com/gpu.cu-count"] == compute_units
    assert written["amd.com/gpu.simd-count"] == simds
    assert written["amd.com/gpu.vram"] == vram
    assert written[f"beta.amd.com/gpu.cu-count.{compute_units}"] == "64"
    assert written["amd.com/gpu.device-id"] == gpu.device_id
    assert written[f"beta.amd.com/gpu.device-id.{gpu.device_id}"] == "8"


def test_the_partition_is_labelled_only_on_request_and_only_under_the_newer_prefix() -> None:
    assert labels([MI350X] * 8, (PARTITION,), CPX) == {"amd.com/gpu.compute-memory-partition": "cpx_nps4"}
    assert labels([MI350X] * 8, (PARTITION,), WHOLE) == {"amd.com/gpu.compute-memory-partition": "spx_nps1"}
    assert not any(PARTITION in key for flags in (DAEMONSET, CHART) for key in labels([MI350X] * 8, flags, CPX))
