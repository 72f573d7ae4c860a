"""The commands in a benchmark's pod: exactly the recipe's commands, and every parameter of a custom suite."""

import json
import shlex
from typing import Any

import pytest

from kimi_linear_operator.benchmark import job, target
from kimi_linear_operator.benchmark.commands import build_command
from kimi_linear_operator.benchmark.definition import CHECKER as BENCHMARKS
from kimi_linear_operator.benchmark.manifests import build
from kimi_linear_operator.benchmark.spec import KimiLinearBenchmark
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.client_pod import api_key_reference
from kimi_linear_operator.server.definition import CHECKER as SERVERS
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_benchmark, make_server

MODEL = "moonshotai/Kimi-Linear-48B-A3B-Instruct"


def made(**spec: Any) -> KimiLinearBenchmark:
    checked = BENCHMARKS.check(make_benchmark(**spec))
    assert checked.resource
    assert checked.errors == []
    return checked.resource


def server(**spec: Any) -> KimiLinearServer:
    checked = SERVERS.check(make_server(**spec))
    assert checked.resource
    assert checked.errors == []
    return checked.resource


def commands(**spec: Any) -> list[str]:
    given = made(**spec).spec
    return [shlex.join(build_command(given, suite, MODEL)) for suite in given.suites]


def speed(prompts: int, concurrency: int) -> str:
    return (
        f"python3 -m sglang.bench_serving --backend sglang --model {MODEL} --dataset-name random "
        f"--random-input-len 1000 --random-output-len 1000 --num-prompts {prompts} --max-concurrency {concurrency} "
        "--request-rate inf"
    )


def test_the_recipes_suites_run_the_recipes_commands() -> None:
    assert commands() == [
        speed(10, 1),
        speed(80, 16),
        speed(500, 100),
        "python3 -m sglang.test.few_shot_gsm8k --num-questions 200",
    ]


def test_every_parameter_of_a_custom_suite_reaches_the_client() -> None:
    load = {
        "numPrompts": 7,
        "requestRate": 2.5,
        "datasetName": "sharegpt",
        "randomInputLen": 1,
        "randomOutputLen": 2,
        "randomRangeRatio": 0.5,
        "sharegptOutputLen": 3,
        "sharegptContextLen": 4,
        "seed": 0,
        "warmupRequests": 0,
        "flushCache": True,
        "applyChatTemplate": True,
        "disableIgnoreEos": True,
        "disableStream": True,
        "tokenizePrompt": True,
        "extraArgs": ["--tag", "mine"],
    }
    questions = {"numQuestions": 100, "numShots": 0, "maxNewTokens": 8, "parallel": 9, "temperature": 0.5}
    suites = [{"name": "own", "speed": load}, {"name": "asked", "accuracy": questions}]
    assert commands(suites=suites, client={"tokenizer": "/models/kimi"}) == [
        f"python3 -m sglang.bench_serving --backend sglang --model {MODEL} --tokenizer /models/kimi "
        "--dataset-name sharegpt --random-input-len 1 --random-output-len 2 --random-range-ratio 0.5 "
        "--sharegpt-output-len 3 --sharegpt-context-len 4 --num-prompts 7 --request-rate 2.5 --seed 0 "
        "--warmup-requests 0 --flush-cache --apply-chat-template --disable-ignore-eos --disable-stream "
        "--tokenize-prompt --tag mine",
        "python3 -m sglang.test.few_shot_gsm8k --num-questions 100 --num-shots 0 --max-new-tokens 8 --parallel 9 "
        "--temperature 0.5",
    ]


