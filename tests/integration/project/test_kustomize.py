"""Kustomize (in kubectl) writes prefixed and generated names into every field of ours that names an object."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from binaries import binary
from commands import run
from kimi_linear_operator.benchmark.definition import DEFINITION as BENCHMARK_DEFINITION
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server.definition import DEFINITION as SERVER_DEFINITION

REFERENCES = Path(__file__).parents[3] / "deploy/kustomize/references"

pytestmark = pytest.mark.usefixtures("programs")

KUSTOMIZATION = {
    "namePrefix": "staging-",
    "components": ["references"],
    "resources": ["all.yaml"],
    "secretGenerator": [{"name": "some-secret", "literals": ["token=x"]}],
    "configMapGenerator": [{"name": "some-map", "literals": ["test.jsonl=x"]}],
    "images": [{"name": "lmsysorg/sglang", "newName": "mirror.example.com/sglang"}, {"name": "busybox", "newTag": "1"}],
    "replicas": [{"name": "some-server", "count": 3}],
}


def container(name: str, **more: Any) -> Manifest:
    return {
        "name": name,
        "env": [
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "some-secret", "key": "token"}}},
            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "some-map", "key": "test.jsonl"}}},
        ],
        "envFrom": [{"secretRef": {"name": "some-secret"}}, {"configMapRef": {"name": "some-map"}}],
        **more,
    }


def pod_template(engine: str) -> Manifest:
    sources = [{"secret": {"name": "some-secret"}}, {"configMap": {"name": "some-map"}}]
    volumes = [
        {"name": "a", "persistentVolumeClaim": {"claimName": "some-claim"}},
        {"name": "b", "secret": {"secretName": "some-secret"}},
        {"name": "c", "configMap": {"name": "some-map"}},
        {"name": "d", "projected": {"sources": sources}},
        {"name": "e", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "some-secret"}}},
    ]
    return {
        "spec": {
            "serviceAccountName": "some-account",
            "priorityClassName": "some-priority",
            "imagePullSecrets": [{"name": "some-secret"}],
            "volumes": volumes,
            "containers": [container(engine), container("side", image="busybox:2")],
            "initContainers": [container("first", image="busybox")],
        }
    }


def ours(kind: str, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": "kimi-linear.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def other(api_version: str, kind: str, name: str, **more: Any) -> Manifest:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **more}


SERVER = ours(
    "KimiLinearServer",
    "some-server",
    {
        "model": {"tokenSecretRef": {"name": "some-secret"}},
        "auth": {"apiKeySecretRef": {"name": "some-secret"}},
        "kernelCache": {"existingClaim": "some-claim"},
        "engine": {"image": "lmsysorg/sglang:v0.5.7-rocm700-mi30x"},
        "router": {"image": "lmsysorg/sglang:v0.5.7-rocm700-mi30x"},
        "autoscaling": {
            "maxReplicas": 4,
            "keda": {"prometheusAddress": "http://x", "authentication": {"triggerAuthentication": "some-access"}},
        },
        "podTemplate": pod_template("sglang"),
    },
)
DATASETS = {
    "gsm8k": {"configMap": "some-map", "path": "test.jsonl"},
    "shareGPT": {"persistentVolumeClaim": "some-claim", "path": "x.json"},
}
SWAPPED = {
    "gsm8k": {"persistentVolumeClaim": "some-claim", "path": "test.jsonl"},
    "shareGPT": {"configMap": "some-map", "path": "test.jsonl"},
}
BENCHMARKS = [
    ours(
        "KimiLinearBenchmark",
        "some-benchmark",
        {
            "serverRef": {"name": "some-server"},
            "client": {"image": "lmsysorg/sglang:v0.5.7-rocm700-mi30x"},
            "datasets": DATASETS,
            "baseline": {"source": "benchmark", "benchmark": "some-baseline"},
            "podTemplate": pod_template("client"),
        },
    ),
    ours(
        "KimiLinearBenchmark",
        "some-baseline",
        {"endpoint": {"url": "http://x", "apiKeySecretRef": {"name": "some-secret"}}, "datasets": SWAPPED},
    ),
]
SCALED = {"apiVersion": "kimi-linear.io/v1alpha1", "kind": "KimiLinearServer", "name": "some-server"}
OTHERS = [
    other("v1", "PersistentVolumeClaim", "some-claim"),
    other("v1", "ServiceAccount", "some-account"),
    other("scheduling.k8s.io/v1", "PriorityClass", "some-priority"),
    other("autoscaling/v2", "HorizontalPodAutoscaler", "some-scaler", spec={"scaleTargetRef": SCALED}),
    other("keda.sh/v1alpha1", "ScaledObject", "some-other-scaler", spec={"scaleTargetRef": SCALED}),
    other("keda.sh/v1alpha1", "TriggerAuthentication", "some-access"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    folder = tmp_path_factory.mktemp("kustomize")
    shutil.copytree(REFERENCES, folder / "references")
    (folder / "kustomization.yaml").write_text(json.dumps(KUSTOMIZATION))
    (folder / "all.yaml").write_text("\n---\n".join(map(json.dumps, [SERVER, *BENCHMARKS, *OTHERS])))
    return list(yaml.safe_load_all(run([binary("kubectl"), "kustomize", folder])))


def texts(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text in an object, with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, f"{path}/{key}")
    elif isinstance(value, list):
        for item in value:
            yield from texts(item, path)
    elif isinstance(value, str):
        yield path, value


def test_the_resources_of_this_test_are_valid() -> None:
    assert [problem for item in (SERVER, *BENCHMARKS) for problem in check(item).errors] == []


def test_every_name_refers_to_an_object_of_the_build(built: list[Manifest]) -> None:
    names = {item["metadata"]["name"] for item in built}
    named = [(path, text) for item in built for path, text in texts(item) if "some-" in text]
    assert len(named) > 50
    assert [(path, text) for path, text in named if text not in names] == []
    # Generated names end with a hash.
    assert not {"some-secret", "staging-some-secret", "some-map", "staging-some-map"} & names


def test_images_and_replicas_come_from_the_kustomization(built: list[Manifest]) -> None:
    images = {text for item in built for path, text in texts(item) if path.endswith("/image")}
    assert images == {"mirror.example.com/sglang:v0.5.7-rocm700-mi30x", "busybox:1"}
    assert [item["spec"]["replicas"] for item in built if item["kind"] == "KimiLinearServer"] == [3]


def leaves(schema: Manifest, path: str) -> Iterator[tuple[str, Manifest]]:
    inner = schema.get("items", schema)
    for name, field in inner.get("properties", {}).items():
        yield from leaves(field, f"{path}/{name}")
    if "properties" not in inner:
        yield path, inner


def test_every_field_that_names_an_object_is_in_the_references() -> None:
    """The schema gives names of objects their pattern, so this test also finds fields that are added later."""
    configured = yaml.safe_load((REFERENCES / "references.yaml").read_text())["nameReference"]
    known = {(spec.get("kind"), spec["path"]) for each in configured for spec in each["fieldSpecs"]}
    # A namespace, which another transformer of Kustomize changes, and a part of a Gateway.
    known |= {("KimiLinearServer", f"spec/httpRoute/parentRefs/{name}") for name in ("namespace", "sectionName")}
    pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
    missing = []
    for definition in (SERVER_DEFINITION.manifest(), BENCHMARK_DEFINITION.manifest()):
        kind = definition["spec"]["names"]["kind"]
        spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        fields = [path for path, schema in leaves(spec, "spec") if schema.get("pattern") == pattern]
        assert len(fields) > 0
        missing += [(kind, path) for path in fields if (kind, path) not in known]
    assert missing == []
