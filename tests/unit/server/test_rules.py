"""Errors and warnings: each rule alone, each wrong shape, and any object that a cluster may have stored."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.problem import Problem
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server.rules import RULES
from make import make_server
from passes import check_stored


def overlay(*containers: Manifest, group: str = "containers") -> Manifest:
    return {"podTemplate": {"spec": {group: list(containers)}}}


def keyed(container: Manifest) -> Manifest:
    """Return a spec with the API key in the variable KEY, with this template of the engine's container."""
    return {"engine": {"extraArgs": ["--api-key=$(KEY)"]}, **overlay({"name": "sglang", **container})}


AUTH: Manifest = {"auth": {"apiKeySecretRef": {"name": "api"}}}
SECRET = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "api", "key": "key"}}}


def gpus(kind: str, count: object) -> Manifest:
    return {"resources": {kind: {"amd.com/gpu": count}}}


def problems(**spec: Any) -> list[Problem]:
    return list(check(make_server(**spec)).problems)


# For each rule, a spec that breaks only this rule: the spec, the path, the value there, and words of the message.
BROKEN: list[tuple[Manifest, str, object, str]] = [
    ({"reasoningParser": "enabled"}, "spec.reasoningParser", "enabled", "doesn't support reasoning parser"),
    (
        {"model": {"path": "/models/kimi", "revision": "main"}},
        "spec.model.path",
        "/models/kimi",
        "remove either spec.model.path or spec.model.revision",
    ),
    (
        {"model": {"weights": "kimi", "revision": "main"}},
        "spec.model.weights",
        "kimi",
        "the weights come from spec.model.weights",
    ),
    (
        {"model": {"image": "weights:1", "tokenSecretRef": {"name": "hf"}}},
        "spec.model.image",
        "weights:1",
        "the weights come from an image",
    ),
    (
        {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}},
        "spec.autoscaling.minReplicas",
        3,
        "is greater than spec.autoscaling.maxReplicas: correct one of them",
    ),
    (
        {"autoscaling": {"minReplicas": 0, "maxReplicas": 2}},
        "spec.autoscaling.minReplicas",
        0,
        "but only KEDA can start the first replica again",
    ),
    (
        {"autoscaling": {"minReplicas": 0, "maxReplicas": 2, "keda": {"prometheusAddress": "http://prometheus:9090"}}},
        "spec.autoscaling.minReplicas",
        0,
        "set spec.router or spec.autoscaling.keda.wakeQuery",
    ),
    ({"router": {}}, "spec.router", None, "has no API key. So everyone who reaches the server"),
    ({"engine": {"extraArgs": ["--tp=8"]}}, "spec.engine.extraArgs", None, "contains a flag that the operator sets"),
    ({"engine": {"extraArgs": ["--api-key=abc"]}}, "spec.engine.extraArgs", None, "shows an API key"),
    (
        keyed({"env": [SECRET]}),
        "spec.engine.extraArgs",
        None,
        "puts the API key on SGLang's command line",
    ),
    (
        AUTH | keyed({"env": [SECRET]}),
        "spec.engine.extraArgs",
        None,
        "sets an API key in addition to spec.auth.apiKeySecretRef",
    ),
    (
        AUTH | {"engine": {"extraArgs": ["--tokenizer-worker-num=4"]}},
        "spec.engine.extraArgs",
        None,
        "but with this flag SGLang ignores API keys",
    ),
    (
        {"service": {"loadBalancerClass": "example.com/internal"}},
        "spec.service.loadBalancerClass",
        "example.com/internal",
        "works only with load balancers",
    ),
    (
        {"service": {"externalTrafficPolicy": "Local"}},
        "spec.service.externalTrafficPolicy",
        "Local",
        "works only with traffic from outside",
    ),
    (
        AUTH | {"ingress": {"tlsSecretName": "kimi-tls"}},
        "spec.ingress.tlsSecretName",
        "kimi-tls",
        "needs hosts for its certificate",
    ),
    ({"ingress": {}}, "spec.auth", None, "is not set, but an Ingress or an HTTPRoute leads to the server"),
    (
        {"verification": {"mode": "Warn", "onFailure": "Rollback"}},
        "spec.verification.onFailure",
        "Rollback",
        "needs spec.verification.mode Block",
    ),
    (
        {"verification": {"dataset": {"path": "test.jsonl"}}},
        "spec.verification.dataset",
        None,
        "must say where the file is",
    ),
    (
        {"networkPolicy": {"from": [{"podSelector": {}, "ipBlock": {"cidr": "192.0.2.0/24"}}]}},
        "spec.networkPolicy.from",
        None,
        "contains a peer that Kubernetes refuses",
    ),
    (
        {"monitoring": {"labels": {"kimi-linear.io/server": "x"}}},
        "spec.monitoring.labels",
        None,
        "contains a label that the operator sets",
    ),
    ({"monitoring": {"labels": {"ü": "x"}}}, "spec.monitoring.labels", None, "contains a key that Kubernetes refuses"),
    ({"networkPolicy": {"to": [{}]}}, "spec.networkPolicy.to", None, "contains a peer that Kubernetes refuses"),
    (
        {"kernelCache": {"existingClaim": "kernels", "hostPath": "/kernels"}},
        "spec.kernelCache.hostPath",
        "/kernels",
        "names two places for the same kernels",
    ),
    ({"engine": {"extraArgs": ["--ssl-certfile=/c"]}}, "spec.engine.extraArgs", None, "makes SGLang use TLS"),
    ({"engine": {"extraArgs": ["--dp-size", "2"]}}, "spec.engine.extraArgs", None, "multiplies the number of GPUs"),
    ({"engine": {"extraArgs": ["--node-rank=1"]}}, "spec.engine.extraArgs", None, "spreads SGLang over several nodes"),
    ({"engine": {"extraArgs": ["--grpc-mode"]}}, "spec.engine.extraArgs", None, "disables SGLang's HTTP API"),
    ({"engine": {"extraArgs": ["--base-gpu-id=4"]}}, "spec.engine.extraArgs", None, "selects GPUs by their numbers"),
    ({"engine": {"extraArgs": ["-h"]}}, "spec.engine.extraArgs", None, "makes SGLang print its help and end"),
    ({"engine": {"extraArgs": ["--"]}}, "spec.engine.extraArgs", None, "contains the item --, after which"),
    ({"engine": {"extraArgs": ["--log-level info"]}}, "spec.engine.extraArgs", None, "write --flag=value"),
    (
        {"engine": {"image": "lmsysorg/sglang:v0.5.7-rocm700-mi35x"}},
        "spec.engine.image",
        "lmsysorg/sglang:v0.5.7-rocm700-mi35x",
        "use a mi30x image",
    ),
    (
        overlay({"name": "sglang", "securityContext": {"privileged": True}}),
        "spec.podTemplate.spec.containers",
        None,
        "makes the container sglang privileged",
    ),
    (
        {"podTemplate": {"spec": {"hostNetwork": True}}},
        "spec.podTemplate.spec.hostNetwork",
        True,
        "puts the server on the node's network",
    ),
    (
        overlay({"name": "sglang", **gpus("limits", 8)}),
        "spec.podTemplate.spec.containers",
        None,
        "a number of amd.com/gpu other than spec.tensorParallelism",
    ),
    (
        overlay({"name": "warm", **gpus("requests", "2")}, group="initContainers"),
        "spec.podTemplate.spec.initContainers",
        None,
        "an init container must request this number or no GPUs",
    ),
    (
        overlay({"name": "log-shipper", **gpus("requests", 4)}),
        "spec.podTemplate.spec.containers",
        None,
        "only the container sglang can have GPUs",
    ),
    (
        overlay({"name": "sglang", "args": ["sleep"]}),
        "spec.podTemplate.spec.containers",
        None,
        "use spec.engine",
    ),
    (
        overlay({"name": "sglang", "env": [{"name": "SGLANG_ROCM_FUSED_DECODE_MLA", "value": "1"}]}),
        "spec.podTemplate.spec.containers",
        None,
        "which Kimi-Linear needs: remove the variable",
    ),
    (
        overlay({"name": "sglang", "ports": [{"containerPort": 30000, "name": "other"}]}),
        "spec.podTemplate.spec.containers",
        None,
        "probes and Services need it",
    ),
    (
        {"inheritedMetadata": {"labels": {"kimi-linear.io/server": "other"}}},
        "spec.inheritedMetadata.labels",
        None,
        "choose another key",
    ),
    (
        {"inheritedMetadata": {"annotations": {"kimi-linear.io/fingerprint": "0"}}},
        "spec.inheritedMetadata.annotations",
        None,
        "choose another key",
    ),
    (
        {"inheritedMetadata": {"labels": {"-team": "ml"}}},
        "spec.inheritedMetadata.labels",
        None,
        "contains a key that Kubernetes refuses",
    ),
    (
        {"inheritedMetadata": {"annotations": {"a/b/c": "ml"}}},
        "spec.inheritedMetadata.annotations",
        None,
        "contains a key that Kubernetes refuses",
    ),
    (
        {"podTemplate": {"metadata": {"labels": {"app.kubernetes.io/name": "mine"}}}},
        "spec.podTemplate.metadata.labels",
        None,
        "choose another key",
    ),
    ({"tensorParallelism": 8}, "spec.tensorParallelism", 8, "published results for this model"),
    (
        {"hardware": "mi355x"},
        "spec.engine.version",
        "v0.5.7",
        "fails with this model on MI355X",
    ),
    (
        {"engine": {"version": "v0.5.9"}},
        "spec.engine.version",
        "v0.5.9",
        "is not the release for which this operator is",
    ),
    ({"engine": {"version": "v0.5.99"}}, "spec.engine.version", "v0.5.99", "the operator guesses the tag of the image"),
    (
        {"service": {"type": "LoadBalancer"}},
        "spec.service.type",
        "LoadBalancer",
        "lets everyone on a network use the server without an API key",
    ),
    (
        {"service": {"type": "NodePort"}, "networkPolicy": {"from": [{"namespaceSelector": {}}]}, **AUTH},
        "spec.networkPolicy.from",
        None,
        "has no ipBlock, but spec.service.type offers the server outside the cluster",
    ),
    ({"monitoring": {}, "networkPolicy": {}}, "spec.networkPolicy.from", None, "refuses Prometheus"),
    (
        {"hardware": "mi355x", "engine": {"image": "a/sglang:v0.5.7-rocm700-mi35x"}},
        "spec.engine.image",
        "a/sglang:v0.5.7-rocm700-mi35x",
        "contains SGLang v0.5.7, which fails with this model on MI355X",
    ),
    (
        {"engine": {"image": "a/sglang:own"}},
        "spec.engine.image",
        "a/sglang:own",
        "has a tag without a tested release",
    ),
]


