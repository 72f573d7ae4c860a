"""The source of the model in a server's pods: a volume with weights, an image, or the hub."""

from typing import Any

import pytest

from kimi_linear_operator.benchmark import target
from kimi_linear_operator.benchmark.job import build_job
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.model_location import WeightsUnreadyError, find, of_pods
from kimi_linear_operator.server.revision import Revision
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.template_inputs import template_inputs
from kimi_linear_operator.weights.location import on_claim
from make import make_benchmark, make_condition, make_server, make_weights

COMMIT, OTHER = "1" * 40, "2" * 40


def server(**model: Any) -> KimiLinearServer:
    resource = check(make_server(model=model)).resource
    assert isinstance(resource, KimiLinearServer)
    return resource


def weights(**status: Any) -> Manifest:
    return {**make_weights(), "status": {"claim": "kimi", **status}}


def kept(commit: str = COMMIT, name: str = "kimi") -> Revision:
    user = server(weights=name)
    template = build_pod_template(user, on_claim(name, "instruct", commit))
    return Revision(1, template_inputs(user.spec), template, rollout="", uid="", generation=1)


def value_after(flag: str, template: Manifest) -> str:
    words = template["spec"]["containers"][0]["args"]
    return str(words[words.index(flag) + 1])


def test_a_model_from_the_hub_needs_no_location() -> None:
    assert find(server().spec, None, []) is None
    assert find(server(path="/models/kimi").spec, None, []) is None


def test_the_complete_commit_is_served_under_the_models_name_on_the_hub() -> None:
    location = find(server(weights="kimi").spec, weights(commit=COMMIT), [])
    template = build_pod_template(server(weights="kimi"), location)
    folder = f"/weights/models--moonshotai--Kimi-Linear-48B-A3B-Instruct/snapshots/{COMMIT}"
    assert value_after("--model-path", template) == value_after("--tokenizer-path", template) == folder
    assert value_after("--served-model-name", template) == "moonshotai/Kimi-Linear-48B-A3B-Instruct"
    named = build_pod_template(server(weights="kimi", servedName="mine"), location)
    assert value_after("--served-model-name", named) == "mine"


def test_weights_on_a_volume_need_no_disk_of_the_node() -> None:
    template = build_pod_template(server(weights="kimi"), on_claim("kimi", "instruct", COMMIT))
    assert "ephemeral-storage" not in template["spec"]["containers"][0]["resources"]["requests"]


def test_an_image_is_mounted_as_a_volume() -> None:
    user = server(image="registry.example.com/weights:1")
    template = build_pod_template(user, find(user.spec, None, []))
    assert {"name": "weights", "image": {"reference": "registry.example.com/weights:1"}} in template["spec"]["volumes"]
    assert value_after("--model-path", template) == "/weights"


def test_a_commit_on_another_claim_does_not_count() -> None:
    with pytest.raises(WeightsUnreadyError):
        find(server(weights="kimi").spec, weights(commit=COMMIT, claim="former"), [])


def test_deleted_weights_are_served_from_the_location_in_the_newest_template() -> None:
    found = find(server(weights="kimi").spec, None, [kept(OTHER)])
    assert found == on_claim("kimi", "instruct", OTHER)


def test_the_template_of_other_weights_does_not_count() -> None:
    with pytest.raises(WeightsUnreadyError) as raised:
        find(server(weights="kimi").spec, None, [kept(name="former")])
    assert raised.value.reason.name == "WeightsMissing"


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ([], "WeightsDownloading"),
        ([make_condition("Ready", "False", "WeightsDownloading", "42 %")], "WeightsDownloading"),
        (
            [
                make_condition("Ready", "False", "TokenRefused", "x"),
                make_condition("Stalled", "True", "TokenRefused", "x"),
            ],
            "WeightsUnready",
        ),
    ],
    ids=["new", "downloads", "stalled"],
)
def test_weights_without_a_commit_say_why(conditions: list[Manifest], reason: str) -> None:
    with pytest.raises(WeightsUnreadyError) as raised:
        find(server(weights="kimi").spec, weights(conditions=conditions), [])
    assert raised.value.reason.name == reason


def test_clients_of_a_benchmark_mount_the_same_weights_as_the_pods() -> None:
    user = server(weights="kimi")
    template = build_pod_template(user, on_claim("kimi", "instruct", COMMIT))
    benchmark = check(make_benchmark()).resource
    assert benchmark
    measured = target.of_server(benchmark, user, template)
    assert measured.location == on_claim("kimi", "instruct", COMMIT)
    assert measured.model == measured.location.folder
    pod = build_job(benchmark, benchmark.spec.suites[0], measured)["spec"]["template"]["spec"]
    assert {"name": "weights", "persistentVolumeClaim": {"claimName": "kimi"}} in pod["volumes"]
    assert {"name": "weights", "mountPath": "/weights", "readOnly": True} in pod["containers"][0]["volumeMounts"]
    assert f"--model={measured.model}" in " ".join(pod["containers"][0]["args"]).replace("--model ", "--model=")


def test_volumes_that_a_user_mounts_are_not_mounted_by_clients() -> None:
    template = build_pod_template(server(weights="kimi"), on_claim("kimi", "instruct", COMMIT))
    assert of_pods(server(path="/weights/x").spec, template) is None
