"""The bundle for the Operator Lifecycle Manager says the same as the other ways to install the operator."""

import base64
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import yaml

import chart
import kimi_linear_operator
from chart import BUNDLE, INSTALL
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.resource_types import TYPES, check

SERVICE_VERSION = yaml.safe_load(next((BUNDLE / "manifests").glob("*.clusterserviceversion.yaml")).read_text())
SPEC = SERVICE_VERSION["spec"]
INSTALLED = [item for item in yaml.safe_load_all(INSTALL.read_text()) if item]


def installed(kind: str, name: str = chart.RELEASE) -> Manifest:
    """Return an object of the installation without Helm."""
    [found] = [item for item in INSTALLED if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return dict(found)


def granted() -> dict[str, list[Any]]:
    """Return the rules that OLM gives to the operator: cluster-wide, and in its own namespace."""
    strategy = SPEC["install"]["spec"]
    found = {}
    for scope in ("clusterPermissions", "permissions"):
        [permission] = strategy[scope]
        assert permission["serviceAccountName"] == chart.RELEASE
        found[scope] = permission["rules"]
    return found


def test_the_bundle_is_fresh() -> None:
    made = {str(file.relative_to(BUNDLE)): file.read_text() for file in BUNDLE.rglob("*") if file.is_file()}
    assert made == chart.bundle_files(), "run `make generate`"


def test_the_operator_gets_the_same_permissions_as_from_the_chart() -> None:
    assert granted() == {
        "clusterPermissions": installed("ClusterRole")["rules"],
        "permissions": installed("Role", f"{chart.RELEASE}-lease")["rules"],
    }


def test_the_deployment_differs_only_in_the_name_of_its_lease() -> None:
    [deployment] = SPEC["install"]["spec"]["deployments"]
    wanted = installed("Deployment")["spec"]
    [container] = wanted["template"]["spec"]["containers"]
    container["args"].remove(f"--lease={chart.NAMESPACE}/{chart.RELEASE}")
    assert deployment["spec"] == wanted


def test_the_definitions_equal_those_of_the_installation() -> None:
    files = sorted((BUNDLE / "manifests").glob("kimilinear*.yaml"))
    definitions = {item["metadata"]["name"]: item for item in map(yaml.safe_load, map(Path.read_text, files))}
    assert definitions == {name: installed("CustomResourceDefinition", name) for name in chart.DEFINITIONS}


def test_no_object_names_a_namespace() -> None:
    objects = [yaml.safe_load(file.read_text()) for file in (BUNDLE / "manifests").iterdir()]
    assert [item["kind"] for item in objects if "namespace" in item["metadata"]] == []


def test_each_kind_has_a_valid_example() -> None:
    examples = json.loads(SERVICE_VERSION["metadata"]["annotations"]["alm-examples"])
    assert [item["kind"] for item in examples] == [kind.kind for kind in TYPES]
    assert [problem for item in examples for problem in check(item).errors] == []


def test_every_described_field_exists_in_the_definition() -> None:
    for owned in SPEC["customresourcedefinitions"]["owned"]:
        schema = installed("CustomResourceDefinition", owned["name"])["spec"]["versions"][0]["schema"][
            "openAPIV3Schema"
        ]
        for part in ("spec", "status"):
            assert len(owned[f"{part}Descriptors"]) > 5
            for descriptor in owned[f"{part}Descriptors"]:
                node = schema["properties"][part]
                for name in descriptor["path"].split("."):
                    node = node["properties"][name]
                assert descriptor["description"] == node["description"]


def test_the_image_of_the_bundle_has_the_labels_of_its_metadata() -> None:
    labels = dict(re.findall(r"^LABEL ([^=]+)=(.*)$", (BUNDLE / "Dockerfile").read_text(), re.MULTILINE))
    assert labels == yaml.safe_load((BUNDLE / "metadata/annotations.yaml").read_text())["annotations"]


def test_the_bundle_has_this_version_and_its_image() -> None:
    version = kimi_linear_operator.__version__
    assert (SERVICE_VERSION["metadata"]["name"], SPEC["version"]) == (f"{chart.RELEASE}.v{version}", version)
    assert SPEC["relatedImages"][0]["image"] == f"kimi-linear-operator:{version}"


def test_the_icon_is_a_picture() -> None:
    [icon] = SPEC["icon"]
    picture = ET.fromstring(base64.b64decode(icon["base64data"]))  # noqa: S314 -- our own
    assert (icon["mediatype"], picture.tag) == ("image/svg+xml", "{http://www.w3.org/2000/svg}svg")
