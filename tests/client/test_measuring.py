"""With SGLang's own clients and the stand-in, the runner reports results, or why a client failed."""

import json
import re
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

from client.processes import MODEL, Pod, StandIn
from kimi_linear_operator.benchmark import commands, load, recipe
from kimi_linear_operator.benchmark.spec import BenchmarkSpec, Suite

Start = Callable[..., StandIn]

KEY = 'sk-"planted"'
# Keeps a copy of the client's file for the test, before the runner deletes it.
KEEP = ["/bin/sh", "-c", '"$@"; code=$?; cp suite.jsonl kept.jsonl; exit $code', "keep"]


def small(requests: int = 10, **options: str) -> list[str]:
    """Return a small suite, for tests of failures."""
    given = {"random_input_len": "20", "random_output_len": "50", "max_concurrency": "4"} | options
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
    start = ["python3", "-m", "sglang.bench_serving", "--backend", "sglang", "--model", MODEL]
    return [*start, "--dataset-name", "random", "--num-prompts", str(requests), "--request-rate", "inf", *words]


def questions(pod: Pod, count: int = 20) -> list[str]:
    dataset = str(pod.downloads / "gsm8k.jsonl")
    return ["python3", "-m", "sglang.test.few_shot_gsm8k", "--num-questions", str(count), "--data-path", dataset]


def failure(message: str, requested: int = 10) -> dict[str, Any]:
    return {"outcome": "Failed", "message": message, "requested": requested, "completed": 0, "metrics": {}}


def is_measured(name: str, value: object) -> bool:
    """Whether a key of the client's file is a measurement. Every number that is not an argument is one."""
    return isinstance(value, int | float) and not name.startswith(("random_", "request_rate", "max_concurrency"))


@pytest.mark.parametrize("suite", ["speed-low", "speed-medium", "speed-high"])
def test_the_runner_reports_every_metric_of_the_recipes_speed_suites(suite: str, start: Start, pod: Pod) -> None:
    requests = load.requests(Suite(name=suite))
    run = pod.run([*KEEP, *commands.build_command(BenchmarkSpec(), Suite(name=suite), MODEL)], requests, start().url)
    written = json.loads((pod.folder / "kept.jsonl").read_text())
    table = re.search(r"^Max ITL \(ms\): +([\d.]+) *$", run.log, re.MULTILINE)
    assert table
    own = {name: value for name, value in written.items() if is_measured(name, value)}
    assert len(own) == 31
    metrics = own | {"max_itl_ms": float(table[1])}
    counts = {"requested": requests, "completed": requests}
    assert run.result == {"outcome": "Succeeded", "message": "", **counts, "metrics": metrics}
    assert run.code == 0
    # Exactly the same load as in the recipe.
    same = ("completed", "total_input_tokens", "total_output_tokens")
    assert [metrics[name] for name in same] == [recipe.PUBLISHED[suite][name] for name in same]


def test_the_runner_reports_every_metric_of_the_recipes_accuracy_suite(start: Start, pod: Pod) -> None:
    run = pod.run(questions(pod, 200), 200, start().url)
    printed = dict(re.findall(r"^([A-Z][a-z ]+): ([\d.]+)", run.log, re.MULTILINE))
    metrics = {
        "accuracy": 0.705,
        "invalid": 0.0,
        "latency": float(printed["Latency"]),
        "output_throughput": float(printed["Output throughput"]),
    }
    assert (printed["Accuracy"], printed["Invalid"]) == ("0.705", "0.000")
    counts = {"requested": 200, "completed": 200}
    assert run.result == {"outcome": "Succeeded", "message": "", **counts, "metrics": metrics}
    assert run.code == 0


def test_results_logs_and_files_contain_no_secret(start: Start, pod: Pod) -> None:
    server = start("--api-key", KEY)
    for suite, requests in ((small(), 10), (questions(pod), 20)):
        run = pod.run(suite, requests, server.url, {"OPENAI_API_KEY": KEY})
        left = "".join(file.read_text() for file in pod.folder.iterdir())
        shown = run.log + left
        assert run.result["completed"] == requests
        assert "planted" not in shown
        assert "api_key" not in shown