@pytest.mark.parametrize(("spec", "path", "value", "words"), BROKEN, ids=[case[3] for case in BROKEN])
def test_each_rule_can_be_broken_alone(spec: Manifest, path: str, value: object, words: str) -> None:
    (problem,) = problems(**spec)
    assert (problem.path, problem.value) == (path, value)
    assert words in problem.message


def test_a_name_too_long_for_its_children_is_refused() -> None:
    (problem,) = check(make_server("k" * 51)).problems
    assert problem.path == "metadata.name"
    assert "use at most 50 " in problem.message


def test_two_gpus_give_two_warnings_until_the_backend_is_set() -> None:
    # This rule can't be broken alone: with 2 GPUs the published results are missing, too.
    paths = [problem.path for problem in problems(tensorParallelism=2)]
    assert paths == ["spec.tensorParallelism", "spec.engine.attentionBackend"]
    (remaining,) = problems(tensorParallelism=2, engine={"attentionBackend": "triton"})
    assert remaining.path == "spec.tensorParallelism"


# These rules can't be broken alone: a key on the command line is always a warning.
BROKEN_KEYS: list[tuple[Manifest, str]] = [
    ({"engine": {"extraArgs": ["--api-key=$(KEY)"]}}, "a variable that the container sglang lacks"),
    (keyed({"env": [{"name": "KEY", "value": "sk-1"}]}), "whose value is in the spec"),
    ({**keyed({"env": [SECRET]}), "router": {}}, "cannot read it from"),
]