def test_datasets_of_the_cluster_are_mounted_and_named() -> None:
    data = {
        "shareGPT": {"persistentVolumeClaim": "data", "path": "gpt/all.json"},
        "gsm8k": {"configMap": "gsm8k", "path": "test.jsonl"},
    }
    low, *_, asked = commands(datasets=data)
    assert "--dataset-path /datasets/sharegpt/gpt/all.json" in low
    assert asked.endswith("--data-path /datasets/gsm8k/test.jsonl")
    pod = job_of(build(made(datasets=data), target.of_server(made(), server())))["spec"]["template"]["spec"]
    assert pod["volumes"][3:] == [
        {"name": "dataset-sharegpt", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}},
        {"name": "dataset-gsm8k", "configMap": {"name": "gsm8k"}},
    ]
    mounts = {mount["mountPath"]: mount.get("readOnly") for mount in pod["containers"][0]["volumeMounts"]}
    assert (mounts["/datasets/sharegpt"], mounts["/datasets/gsm8k"], mounts["/results"]) == (True, True, None)


def job_of(objects: list[Manifest]) -> Manifest:
    return next(item for item in objects if item["kind"] == "Job")


def container(benchmark: KimiLinearBenchmark, measured: target.Target) -> Manifest:
    [only] = job_of(build(benchmark, measured))["spec"]["template"]["spec"]["containers"]
    return dict(only)


def test_a_client_uses_the_servers_image_and_secret_references_and_no_gpu() -> None:
    variable = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "api", "key": "key"}}}
    measured = server(
        hardware="mi325x",
        model={"tokenSecretRef": {"name": "hf"}},
        engine={"version": "v0.5.9", "extraArgs": ["--api-key=$(KEY)"]},
        podTemplate={"spec": {"containers": [{"name": "sglang", "env": [variable]}]}},
    )
    only = container(made(), target.of_server(made(), measured))
    assert only["image"] == "lmsysorg/sglang:v0.5.9-rocm700-mi30x"
    assert only["env"] == [
        {"name": "HF_HOME", "value": "/cache/huggingface"},
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}},
        {"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": {"name": "api", "key": "key"}}},
    ]
    assert "amd.com/gpu" not in str(only)


