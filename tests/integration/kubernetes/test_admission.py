"""The API server's verdicts on a KimiLinearServer, without an operator."""

import functools
import json
import subprocess
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from commands import LocalClusterError
from control_plane import LocalCluster
from integration.benchmark_specs import benchmark_manifests
from integration.client import STRICT_DRY_RUN, Answer, Client, path_of
from integration.client_pods import benchmark_manifest
from integration.namespace import Namespace, condition_of, server_manifest
from integration.specs import manifests
from integration.waiting import wait_for
from integration.weights_pods import weights_manifest
from integration.weights_specs import weights_manifests
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.problem import one_line
from kimi_linear_operator.kubernetes.rule import Rule
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server.rules import ERRORS
from kimi_linear_operator.server.spec import SERVER
from passes import RESOURCES

pytestmark = pytest.mark.usefixtures("no_operator")

_POLICY_WORDS = "Validation failed for ValidatingAdmissionPolicy"


@pytest.fixture(scope="module", autouse=True)
def warnings_are_given(client: Client) -> None:
    """Wait until the API server uses the policies that warn. It checks for new policies once a second."""
    server = server_manifest("kimi", "default", {"tensorParallelism": 8})
    few = [{"name": "few", "accuracy": {"numQuestions": 10}}]
    benchmark = benchmark_manifest("nightly", "default", {"serverRef": {"name": "kimi"}, "suites": few})
    weights = weights_manifest("kimi", "default", volume={"accessModes": ["ReadWriteOnce"]})
    for risky in (server, benchmark, weights):
        wait_for(functools.partial(_ask, client, risky), "the API server warns", lambda answer: answer.warnings)


@given(manifest=manifests())
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
def test_the_api_server_and_the_rules_agree_on_every_spec(client: Client, manifest: Manifest) -> None:
    _agree(client, manifest)


@given(manifest=benchmark_manifests())
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
def test_the_api_server_and_the_rules_agree_on_every_benchmark(client: Client, manifest: Manifest) -> None:
    _agree(client, manifest)


@given(manifest=weights_manifests())
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
def test_the_api_server_and_the_rules_agree_on_all_weights(client: Client, manifest: Manifest) -> None:
    _agree(client, manifest)


@pytest.mark.parametrize(
    "spec",
    [
        {"unknown": None},
        {"engine": {"unknown": None}},
        {"engine": None},
        {"service": {"port": 80.0}},
        {"tensorParallelism": 4.0},
        {"tensorParallelism": 4.5},
        {"tensorParallelism": True},
        {"replicas": 2**64},
        {"engine": {"memoryFractionStatic": 0}},
        {"podTemplate": {"spec": {"hostNetwork": "yes"}}},
        {"podTemplate": {"spec": {"hostNetwork": None}}},
        {"podTemplate": {"spec": {"affinity": "x"}}},
        {"podTemplate": {"spec": {"affinity": {"nodeAffinity": {"x": 1}, "podAffinity": 1}}}},
        {"podTemplate": {"spec": {"volumes": [{"name": "cache"}, {"emptyDir": {}}]}}},
        {"engine": {"memoryFractionStatic": 1}},
        {"model": {"path": "/a\vb"}},
        {"model": {"path": "/a\u00a0b"}},
        {"engine": {"version": "v0.5.7\n"}},
        {"engine": {"version": "v\u0660.\u0665.\u0667"}},
        {"engine": {"extraArgs": ["\u00e9" * 1024]}},
        {"engine": {"extraArgs": ["x", "x", None]}},
        {"service": {"annotations": {"a": None}}},
        {"podTemplate": {"metadata": {"labels": {"a": None}}}},
        {"podTemplate": {"spec": {"nodeSelector": None, "unknown": {"a": None}}}},
        *(
            {
                "podTemplate": {
                    "spec": {"containers": [{"name": "sglang", "resources": {"limits": {"amd.com/gpu": count}}}]}
                }
            }
            for count in (4, "4", "04", 4.0, None, True)
        ),
        *(
            {"podTemplate": {"spec": {"containers": [{"name": "proxy", "resources": {"limits": {"cpu": count}}}]}}}
            for count in (1, 0.5, None, 2**63, "\u00e9" * 32, "\u00e9" * 33)
        ),
    ],
    ids=lambda spec: json.dumps(spec)[:80],
)
def test_the_api_server_and_the_rules_agree_where_json_and_python_differ(client: Client, spec: dict[str, Any]) -> None:
    _agree(client, server_manifest("kimi", "default", spec))