@pytest.mark.parametrize(("spec", "words"), BROKEN_KEYS, ids=[words for _, words in BROKEN_KEYS])
def test_a_key_on_the_command_line_that_comes_from_no_secret_is_refused(spec: Manifest, words: str) -> None:
    refused, warned = problems(**spec)
    assert words in refused.message
    assert "puts the API key on SGLang's command line" in warned.message


def test_every_rule_is_broken_by_one_of_these_tests() -> None:
    specs = [*(case[0] for case in BROKEN), *(case[0] for case in BROKEN_KEYS)]
    broken = {problem for spec in specs for problem in problems(**spec)}
    broken |= {*problems(tensorParallelism=2), *check(make_server("k" * 51)).problems}
    told = {(problem.severity, problem.path, problem.message) for problem in broken}
    assert told == {(rule.severity, rule.path, rule.message) for rule in RULES}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"hardware": "mi325x", "toolCallParser": "enabled", "replicas": 0},
        {"engine": {"extraArgs": ["--tpu", "--log-level", "info", "--tokenizer-mode=slow", "a value"]}},
        {"hardware": "mi355x", "engine": {"image": "registry/sglang:v0.5.9-rocm720-mi35x", "version": "v0.5.7"}},
        overlay({"name": "sglang", **gpus("limits", "4")}, {"name": "log-shipper", "image": "a", "args": ["b"]}),
        overlay({"name": "warm", "image": "a", **gpus("limits", 4)}, group="initContainers"),
        overlay({"name": "sglang", "ports": [{"containerPort": 9090, "name": "metrics"}]}),
        overlay({"name": "log-shipper", "env": [{"name": "SGLANG_ROCM_FUSED_DECODE_MLA", "value": "1"}]}),
        {"podTemplate": {"metadata": {"labels": {"app.kubernetes.io/version": "1", "team": "search"}}}},
        keyed({"env": [{"name": "OTHER", "value": "x"}, SECRET]}),
        keyed({"envFrom": [{"secretRef": {"name": "api"}}]}),
        AUTH | {"engine": {"extraArgs": ["--tokenizer-mode=slow"]}},
        {"engine": {"extraArgs": ["--tokenizer-worker-num=4"]}},
        {"engine": {"extraArgs": ["--enable-dp-attention", "--dp-size=4"]}},
        {
            "engine": {
                "extraArgs": ["--nccl-port=1", "--dist-timeout=9", "--grammar-backend=none", "--watchdog-timeout=9"]
            }
        },
    ],
    ids=str,
)
def test_a_valid_spec_has_no_errors(spec: Manifest) -> None:
    assert check(make_server(**spec)).errors == []


