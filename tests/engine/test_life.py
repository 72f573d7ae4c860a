"""The life of a server. The servers are two releases of SGLang itself, and the stand-in, which must behave like SGLang.

Each server is started once for all tests of this file, with an API key, and is told to stop at the end.
"""

import json
import operator
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

import prometheus
import sglang_client
from client.processes import MODEL, Pod
from cpu_engine import environment
from dashboard_queries import metrics, queries, with_values
from engine.server import Server
from engine.targets import KEY, Target
from integration.waiting import wait_for
from kimi_linear_operator.benchmark import commands, load, runner
from kimi_linear_operator.benchmark.spec import BenchmarkSpec, Suite
from kimi_linear_operator.server.sglang import probes
from stand_in import answers

PATHS = ("/ping", "/ready", "/health", "/health_generate", "/v1/models", "/model_info", "/metrics")
FREE = ("/health", "/health_generate", "/metrics")
GUARDED = ("/", "/ping", "/v1/models", "/model_info", "/server_info", "/openapi.json")
COUNTERS = ("num_requests_total", "prompt_tokens_total", "generation_tokens_total")
SCHEDULER_LABELS = {"engine_type", "model_name", "moe_ep_rank", "pp_rank", "tp_rank"}
CHAT = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 6, "ignore_eos": True}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@dataclass(frozen=True)
class Life:
    """A server that is ready.

    Attributes:
        server: The server.
        seen: The statuses of each path during the start, without repetitions; 0 where nothing answered.
    """

    server: Server
    seen: dict[str, list[int]]