def _agree(client: Client, manifest: Manifest) -> None:
    """Check that a manifest gets the same verdict, and the same words, from both."""
    checked = check(manifest)
    answer = _ask(client, _as_kubectl_sends(manifest))
    assert (answer.status == 201) == checked.is_valid, _both_verdicts(manifest, checked, answer)
    if checked.is_valid:
        warned = {one_line(f"{problem.path}: {problem.message}") for problem in checked.problems}
        assert _warnings(answer) == warned, _both_verdicts(manifest, checked, answer)
    elif checked.resource:  # the shape is valid, so rules were broken
        silent = [problem for problem in checked.errors if one_line(problem.message) not in answer.message]
        assert not silent, _both_verdicts(manifest, checked, answer)


def _as_kubectl_sends(value: Any) -> Any:
    """Return a manifest as kubectl sends it. Go writes 4.0 as 4, but writes large numbers with an exponent."""
    if isinstance(value, dict):
        return {key: _as_kubectl_sends(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_kubectl_sends(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    return value


def _ask(client: Client, manifest: Manifest) -> Answer:
    """Ask whether an object would be accepted, without storing it."""
    kind = next(kind for kind in RESOURCES if kind.kind == manifest["kind"])
    answer = client.send("POST", path_of(kind, "default"), manifest, STRICT_DRY_RUN)
    assert answer.status in (201, 400, 422), f"{answer.status} for {json.dumps(manifest)}: {answer.message}"
    return answer


def _warnings(answer: Answer) -> set[str]:
    return {text.partition("': ")[2] for text in answer.warnings if text.startswith(_POLICY_WORDS)} | {
        text for text in answer.warnings if not text.startswith(_POLICY_WORDS)
    }


def _both_verdicts(manifest: Manifest, checked: Checked[Any], answer: Answer) -> str:
    lines = [
        json.dumps({"metadata": manifest["metadata"], "spec": manifest.get("spec")}, indent=1, ensure_ascii=False),
        "rules.check():",
        *(f"  {problem.severity}: {problem}" for problem in checked.problems),
        f"API server: {answer.status} {answer.message}",
        *(f"  Warning: {text}" for text in answer.warnings),
    ]
    return "\n".join(lines)


def _container(**fields: Any) -> dict[str, Any]:
    return {"podTemplate": {"spec": {"containers": [{"name": "sglang", **fields}]}}}


def _gpus(count: int | str) -> dict[str, Any]:
    return {"limits": {"amd.com/gpu": count}}


# By words of each rule's message: a name and a spec that break only this rule.
_BREAKING: dict[str, tuple[str, dict[str, Any]]] = {
    "doesn't support reasoning parser": ("kimi", {"reasoningParser": "enabled"}),
    "use at most 50 ": ("a" * 51, {}),
    "a directory has no revision": ("kimi", {"model": {"path": "/models/kimi", "revision": "main"}}),
    "a flag that the operator sets": ("kimi", {"engine": {"extraArgs": ["--tp=8"]}}),
    "shows an API key": ("kimi", {"engine": {"extraArgs": ["--api-key=secret"]}}),
    "in one item with a space": ("kimi", {"engine": {"extraArgs": ["--log-level info"]}}),
    "spec.monitoring.labels: contains a label": (
        "kimi",
        {"monitoring": {"labels": {"kimi-linear.io/server": "other"}}},
    ),
    "spec.monitoring.labels: contains a key": ("kimi", {"monitoring": {"labels": {"-team": "ml"}}}),
    "spec.networkPolicy.from: contains a peer": ("kimi", {"networkPolicy": {"from": [{}]}}),
    "spec.networkPolicy.to: contains a peer": (
        "kimi",
        {"networkPolicy": {"to": [{"podSelector": {}, "ipBlock": {"cidr": "192.0.2.0/24"}}]}},
    ),
    "is built for GPUs other than": (
        "kimi",
        {"hardware": "mi355x", "engine": {"image": "lmsysorg/sglang:v0.5.8-mi30x"}},
    ),
    "container sglang privileged": ("kimi", _container(securityContext={"privileged": True})),
    "on the node's network": ("kimi", {"podTemplate": {"spec": {"hostNetwork": True}}}),
    "that the container sglang lacks": ("kimi", {"engine": {"extraArgs": ["--api-key=$(KEY)"]}}),
    "whose value is in the spec": (
        "kimi",
        {
            "engine": {"extraArgs": ["--admin-api-key=$(KEY)"]},
            **_container(env=[{"name": "KEY", "value": "sk-1"}]),
        },
    ),
    "sets an API key in addition to": (
        "kimi",
        {
            "auth": {"apiKeySecretRef": {"name": "clients"}},
            "engine": {"extraArgs": ["--api-key=$(KEY)"]},
            **_container(env=[{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "clients", "key": "token"}}}]),
        },
    ),
    "but with this flag SGLang ignores API keys": (
        "kimi",
        {
            "auth": {"apiKeySecretRef": {"name": "clients"}},
            "engine": {"extraArgs": ["--tokenizer-worker-num", "4"]},
        },
    ),
    "names two places for the same kernels": (
        "kimi",
        {"kernelCache": {"existingClaim": "kernels", "hostPath": "/var/lib/kernels"}},
    ),
    "the weights come from spec.model.weights": ("kimi", {"model": {"weights": "kimi", "revision": "main"}}),
    "the weights come from an image": ("kimi", {"model": {"image": "weights:1", "path": "/models/kimi"}}),
    "makes SGLang use TLS": ("kimi", {"engine": {"extraArgs": ["--ssl-keyfile=/k"]}}),
    "multiplies the number of GPUs": ("kimi", {"engine": {"extraArgs": ["--data-parallel-size", "2"]}}),
    "spreads SGLang over several nodes": ("kimi", {"engine": {"extraArgs": ["--dist-init-addr=10.0.0.1:1"]}}),
    "disables SGLang's HTTP API": ("kimi", {"engine": {"extraArgs": ["--grpc-mode"]}}),
    "selects GPUs by their numbers": ("kimi", {"engine": {"extraArgs": ["--base-gpu-id=4"]}}),
    "makes SGLang print its help and end": ("kimi", {"engine": {"extraArgs": ["-h"]}}),
    "remove this request and set spec.tensorParallelism": ("kimi", _container(resources=_gpus(8))),
    "an init container must request this number": (
        "kimi",
        {"podTemplate": {"spec": {"initContainers": [{"name": "fetch", "resources": _gpus("1")}]}}},
    ),
    "requests amd.com/gpu for a sidecar": (
        "kimi",
        {"podTemplate": {"spec": {"containers": [{"name": "proxy", "image": "envoy", "resources": _gpus(1)}]}}},
    ),
    "changes image, command or args": ("kimi", _container(args=["--help"])),
    "sets SGLANG_ROCM_FUSED_DECODE_MLA": (
        "kimi",
        _container(env=[{"name": "SGLANG_ROCM_FUSED_DECODE_MLA", "value": "1"}]),
    ),
    "changes the port http": ("kimi", _container(ports=[{"name": "http", "containerPort": 8080}])),
    "spec.verification.dataset: must say where": ("kimi", {"verification": {"dataset": {"path": "test.jsonl"}}}),
    "needs spec.verification.mode Block": ("kimi", {"verification": {"mode": "Warn", "onFailure": "Rollback"}}),
    "contains the item --, after which": ("kimi", {"engine": {"extraArgs": ["--"]}}),
    "cannot read it from SGLang's command line": (
        "kimi",
        {
            "router": {},
            "engine": {"extraArgs": ["--api-key=$(KEY)"]},
            **_container(env=[{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "clients", "key": "token"}}}]),
        },
    ),
    "works only with load balancers": ("kimi", {"service": {"loadBalancerClass": "example.com/lb"}}),
    "works only with traffic from outside": ("kimi", {"service": {"externalTrafficPolicy": "Local"}}),
    "needs hosts for its certificate": ("kimi", {"ingress": {"tlsSecretName": "kimi-tls"}}),
    "is greater than spec.autoscaling.maxReplicas: correct one of them": (
        "kimi",
        {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}},
    ),
    "but only KEDA can start the first replica again": ("kimi", {"autoscaling": {"minReplicas": 0, "maxReplicas": 2}}),
    "but nothing notices a request while no replica runs": (
        "kimi",
        {"autoscaling": {"minReplicas": 0, "maxReplicas": 2, "keda": {"prometheusAddress": "http://prometheus:9090"}}},
    ),
    "spec.podTemplate.metadata.labels: contains a label": (
        "kimi",
        {"podTemplate": {"metadata": {"labels": {"kimi-linear.io/server": "other"}}}},
    ),
    "spec.inheritedMetadata.labels: contains a label": (
        "kimi",
        {"inheritedMetadata": {"labels": {"kimi-linear.io/server": "other"}}},
    ),
    "contains an annotation that the operator sets": (
        "kimi",
        {"inheritedMetadata": {"annotations": {"kimi-linear.io/fingerprint": "0"}}},
    ),
    "spec.inheritedMetadata.labels: contains a key": ("kimi", {"inheritedMetadata": {"labels": {"-team": "ml"}}}),
    "spec.inheritedMetadata.annotations: contains a key": (
        "kimi",
        {"inheritedMetadata": {"annotations": {"a/b/c": "ml"}}},
    ),
}


