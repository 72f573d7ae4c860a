"""An overlay that passes the checks cannot prevent the build or remove the essential parts of a server's pod."""

from typing import Any

import pytest

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server.manifests import build
from make import make_server


def overlay(**spec: Any) -> Manifest:
    return {"podTemplate": {"spec": spec}}


@pytest.mark.parametrize(
    "spec",
    [
        overlay(affinity=None),
        overlay(affinity={"nodeAffinity": None}),
        overlay(affinity="x"),
        overlay(
            affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [None]}}}
        ),
        overlay(hostAliases=None, topologySpreadConstraints=None),
        overlay(hostAliases=["x"], topologySpreadConstraints=[{}, "x"]),
        overlay(containers=[{"name": "sglang", "livenessProbe": None, "lifecycle": None, "ports": None}]),
        overlay(containers=[{"name": "sglang", "resources": {"limits": None}, "env": None, "image": None}]),
        overlay(containers=[{"name": "sglang", "resources": {"limits": {"amd.com/gpu": None}}}]),
        overlay(volumes=["x"]),
        overlay(volumes=[{"name": {}}]),
        overlay(containers=[{"name": "sglang", "volumeMounts": ["x"]}]),
        overlay(containers=[{"name": "sglang", "$patch": "delete"}, {"name": "x", "image": "y"}]),
        overlay(containers=[{"name": "sglang", "$patch": "replace"}]),
        overlay(containers=[{"name": "sglang", "resources": {"$patch": "replace"}}]),
        overlay(**{"$patch": "replace", "containers": [{"name": "x"}]}),
        {"podTemplate": {"$patch": "replace"}},
        {"podTemplate": {"metadata": {"$patch": "replace"}}},
        {"podTemplate": {"metadata": {"labels": {"$patch": "replace", "a": "b"}}}},
    ],
    ids=str,
)
def test_an_overlay_is_refused_or_leaves_a_working_server(spec: Manifest) -> None:
    checked = check(make_server(**spec))
    if checked.errors:
        return
    assert checked.resource
    (*_, deployment) = build(checked.resource)
    template = deployment["spec"]["template"]
    (engine,) = [item for item in template["spec"]["containers"] if item["name"] == "sglang"]
    assert {"image", "args", "env"} <= set(engine)
    assert engine["resources"]["limits"]["amd.com/gpu"] == "4"
    assert template["metadata"]["labels"]["kimi-linear.io/server"] == "kimi"