def test_a_client_has_the_key_that_the_server_requires() -> None:
    measured = server(auth={"apiKeySecretRef": {"name": "keys", "key": "kimi"}})
    only = container(made(), target.of_server(made(), measured))
    assert only["env"][1:] == [
        {"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "kimi"}}}
    ]


def test_a_client_of_an_endpoint_uses_the_recipes_image_and_its_own_key() -> None:
    benchmark = made(endpoint={"url": "http://far:1", "apiKeySecretRef": {"name": "far"}}, client={"image": "a/b:1"})
    measured = target.of_endpoint(benchmark)
    only = container(benchmark, measured)
    assert (only["image"], only["env"][1]["valueFrom"]) == ("a/b:1", {"secretKeyRef": {"name": "far", "key": "token"}})
    assert only["args"][only["args"].index("--url") + 1] == "http://far:1"
    assert target.of_endpoint(made(endpoint={"url": "http://far:1"})).image == "lmsysorg/sglang:v0.5.7-rocm700-mi30x"


def test_a_key_that_comes_through_env_from_is_unknown() -> None:
    spec = server(
        engine={"extraArgs": ["--api-key=$(KEY)"]},
        podTemplate={"spec": {"containers": [{"name": "sglang", "envFrom": [{"secretRef": {"name": "api"}}]}]}},
    ).spec
    assert api_key_reference(spec) is None


def test_a_client_without_packages_to_install_needs_no_shell() -> None:
    benchmark = made(client={"extraPipPackages": []})
    assert "command" not in container(benchmark, target.of_server(benchmark, server()))


def test_the_overlay_reaches_the_pod() -> None:
    changes = {"spec": {"tolerations": [{"operator": "Exists"}], "containers": [{"name": "client", "stdin": True}]}}
    benchmark = made(podTemplate=changes)
    pod = job_of(build(benchmark, target.of_server(benchmark, server())))["spec"]["template"]["spec"]
    assert (pod["tolerations"], pod["containers"][0]["stdin"]) == ([{"operator": "Exists"}], True)


def snapshot(generation: int = 1, uid: str = "u", image: str = "i", **restarts: int) -> str:
    found = {"metadata": {"uid": uid, "generation": generation}, "status": {"image": image}}
    pods = [
        {"metadata": {"name": name}, "status": {"containerStatuses": [{"restartCount": count}]}}
        for name, count in restarts.items()
    ]
    return target.snapshot(found, target.restarts(pods))


def test_changes_of_a_server_are_reported() -> None:
    assert target.changes(snapshot(a=0), snapshot(a=0)) == []
    assert target.changes(snapshot(1), snapshot(2)) == [
        "the server's spec changed during the suite (generation 1, then 2)"
    ]
    assert target.changes(snapshot(image="i"), snapshot(image="j")) == ["the server's image changed during the suite"]
    assert target.changes(snapshot(a=0, b=0), snapshot(a=1, b=0)) == [
        "pod a of the server was restarted during the suite"
    ]
    assert target.changes(snapshot(a=0), snapshot(b=0)) == ["pods of the server were replaced during the suite"]
    assert target.changes(snapshot(), snapshot(uid="other")) == ["the server was deleted or replaced during the suite"]
    assert target.changes(snapshot(), "{}") == ["the server was deleted or replaced during the suite"]
    assert target.changes("{}", "{}") == []
    assert target.changes("somebody wrote this", snapshot()) == ["the server was deleted or replaced during the suite"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "[" * 5000 + "]" * 5000,
        '{"a":' * 5000 + "1" + "}" * 5000,
        "1" * 5000,
        '"\\ud800"',
        "NaN",
        "null",
        "",
        json.dumps({"uid": "u", "generation": 1, "image": "i", "restarts": {}, "newer": [[]] * 50_000}),
    ],
    ids=lambda text: text[:8],
)
def test_a_snapshot_of_any_content_is_read_and_counts_as_a_change(text: str) -> None:
    assert target.changes(text, snapshot()) == ["the server was deleted or replaced during the suite"]
    assert target.changes_since({"serverGeneration": 1}, text)


@pytest.mark.parametrize(
    "generation", ["1" * 4000, f'"{"x" * 100_000}"', "[[[1]]]", "true", "null"], ids=lambda text: text[:8]
)
def test_an_invalid_generation_is_not_quoted(generation: str) -> None:
    text = json.dumps({**json.loads(snapshot()), "generation": "?"}).replace('"?"', generation)
    assert sum(map(len, target.changes(text, snapshot()))) < 200
    assert sum(map(len, target.changes_since({"serverGeneration": 1}, text))) < 200


def pod_template(image: str, **metadata: Any) -> Manifest:
    return {"metadata": metadata, "spec": {"containers": [{"name": "mesh"}, {"name": "sglang", "image": image}]}}


def test_other_pods_between_suites_are_reported_and_other_labels_are_not() -> None:
    facts = target.of_server(made(), server(), pod_template("a")).facts
    found = {"metadata": {"uid": "u", "generation": 1}}
    then, same, other = (
        target.snapshot(found, {}, template)
        for template in (pod_template("a"), pod_template("a", labels={"team": "search"}), pod_template("b"))
    )
    assert target.changes_since(facts, then) == target.changes_since(facts, same) == []
    assert target.changes_since(facts, other) == ["the server got other pods between suites"]
    # Facts of an earlier version do not contain the names of the pods.
    assert target.changes_since({}, other) == target.changes_since(facts, snapshot()) == []


@pytest.mark.parametrize("facts", [{"serverGeneration": "newer"}, {"podTemplateHash": 5, "serverGeneration": 3}])
def test_facts_that_cannot_be_compared_count_as_a_change(facts: dict[str, Any]) -> None:
    """Otherwise a benchmark could pass although its suites ran on different servers."""
    [message] = target.changes_since(facts, snapshot(generation=3))
    assert "unknown whether the server changed" in message
    readable = {"serverGeneration": 3, "hardware": {"gpu": "newer"}}
    assert target.changes_since(readable, snapshot(generation=3)) == []
    assert target.changes_since(readable, snapshot(generation=4))