@pytest.mark.parametrize("rule", ERRORS, ids=lambda rule: f"{rule.path}-{rule.message[:24]}")
def test_the_api_server_enforces_every_rule_and_names_field_and_remedy(client: Client, rule: Rule) -> None:
    breaking = [example for words, example in _BREAKING.items() if words in f"{rule.path}: {rule.message}"]
    assert breaking, f"no example breaks the rule: {rule.message}"
    for name, spec in breaking:
        answer = _ask(client, server_manifest(name, "default", spec))
        assert answer.status == 422
        assert rule.path in answer.message
        broken = {other.message for other in ERRORS if one_line(other.message) in answer.message}
        assert broken == {rule.message}, answer.message


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"tensorParalelism": 4}, 'unknown field "spec.tensorParalelism"'),
        ({"engine": {"contextlength": 4096}}, 'unknown field "spec.engine.contextlength"'),
        ({"tensorParallelism": "4"}, 'spec.tensorParallelism in body must be of type integer: "string"'),
        ({"suspend": "yes"}, 'spec.suspend in body must be of type boolean: "string"'),
        (
            {"tensorParallelism": 3},
            'spec.tensorParallelism: Unsupported value: 3: supported values: "1", "2", "4", "8"',
        ),
        ({"hardware": "h100"}, 'spec.hardware: Unsupported value: "h100"'),
        ({"replicas": -1}, "spec.replicas in body should be greater than or equal to 0"),
        ({"model": {"tokenSecretRef": {"key": "token"}}}, "spec.model.tokenSecretRef.name: Required value"),
        ({"engine": {"version": "v0.5.7\n"}}, "spec.engine.version in body should match"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_the_api_server_names_a_field_of_a_wrong_shape(client: Client, spec: dict[str, Any], words: str) -> None:
    answer = _ask(client, server_manifest("kimi", "default", spec))
    assert answer.status in (400, 422)
    assert words in answer.message


def test_an_empty_spec_is_stored_with_the_recipes_defaults(namespace: Namespace) -> None:
    stored = namespace.create_server("kimi", {})
    assert stored["spec"]["tensorParallelism"] == 4
    assert stored["spec"]["engine"]["version"] == "v0.5.7"
    without_spec = server_manifest("other", namespace.name, {})
    del without_spec["spec"]
    assert namespace.client.create(SERVER, without_spec)["spec"] == stored["spec"]


def test_the_models_read_exactly_what_the_api_server_stores(namespace: Namespace) -> None:
    stored = namespace.create_server("kimi", {"engine": {"extraArgs": ["--dist-timeout=9"]}})
    checked = check(stored)
    assert checked.resource is not None
    assert checked.resource.manifest()["spec"] == stored["spec"]


def test_a_new_server_is_not_ready_until_an_operator_says_so(namespace: Namespace) -> None:
    ready = condition_of(namespace.create_server("kimi"), "Ready")
    assert (ready["status"], ready["reason"]) == ("Unknown", "Pending")


def test_kubectl_shows_warnings_and_accepts_the_server(cluster: LocalCluster, namespace: Namespace) -> None:
    manifest = server_manifest("kimi", namespace.name, {"tensorParallelism": 8})
    shown = _kubectl_with_warnings(cluster, json.dumps(manifest), "apply", "--filename=-")
    assert "Warning: " in shown
    assert "spec.tensorParallelism: published results for this model" in shown
    assert namespace.server("kimi")["spec"]["tensorParallelism"] == 8


def test_kubectl_refuses_an_unknown_field(cluster: LocalCluster, namespace: Namespace) -> None:
    manifest = server_manifest("kimi", namespace.name, {"tensorParalelism": 8})
    with pytest.raises(LocalClusterError, match=r'unknown field "spec\.tensorParalelism"'):
        cluster.kubectl("apply", "--filename=-", stdin=json.dumps(manifest))


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("spec.tensorParallelism", "Number of GPUs of one replica. This number sets --tp"),
        ("spec.engine.extraArgs", "More arguments for sglang.launch_server"),
        ("spec.podTemplate", "Strategic-merge patch on the pod template"),
        ("status.conditions.reason", "The reason for the status, as one CamelCase word."),
    ],
)
def test_kubectl_explains_a_field(cluster: LocalCluster, field: str, words: str) -> None:
    assert words in " ".join(cluster.kubectl("explain", f"kls.{field}").split())


def test_kubectl_lists_servers_by_short_name_and_in_category_all(cluster: LocalCluster, namespace: Namespace) -> None:
    namespace.create_server("kimi", {"hardware": "mi325x", "replicas": 3})
    header, row = cluster.kubectl("get", "kls", "--namespace", namespace.name).splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "HARDWARE", "TP", "REPLICAS", "URL", "AGE"]
    # Without an operator, there is no URL.
    assert row.split()[:-1] == ["kimi", "Unknown", "Pending", "mi325x", "4", "3"]
    wide = cluster.kubectl("get", "kls", "--namespace", namespace.name, "--output=wide").splitlines()[0]
    assert "IMAGE" in wide.split()
    assert "MESSAGE" in wide.split()
    everything = cluster.kubectl("get", "all", "--namespace", namespace.name)
    assert "kimilinearserver.kimi-linear.io/kimi" in everything


def _kubectl_with_warnings(cluster: LocalCluster, stdin: str, *arguments: str) -> str:
    """Return kubectl's output on standard error, which contains warnings."""
    command = [str(cluster.kubectl.program), f"--kubeconfig={cluster.kubeconfig}", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=True)
    return done.stderr