@pytest.mark.parametrize("flag", ["--tp", "--tp-size=8", "--tensor-parallel-size", "--host=127.0.0.1", "--model"])
def test_a_flag_that_has_a_field_is_refused_in_every_spelling(flag: str) -> None:
    (problem,) = problems(engine={"extraArgs": ["--log-level=info", flag]})
    assert problem.path == "spec.engine.extraArgs"


@pytest.mark.parametrize(
    "flag",
    [
        *("--ssl-keyfile", "--ssl-cert=/c", "--ssl-ca", "--enable-ssl"),
        *("--data-parallel-size=2", "--dp-", "--data-par"),
        *("--dist-init-addr=a:1", "--nccl-init=a:1", "--node", "--use-ray"),
        *("--grpc", "--smg-grpc-mode", "--encoder-only"),
        *("--gpu-id-step=2", "--base-gpu-id"),
        *("--help", "--he"),
    ],
)
def test_a_flag_that_always_fails_is_refused_in_every_spelling(flag: str) -> None:
    assert [problem.path for problem in check(make_server(engine={"extraArgs": [flag]})).errors] == [
        "spec.engine.extraArgs"
    ]


@pytest.mark.parametrize(
    "container",
    [
        {},
        {"env": [{**SECRET, "name": "KEYS"}]},
        {"env": [{**SECRET, "name": "KEY"}, {"name": "KEY", "value": "sk-1"}]},
        {"env": [{"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]},
        {"envFrom": [{"configMapRef": {"name": "c"}}]},
        {"env": [{"name": "KEY", "value": "sk-1"}], "envFrom": [{"secretRef": {"name": "api"}}]},
    ],
    ids=str,
)
def test_a_key_that_is_in_no_secret_is_refused(container: Manifest) -> None:
    (problem,) = check(make_server(**keyed(container))).errors
    assert problem.path == "spec.engine.extraArgs"


def test_the_last_of_two_keys_decides_because_sglang_takes_the_last() -> None:
    arguments = ["--api-key=$(KEY)", "--api-key=$(NONE)"]
    spec = {**keyed({"env": [SECRET]}), "engine": {"extraArgs": arguments}}
    assert check(make_server(**spec)).errors


def test_a_key_in_the_variable_of_a_sidecar_does_not_count() -> None:
    spec = {**keyed({}), **overlay({"name": "sglang"}, {"name": "log-shipper", "env": [SECRET]})}
    assert check(make_server(**spec)).errors


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_an_open_server_with_a_key_needs_no_warning(kind: str) -> None:
    assert problems(**AUTH, service={"type": kind}) == []
    (old,) = problems(**keyed({"env": [SECRET]}), service={"type": kind})
    assert old.path == "spec.engine.extraArgs"


@pytest.mark.parametrize("way", [{"ingress": {}}, {"httpRoute": {"parentRefs": [{"name": "public"}]}}])
def test_only_a_server_without_a_key_gets_a_warning_about_outside_access(way: Manifest) -> None:
    assert [(problem.severity, problem.path) for problem in problems(**way)] == [("warning", "spec.auth")]
    assert problems(**AUTH, **way) == []


@pytest.mark.parametrize("name", ["k" * 50, "k", "kimi-linear-2"])
def test_a_name_that_is_valid_for_a_service_is_accepted(name: str) -> None:
    assert check(make_server(name)).problems == ()


@pytest.mark.parametrize("name", ["2kimi", "kimi.linear", "Kimi", "kimi-", "-kimi"])
def test_a_name_that_is_invalid_for_a_service_is_refused(name: str) -> None:
    (problem,) = check(make_server(name)).problems
    assert (problem.path, problem.value) == ("metadata.name", name)


# A spec, and the line that names the field and the problem.
SHAPES: list[tuple[Manifest, str]] = [
    ({"replica": 2}, "spec.replica: unknown field: did you mean replicas?"),
    ({"engine": {"extraArg": []}}, "spec.engine.extraArg: unknown field: did you mean extraArgs?"),
    ({"model": {"tokenSecretRef": {"nam": "x", "name": "x"}}}, "spec.model.tokenSecretRef.nam: unknown field: did you"),
    ({"drain": {"zzz": 1}}, "spec.drain.zzz: unknown field: the known fields are timeoutSeconds"),
    ({"replicas": "2"}, 'spec.replicas: "2": must be a whole number, without quotes'),
    ({"tensorParallelism": "4"}, 'spec.tensorParallelism: "4": must be a whole number, without quotes'),
    ({"tensorParallelism": True}, "spec.tensorParallelism: true: must be a whole number, without quotes"),
    ({"tensorParallelism": 4.5}, "spec.tensorParallelism: 4.5: must be a whole number, without quotes"),
    ({"tensorParallelism": 3}, "spec.tensorParallelism: 3: must be 1, 2, 4 or 8"),
    ({"replicas": True}, "spec.replicas: true: must be a whole number, without quotes"),
    ({"replicas": 4.5}, "spec.replicas: 4.5: must be a whole number, without quotes"),
    ({"replicas": -1}, "spec.replicas: -1: must be greater than or equal to 0"),
    ({"suspend": "true"}, 'spec.suspend: "true": must be true or false, without quotes'),
    ({"hardware": "mi250"}, "spec.hardware: \"mi250\": must be 'mi300x', 'mi325x' or 'mi355x'"),
    (
        {"model": {"revision": 7}},
        "spec.model.revision: 7: must be a string; put it in quotes if it looks like a number",
    ),
    ({"model": {"tokenSecretRef": {}}}, "spec.model.tokenSecretRef.name: is required"),
    ({"engine": {"memoryFractionStatic": "0.8"}}, 'spec.engine.memoryFractionStatic: "0.8": must be a number'),
    ({"engine": {"memoryFractionStatic": True}}, "spec.engine.memoryFractionStatic: true: must be a number"),
    ({"engine": {"extraArgs": "--x"}}, 'spec.engine.extraArgs: "--x": must be a list'),
    ({"engine": {"extraArgs": [1]}}, "spec.engine.extraArgs[0]: 1: must be a string"),
    ({"engine": []}, "spec.engine: must be an object"),
    ({"service": {"annotations": {"a": 1}}}, "spec.service.annotations.a: 1: must be a string"),
    (overlay({"image": "a"}), "spec.podTemplate.spec.containers[0].name: is required"),
    (overlay({"name": "sglang", **gpus("limits", 4.5)}), "spec.podTemplate.spec.containers[0].resources.limits"),
]


@pytest.mark.parametrize(("spec", "line"), SHAPES, ids=[line for _, line in SHAPES])
def test_a_wrong_shape_is_reported_with_path_value_and_remedy(spec: Manifest, line: str) -> None:
    checked = check(make_server(**spec))
    (problem,) = checked.problems
    assert (checked.resource, checked.is_valid, problem.severity) == (None, False, "error")
    assert str(problem).startswith(line)


@pytest.mark.parametrize(
    "spec",
    [
        {"hardware": None, "engine": None, "tensorParallelism": None, "replicas": None},
        {"model": {"revision": None, "tokenSecretRef": None}, "podTemplate": None},
    ],
    ids=["fields with a default", "fields without"],
)
def test_null_means_the_same_as_absent(spec: Manifest) -> None:
    checked = check(make_server(**spec))
    assert checked.problems == ()
    assert checked == check(make_server())


@pytest.mark.parametrize(
    ("manifest", "line"),
    [
        ({}, "apiVersion: is required"),
        (make_server() | {"kind": "Deployment"}, 'kind: "Deployment": must be KimiLinearServer or KimiLinearBenchmark'),
        (make_server() | {"apiVersion": "kimi-linear.io/v1"}, 'apiVersion: "kimi-linear.io/v1": must be'),
        (make_server() | {"metadata": {}}, "metadata.name: is required"),
        (make_server() | {"metadata": []}, "metadata: must be an object"),
        (make_server() | {"spec": []}, "spec: must be an object"),
        (make_server() | {"specs": {}}, "specs: unknown field: did you mean spec?"),
    ],
    ids=str,
)
def test_resources_of_others_are_distinguished_from_ours(manifest: Manifest, line: str) -> None:
    assert str(check(manifest).problems[0]).startswith(line)


def test_unknown_fields_of_a_newer_definition_are_ignored_in_stored_servers() -> None:
    newer = make_server(warmUp="enabled", engine={"newer": {"a": 1}}, podTemplate={"spec": {"newer": 1}})
    checked = check_stored({**newer, "newer": {}})
    assert checked == check(make_server(engine={}, podTemplate={"spec": {"newer": 1}}))
    assert checked.is_valid
    assert [problem.path for problem in check(newer).problems] == ["spec.engine.newer", "spec.warmUp"]


def test_a_stored_server_is_still_refused_for_all_other_errors() -> None:
    assert str(check_stored(make_server(replicas=-1)).problems[0]).startswith("spec.replicas: -1: must be")
    assert not check_stored(make_server(reasoningParser="enabled")).is_valid


@pytest.mark.parametrize("status", [{}, {"conditions": []}, {"from": {"another": "version"}}], ids=str)
def test_a_status_of_any_content_leaves_a_resource_readable(status: Manifest) -> None:
    assert check(make_server() | {"status": status}).problems == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("model", "engine", "podTemplate", "replicas", "hardware", "service", "tensorParallelism", "extraArgs")
SPECS = st.dictionaries(st.sampled_from(FIELDS), JSON | st.dictionaries(st.sampled_from(FIELDS), JSON), max_size=4)


@given(st.builds(lambda spec: make_server() | {"spec": spec}, SPECS | JSON) | st.dictionaries(st.text(), JSON))
def test_any_stored_object_gives_a_server_or_printable_problems(manifest: Manifest) -> None:
    for checked in (check(manifest), check_stored(manifest)):
        assert checked.resource or checked.errors
        assert all(str(problem) for problem in checked.problems)