@pytest.mark.parametrize("given", ["sk-other", ""])
def test_a_wrong_api_key_is_reported_and_not_shown(given: str, start: Start, pod: Pod) -> None:
    server = start("--api-key", KEY)
    refused = "the server refused the API key (HTTP 401): name the Secret that the server uses."
    speed = pod.run(small(), 10, server.url, {"OPENAI_API_KEY": given})
    assert (speed.result, speed.code) == (failure(f"The warm-up failed: {refused}"), 1)
    accuracy = pod.run(questions(pod), 20, server.url, {"OPENAI_API_KEY": given})
    assert accuracy.result == failure(f"T{refused[1:]}", 20)
    assert "sk-" not in speed.log + accuracy.log


def test_a_failed_warm_up_is_a_failure(start: Start, pod: Pod) -> None:
    run = pod.run(small(), 10, start(fail_every=1).url)
    assert run.result == failure("The warm-up failed: Internal Server Error: Internal Server Error.")


def test_a_server_that_does_not_exist_is_a_failure(pod: Pod) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        refused = "nothing answers at the server's address (connection refused)."
        assert pod.run(small(), 10, url).result == failure(f"The warm-up failed: {refused}")
        assert pod.run(questions(pod), 20, url).result == failure(f"N{refused[1:]}", 20)


def test_the_accuracy_client_stops_at_the_first_failed_question(start: Start, pod: Pod) -> None:
    run = pod.run(questions(pod), 20, start(fail_after=5, fail_every=1).url)
    assert re.fullmatch(
        r"After \d+ of 20 requests: the server answered a request with an error\.", run.result["message"]
    )
    assert run.result == failure(run.result["message"], 20)


def test_a_server_that_dies_during_questions_is_a_failure(start: Start, pod: Pod) -> None:
    run = pod.run(questions(pod), 20, start(die_after=5).url)
    assert re.fullmatch(r"(After \d+ of 20 requests: )?(t|T|n|N).+\.", run.result["message"])
    assert run.result == failure(run.result["message"], 20)


def test_a_dataset_that_is_too_small_is_reported(start: Start, pod: Pod) -> None:
    url = start().url
    (pod.downloads / "few.jsonl").write_text("".join((pod.downloads / "gsm8k.jsonl").read_text().splitlines(True)[:8]))
    few = [*questions(pod)[:-1], str(pod.downloads / "few.jsonl")]
    accuracy = pod.run(few, 20, url).result
    assert (accuracy["completed"], accuracy["message"]) == (8, "The dataset has only 8 questions.")
    conversations = json.loads((pod.downloads / "sharegpt.json").read_text())[:6]
    (pod.downloads / "few.json").write_text(json.dumps(conversations))
    speed = pod.run(small(dataset_path=str(pod.downloads / "few.json")), 10, url).result
    assert (speed["outcome"], speed["completed"], speed["message"]) == (
        "Succeeded",
        6,
        "The dataset has only 6 prompts.",
    )


@pytest.mark.parametrize(
    ("hub", "lacking"),
    [
        ("tokenizer", "The tokenizer is not in the pod and could not be downloaded"),
        ("huggingface", "The dataset is not in the pod and could not be downloaded"),
    ],
)
def test_a_failure_names_the_file_that_cannot_be_downloaded(hub: str, lacking: str, pod: Pod) -> None:
    suite = small() if hub == "tokenizer" else small(tokenizer=str(pod.downloads / "tokenizer"))
    run = pod.run(suite, 10, "http://127.0.0.1:1", {"HF_HOME": str(pod.folder / "empty")})
    assert run.result == failure(f"{lacking}: without internet, mount it.")


def test_a_stopped_run_reports_its_progress(start: Start, pod: Pod) -> None:
    server = start(seconds_per_token=0.03)
    suite = small(max_concurrency="1", random_range_ratio="1")
    with pod.start(suite, 10, server.url, {"TQDM_MININTERVAL": "0"}) as process:
        assert process.stdout
        next(line for line in process.stdout if " 3/10 [" in line)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 1
    result = pod.result()
    assert re.fullmatch(r"After [3-9] of 10 requests: the run was stopped \(SIGTERM\)\.", result["message"])
    assert result == failure(result["message"])