def test_the_reported_image_and_command_are_those_of_the_running_pods() -> None:
    measured = server()
    measured = measured.model_copy(update={"status": {"command": "as it was started"}})
    facts = target.of_server(made(), measured, pod_template("built-by-another-version")).facts
    assert (facts["image"], facts["command"]) == ("built-by-another-version", "as it was started")


def pod_of(benchmark: KimiLinearBenchmark, measured: target.Target) -> Manifest:
    return dict(job_of(build(benchmark, measured))["spec"]["template"]["spec"])


TOLERATION = {"key": "amd.com/gpu", "operator": "Exists"}
TEMPLATE = {
    "spec": {
        "imagePullSecrets": [{"name": "pull"}],
        "tolerations": [TOLERATION],
        "nodeSelector": {"pool": "gpus"},
        "priorityClassName": "high",
    }
}


def test_a_client_has_its_servers_pull_secrets_and_tolerations_and_its_images_architecture() -> None:
    pod = pod_of(made(), target.of_server(made(), server(podTemplate=TEMPLATE)))
    shared = {name: pod.get(name) for name in (*TEMPLATE["spec"], "affinity")}
    assert shared == {
        "imagePullSecrets": [{"name": "pull"}],
        "tolerations": [TOLERATION],
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "priorityClassName": None,
        "affinity": None,
    }
    endpoint = made(endpoint={"url": "http://far:1"})
    assert pod_of(endpoint, target.of_endpoint(endpoint))["nodeSelector"] == {"kubernetes.io/arch": "amd64"}


def test_a_benchmarks_own_pod_settings_override_those_of_its_server() -> None:
    own = {"nodeSelector": {"kubernetes.io/arch": "arm64"}, "tolerations": [], "imagePullSecrets": [{"name": "more"}]}
    benchmark = made(podTemplate={"spec": own})
    pod = pod_of(benchmark, target.of_server(benchmark, server(podTemplate=TEMPLATE)))
    assert (pod["nodeSelector"], pod["tolerations"]) == ({"kubernetes.io/arch": "arm64"}, [])
    assert pod["imagePullSecrets"] == [{"name": "pull"}, {"name": "more"}]


def test_the_revision_of_the_server_reaches_the_client() -> None:
    def arguments(**model: Any) -> list[str]:
        return list(container(made(), target.of_server(made(), server(model=model)))["args"])

    pinned = arguments(revision="abc123")
    assert pinned[pinned.index("--revision") + 1] == "abc123"
    assert pinned.index("--revision") < pinned.index("--")
    assert "--revision" not in arguments()


def names(benchmark: str, suite: str, uid: str) -> str:
    manifest = make_benchmark(benchmark, suites=[{"name": suite, "accuracy": {}}])
    manifest["metadata"]["uid"] = uid
    of = KimiLinearBenchmark.model_validate(manifest)
    return job.name(of, of.spec.suites[0])


def test_jobs_of_different_suites_have_different_names() -> None:
    assert names("kimi", "speed-low", "a").startswith("kimi-speed-low-")
    assert len({names("kimi", "speed-low", "a"), names("kimi-speed", "low", "b"), names("kimi", "speed-low", "c")}) == 3
    longest = [names("k" * 40, "s" * 22, uid) for uid in "ab"]
    assert [len(name) for name in longest] == [63, 63]
    assert longest[0] != longest[1]


def test_a_forged_state_in_a_job_breaks_nothing() -> None:
    for odd in ('{"uid": "u"}', '{"uid": "u", "generation": 1, "image": "i", "restarts": [1]}', "[]", '"'):
        assert target.changes(odd, snapshot(a=0))
        assert target.changes(snapshot(a=0), odd)