@pytest.fixture(scope="module")
def life(target: Target, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Start a server and watch it until it is ready."""
    with Server(target, tmp_path_factory.mktemp("server"), cache, key=KEY) as server:
        rounds = [statuses(server)]
        while rounds[-1]["/health"] != 200:
            assert server.process.poll() is None, server.log[-3000:]
            rounds.append(statuses(server))
            time.sleep(0.2)
        rounds.append(statuses(server))
        yield Life(server, {path: [code for code, _ in groupby(each[path] for each in rounds)] for path in PATHS})


@pytest.fixture
def server(life: Life) -> Server:
    return life.server


def statuses(server: Server) -> dict[str, int]:
    return {path: server.status(path) for path in PATHS}


def series(server: Server, name: str) -> dict[frozenset[str], float]:
    """Return the values of a metric by the names of their labels."""
    lines = re.findall(rf"^sglang:{name}{{(.*)}} (\S+)$", server.text("/metrics"), re.MULTILINE)
    return {frozenset(re.findall(r'(\w+)="', labels)): float(value) for labels, value in lines}


def total(server: Server, name: str) -> float:
    return sum(
        float(value) for value in re.findall(rf"^sglang:{name}{{.*}} (\S+)$", server.text("/metrics"), re.MULTILINE)
    )


def test_the_port_is_closed_while_loading_and_health_fails_during_the_warm_up(life: Life) -> None:
    manner = life.server.target.manner
    assert life.seen["/health"] == life.seen["/health_generate"] == [0, 503, 200]
    assert life.seen["/v1/models"] == life.seen["/model_info"] == life.seen["/metrics"] == [0, 200]
    assert life.seen["/ping"] == [code for code, _ in groupby([0, manner.ping_unready, 200])]
    assert life.seen["/ready"] == [code for code, _ in groupby([0, *manner.ready])]


def test_the_key_guards_every_path_except_health_and_metrics(server: Server) -> None:
    assert {path: server.status(path, key="") for path in FREE} == dict.fromkeys(FREE, 200)
    assert {path: server.status(path, key="sk-other") for path in GUARDED} == dict.fromkeys(GUARDED, 401)
    assert json.loads(server.text("/v1/models", key="")) == {"error": "Unauthorized"}


def test_the_key_is_in_no_log_command_line_or_environment(server: Server) -> None:
    assert KEY not in server.log
    assert "api_key" not in server.log or "[redacted]" in server.log
    shown = server.shown_by_processes()
    assert len(shown) >= 1
    assert [text for text in shown if KEY in text] == []


def test_the_server_says_which_model_it_serves(server: Server) -> None:
    [card] = server.answer("/v1/models")["data"]
    assert {name: card[name] for name in ("id", "object", "owned_by", "max_model_len")} == {
        "id": MODEL,
        "object": "model",
        "owned_by": "sglang",
        "max_model_len": 1048576,
    }
    info = server.answer("/model_info")
    assert {"model_path", "tokenizer_path", "is_generation", "weight_version"} <= info.keys()
    assert (info["model_path"], info["is_generation"]) == (MODEL, True)


def test_server_info_shows_the_settings_twice_with_the_key(server: Server) -> None:
    info = server.answer("/server_info")
    [state] = info["internal_states"]
    assert info["api_key"] == state["api_key"] == KEY
    assert info["version"] == server.target.release
    assert {"last_gen_throughput", "memory_usage"} <= state.keys()
    assert "avg_spec_accept_length" not in state


def test_gauges_come_from_the_scheduler_and_counters_have_the_releases_labels(server: Server) -> None:
    server.answer("/generate", {"text": "x", "sampling_params": {"max_new_tokens": 2}})
    for gauge in ("num_running_reqs", "num_queue_reqs", "token_usage"):
        assert list(series(server, gauge)) == [SCHEDULER_LABELS]
    for counter in COUNTERS:
        assert list(series(server, counter)) == [server.target.manner.counter_labels]
    # A counter does not exist before its first event.
    assert series(server, "num_aborted_requests_total") == {}


def test_requests_and_tokens_are_counted(server: Server) -> None:
    before = [total(server, counter) for counter in COUNTERS]
    used = server.answer("/v1/chat/completions", CHAT)["usage"]
    after = [total(server, counter) for counter in COUNTERS]
    added = [last - first for first, last in zip(before, after, strict=True)]
    assert added == [1, used["prompt_tokens"], used["completion_tokens"]]


def test_a_health_check_does_not_count_as_a_request(server: Server) -> None:
    before = total(server, "num_requests_total")
    assert server.status("/health_generate") == 200
    assert total(server, "num_requests_total") == before


def test_generate_answers_with_and_without_streaming(server: Server) -> None:
    body = {"text": "x", "sampling_params": {"max_new_tokens": 7, "ignore_eos": True, "temperature": 0}}
    whole = server.answer("/generate", body)["meta_info"]
    parts = [part["meta_info"] for part in server.events("/generate", body)]
    counts = [part["completion_tokens"] for part in parts]
    assert counts == sorted(counts)
    assert counts[-1] == whole["completion_tokens"] == 7
    assert [part["finish_reason"] for part in parts[:-1]] == [None] * (len(parts) - 1)
    assert parts[-1]["finish_reason"]["type"] == whole["finish_reason"]["type"] == "length"
    assert {"id", "prompt_tokens", "cached_tokens", "weight_version", "e2e_latency"} <= whole.keys()


def test_chat_answers_a_message(server: Server) -> None:
    chat = server.answer("/v1/chat/completions", CHAT)
    [choice] = chat["choices"]
    assert (chat["object"], chat["model"], choice["finish_reason"]) == ("chat.completion", "default", "length")
    assert choice["message"]["role"] == "assistant"
    assert {"content", "reasoning_content"} <= choice["message"].keys()
    assert chat["metadata"].keys() == server.target.manner.chat_metadata
    assert chat["metadata"]["weight_version"] == "default"
    usage = chat["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert (usage["completion_tokens"], usage["prompt_tokens_details"], usage["reasoning_tokens"]) == (6, None, 0)


def test_chat_echoes_any_name_of_a_model(server: Server) -> None:
    assert server.answer("/v1/chat/completions", CHAT | {"model": "other"})["model"] == "other"


def test_chat_answers_in_a_stream(server: Server) -> None:
    parts = list(server.events("/v1/chat/completions", CHAT | {"stream_options": {"include_usage": True}}))
    assert {part["object"] for part in parts} == {"chat.completion.chunk"}
    assert parts[0]["choices"][0]["delta"]["role"] == "assistant"
    assert parts[-2]["choices"][0]["finish_reason"] == "length"
    assert (parts[-1]["choices"], parts[-1]["usage"]["completion_tokens"]) == ([], 6)


def test_a_chat_without_messages_is_refused(server: Server) -> None:
    assert server.status("/v1/chat/completions", {"messages": []}) == 400


def test_sglangs_parser_finds_a_tool_call_written_by_the_stand_in(server: Server) -> None:
    """SGLang's own parser finds the call in a text. The stand-in finds it in its own answer."""
    if server.target.is_real:
        text = answers.as_tokens("weather", '{"city": "city"}')
        given = {"text": text, "tools": [WEATHER], "tool_call_parser": "kimi_k2"}
        [call] = server.answer("/parse_function_call", given)["calls"]
        found = (call["name"], json.loads(call["parameters"]))
    else:
        [choice] = server.answer("/v1/chat/completions", {"messages": CHAT["messages"], "tools": [WEATHER]})["choices"]
        [call] = choice["message"]["tool_calls"]
        found = (call["function"]["name"], json.loads(call["function"]["arguments"]))
    assert found == ("weather", {"city": "city"})


def test_chat_with_tools_is_answered(server: Server) -> None:
    body = {"messages": CHAT["messages"], "tools": [WEATHER], "max_tokens": 40}
    assert server.answer("/v1/chat/completions", body)["usage"]["completion_tokens"] > 0
    assert list(server.events("/v1/chat/completions", body))
    assert server.status("/health_generate") == 200


# This metric exists only after a client has disconnected.
ABORTED = "num_aborted_requests_total"


def test_prometheus_finds_every_metric_of_the_dashboard(server: Server, tmp_path: Path) -> None:
    """The stand-in has only some of the metrics, so only queries with these metrics are tested."""
    prometheus.ensure_there()
    asked = {query: metrics(query) for _, query in queries("servers-dashboard.json") if metrics(query)}
    offered = set(re.findall(r"^# TYPE sglang:(\w+)", _after_some_answers(server), re.MULTILINE))
    if server.target.is_real:
        assert {name for names in asked.values() for name in names} - offered == {ABORTED}
    wanted = [with_values(query, "60s") for query, names in asked.items() if names <= offered]
    assert len(wanted) >= 6
    pod = {"namespace": "default", "pod": "kimi-7d9c6f5b8-x2x4q", "kimi_linear_io_server": "kimi"}
    target = prometheus.Target(server.url.removeprefix("http://"), pod)
    with prometheus.scraping(tmp_path, target) as running:
        wait_for(lambda: running.query("up == 1"), "Prometheus has scraped the server")
        _after_some_answers(server)
        wait_for(
            lambda: [query for query in wanted if not running.query(query)], "all queries have answers", operator.not_
        )


def _after_some_answers(server: Server) -> str:
    """Return the metrics after an answer in a stream and one as a whole."""
    list(server.events("/v1/chat/completions", CHAT))
    server.answer("/v1/chat/completions", CHAT)
    return server.text("/metrics")


def test_the_server_needs_less_than_three_gigabytes_of_memory(server: Server) -> None:
    assert 0 < server.memory() < 3e9


@pytest.fixture
def pod(target: Target, cache: Path, tmp_path: Path) -> Pod:
    """Return a benchmark's pod with the clients of the server's release."""
    clients = environment.environment(target.release) if target.is_real else sglang_client.environment()
    clients.ensure_made()
    return Pod(tmp_path, cache, clients.python)


def measure(pod: Pod, server: Server, suite: dict[str, Any], dataset: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run a suite to its end, like its Job."""
    given = Suite.model_validate({"name": "suite", **suite})
    command = [*commands.build_command(BenchmarkSpec(), given, MODEL), *dataset]
    variables = {"OPENAI_API_KEY": KEY, "PYTHONPATH": server.target.variables["PYTHONPATH"]}
    run = pod.run(command, load.requests(given), server.url, variables)
    assert run.code == 0, run.log[-3000:]
    assert KEY not in run.log
    return run.result


def test_the_benchmarks_runner_measures_speed(pod: Pod, server: Server) -> None:
    given = {"numPrompts": 6, "maxConcurrency": 3, "randomInputLen": 20, "randomOutputLen": 8, "randomRangeRatio": 1}
    result = measure(pod, server, {"speed": given})
    assert (result["outcome"], result["message"]) == ("Succeeded", "")
    assert (result["requested"], result["completed"]) == (6, 6)
    assert result["metrics"].keys() <= set(runner.SPEED_METRICS)
    assert result["metrics"]["total_output_tokens"] == 48
    needed = ("duration", "request_throughput", "output_throughput", "median_ttft_ms", "median_itl_ms", "max_itl_ms")
    assert all(result["metrics"][name] > 0 for name in needed)


def test_the_benchmarks_runner_measures_accuracy(pod: Pod, server: Server) -> None:
    given = {"numQuestions": 8, "numShots": 1, "maxNewTokens": 16, "parallel": 4}
    result = measure(pod, server, {"accuracy": given}, ("--data-path", str(pod.downloads / "huggingface/gsm8k.jsonl")))
    assert (result["outcome"], result["requested"], result["completed"]) == ("Succeeded", 8, 8)
    assert result["metrics"].keys() == runner.ACCURACY_LINES.keys()
    assert result["metrics"]["latency"] > 0


def test_a_scheduler_that_hangs_fails_only_health_checks_that_generate(server: Server) -> None:
    scheduler = server.scheduler()
    probe = probes.build_probes(server.target.spec())["readinessProbe"]
    os.kill(scheduler, signal.SIGSTOP)
    try:
        assert server.status(probe["httpGet"]["path"], seconds=probe["timeoutSeconds"]) == 503
        assert server.status("/v1/models") == server.status("/metrics") == 200
    finally:
        os.kill(scheduler, signal.SIGCONT)
    assert server.status(probe["httpGet"]["path"], seconds=probe["timeoutSeconds"]) == 200


@dataclass(frozen=True)
class End:
    """The observations after SIGTERM.

    Attributes:
        draining: The statuses of paths while a request was open.
        late: The status of a request that was sent then.
        tokens: How many tokens the open request got in the end.
        code: The exit code.
        port: The status of /health after that.
    """

    draining: dict[str, int]
    late: int
    tokens: int
    code: int
    port: int


@pytest.fixture(scope="module")
def end(life: Life) -> End:
    """Stop the server while it answers a request."""
    server = life.server
    body = {"text": "x", "sampling_params": {"max_new_tokens": 250, "ignore_eos": True}}
    events = server.events("/generate", body)
    next(events)
    server.process.send_signal(signal.SIGTERM)
    draining = wait_for(
        lambda: statuses(server), "the server drains", lambda seen: seen["/health"] == 503, passes_soon=True
    )
    late = server.status("/generate", {"text": "x", "sampling_params": {"max_new_tokens": 2}})
    *_, last = events
    code = server.process.wait(timeout=60)
    return End(draining, late, last["meta_info"]["completion_tokens"], code, server.status("/health"))


def test_after_sigterm_the_server_is_unhealthy_at_once(end: End, target: Target) -> None:
    assert end.draining["/health"] == end.draining["/health_generate"] == 503
    assert end.draining["/v1/models"] == end.draining["/metrics"] == 200
    assert end.draining["/ping"] == target.manner.ping_unready
    assert end.draining["/ready"] == target.manner.ready[0]


def test_after_sigterm_the_server_finishes_open_and_late_requests(end: End) -> None:
    assert (end.tokens, end.late) == (250, 200)


def test_after_the_last_request_the_server_ends_with_the_exit_code_of_its_release(end: End, target: Target) -> None:
    assert (end.code, end.port) == (target.manner.drained, 0)
