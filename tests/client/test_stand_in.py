"""The stand-in is like SGLang where it matters: its command line, its life, its endpoints."""

import http.client
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sglang_client
from client.processes import MODEL, StandIn
from client.server_arguments import read_arguments
from integration.waiting import wait_for
from kimi_linear_operator.server.sglang import command_line
from kimi_linear_operator.server.spec import ServerSpec
from stand_in import answers, arguments, behaviour

Start = Callable[..., StandIn]

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"type": "string", "enum": ["C", "F"]},
            },
        },
    },
}
ONE_RUNS = 'sglang:num_running_reqs{model_name="kimi"} 1\n'
CALL = '{"city": "city", "days": 1, "unit": "C"}'


def ask(url: str, body: object = None, key: str = "") -> tuple[int, str]:
    """Return status and text of an answer; 0 where nothing answers."""
    content = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content, headers), timeout=10) as response:  # noqa: S310
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError):
        return 0, ""


def answer(url: str, body: object) -> dict[str, Any]:
    status, text = ask(url, body)
    assert status == 200, text
    result: dict[str, Any] = json.loads(text)
    return result


def events(url: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of a stream, which must end as SGLang's do."""
    status, text = ask(url, body | {"stream": True})
    assert status == 200, text
    *lines, end = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert end == "[DONE]"
    return [json.loads(line) for line in lines]


def chat(**more: object) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "Grüezi"}], **more}


def test_it_takes_the_arguments_of_sglang() -> None:
    sglang_client.ensure_made()
    ours = [json.loads(line) for line in arguments.FILE.read_text().splitlines()]
    assert ours == read_arguments(sglang_client.package()), "run tests/client/server_arguments.py"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {
            "toolCallParser": "enabled",
            "model": {"servedName": "kimi", "revision": "main"},
            "engine": {"contextLength": 4096, "memoryFractionStatic": 0.8, "attentionBackend": "triton"},
        },
    ],
)
def test_it_takes_what_the_operator_renders(spec: dict[str, Any]) -> None:
    words = command_line.arguments(ServerSpec.model_validate(spec))
    assert words[:3] == ["python3", "-m", "sglang.launch_server"]
    settings = arguments.parse(words[3:])
    assert (settings.model_path, settings.tensor_parallel_size, settings.port) == (MODEL, 4, 30000)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--model-path", "x", "--quick"], "unrecognized arguments: --quick"),
        (["--model-path", "x", "--tp", "four"], "invalid int value: 'four'"),
        (["--model-path", "x", "--tool-call-parser", "kimi"], "invalid choice: 'kimi'"),
        ([], "the following arguments are required: --model-path"),
    ],
)
def test_it_refuses_what_sglang_refuses(words: list[str], reason: str) -> None:
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-m", "stand_in", *words]
    done = subprocess.run(command, cwd=tests, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert reason in done.stderr


def test_a_fault_that_is_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown: STAND_IN_FAIL\. Choose from: STAND_IN_LOAD_SECONDS, "):
        behaviour.from_environment({"STAND_IN_FAIL": "1"})


def test_it_loads_with_a_closed_port_then_warms_up_and_then_is_healthy(start: Start) -> None:
    server = start("--enable-metrics", load_seconds=6, warm_up_seconds=8)
    assert "running on" not in server.log.read_text()
    assert ask(f"{server.url}/health")[0] == 503
    assert ask(f"{server.url}/v1/models")[0] == 200
    wait_for(lambda: ask(f"{server.url}/health")[0], "it is healthy", lambda status: status == 200)
    assert ask(f"{server.url}/health_generate")[0] == 200
    assert "ready to roll" in server.log.read_text()


def test_with_a_dead_engine_requests_hang_and_only_an_answer_of_the_engine_tells(start: Start) -> None:
    server = start("--enable-metrics", hang_after=1)
    assert ask(f"{server.url}/generate", {"text": "x"})[0] == 200
    for path, body in (("generate", {"text": "x"}), ("health_generate", None)):
        with pytest.raises(TimeoutError):
            ask(f"{server.url}/{path}", body)
    assert ask(f"{server.url}/metrics")[0] == 200


def test_told_to_stop_it_finishes_what_is_open_and_says_so(start: Start) -> None:
    server = start("--enable-metrics", "--served-model-name", "kimi", seconds_per_token=0.1)
    url = server.url
    texts: list[dict[str, Any]] = []
    body = {"text": "x", "sampling_params": {"max_new_tokens": 100, "ignore_eos": True}}
    open_request = threading.Thread(target=lambda: texts.extend(events(f"{url}/generate", body)))
    open_request.start()
    wait_for(lambda: ask(f"{url}/metrics")[1], "it generates", lambda text: ONE_RUNS in text)
    server.stop()
    wait_for(lambda: ask(f"{url}/health")[0], "it drains", lambda status: status == 503)
    open_request.join()
    assert texts[-1]["meta_info"]["completion_tokens"] == 100
    assert server.process.wait(timeout=30) == 0
    assert ask(f"{url}/health")[0] == 0


def test_an_api_key_guards_all_but_health_and_metrics(start: Start) -> None:
    server = start("--api-key", "sk-1", "--enable-metrics")
    paths = ["/health", "/metrics", "/v1/models", "/model_info", "/get_server_info"]
    wait_for(lambda: ask(f"{server.url}/health")[0], "it is healthy", lambda status: status == 200)
    assert [ask(server.url + path)[0] for path in paths] == [200, 200, 401, 401, 401]
    assert ask(f"{server.url}/v1/models", key="sk-2") == (401, '{"error": "Unauthorized"}')
    assert [ask(server.url + path, key="sk-1")[0] for path in paths] == [200] * 5


def test_it_counts_as_sglang_does(start: Start) -> None:
    server = start("--enable-metrics", "--served-model-name", "kimi")
    answer(f"{server.url}/generate", {"text": "four", "sampling_params": {"max_new_tokens": 5}})
    told = ask(f"{server.url}/metrics")[1].splitlines()
    assert {
        'sglang:num_running_reqs{model_name="kimi"} 0',
        'sglang:num_requests_total{model_name="kimi"} 1',
        'sglang:prompt_tokens_total{model_name="kimi"} 4',
        'sglang:generation_tokens_total{model_name="kimi"} 5',
    } <= set(told)
    assert ask(f"{start().url}/metrics")[0] == 404


def test_generating_whole_and_in_a_stream_gives_the_same(start: Start) -> None:
    url = f"{start(tokens_per_event=3).url}/generate"
    body = {"input_ids": [1, 2], "sampling_params": {"max_new_tokens": 7, "ignore_eos": True}}
    whole = answer(url, body)
    parts = events(url, body)
    assert [part["meta_info"]["completion_tokens"] for part in parts] == [3, 6, 7]
    assert [part["text"] for part in parts] == [whole["text"][:length] for length in (3, 6, 7)]
    assert parts[-1]["meta_info"]["finish_reason"] == whole["meta_info"]["finish_reason"] == {"type": "length"}
    assert whole["meta_info"]["prompt_tokens"] == 2


def test_nothing_asked_for_is_nothing_generated(start: Start) -> None:
    nothing = answer(f"{start().url}/generate", {"text": "x", "sampling_params": {"max_new_tokens": 0}})
    assert (nothing["text"], nothing["meta_info"]["completion_tokens"]) == ("", 0)


def test_chat_whole_and_in_a_stream_gives_the_same(start: Start) -> None:
    url = f"{start().url}/v1/chat/completions"
    whole = answer(url, chat())
    assert whole["choices"][0]["message"]["content"] == "You said: Gr?ezi"
    assert (whole["choices"][0]["finish_reason"], whole["usage"]["completion_tokens"]) == ("stop", 16)
    parts = events(url, chat(stream_options={"include_usage": True}))
    text = "".join(part["choices"][0]["delta"].get("content", "") for part in parts if part["choices"])
    assert text == "You said: Gr?ezi"
    assert parts[-1]["usage"] == whole["usage"]
    assert parts[-2]["choices"][0]["finish_reason"] == "stop"
    assert ask(url, {"messages": []})[0] == 400


def test_tools_are_called_where_the_parser_is_enabled(start: Start) -> None:
    url = f"{start('--tool-call-parser', 'kimi_k2').url}/v1/chat/completions"
    function = {"name": "weather", "arguments": CALL}
    [choice] = answer(url, chat(tools=[WEATHER]))["choices"]
    call = {"id": "functions.weather:0", "index": 0, "type": "function", "function": function}
    assert (choice["message"]["tool_calls"], choice["message"]["content"]) == ([call], None)
    assert choice["finish_reason"] == "tool_calls"
    parts = [part["choices"][0] for part in events(url, chat(tools=[WEATHER]))]
    calls = [part["delta"]["tool_calls"][0]["function"] for part in parts if "tool_calls" in part["delta"]]
    assert calls == [{"name": "weather", "arguments": ""}, {"name": None, "arguments": CALL}]
    assert parts[-1]["finish_reason"] == "tool_calls"


def test_after_the_tools_answer_the_model_answers(start: Start) -> None:
    url = f"{start('--tool-call-parser', 'kimi_k2').url}/v1/chat/completions"
    messages = [*chat()["messages"], {"role": "tool", "tool_call_id": "functions.weather:0", "content": "sunny"}]
    [choice] = answer(url, chat(messages=messages, tools=[WEATHER]))["choices"]
    assert choice["message"]["content"] == "The tool said: sunny"


def test_without_the_parser_a_call_is_text(start: Start) -> None:
    [choice] = answer(f"{start().url}/v1/chat/completions", chat(tools=[WEATHER]))["choices"]
    assert choice["message"]["tool_calls"] is None
    assert choice["message"]["content"] == answers.as_tokens("weather", CALL)
    assert choice["finish_reason"] == "stop"


def test_completions_whole_and_in_a_stream_give_the_same(start: Start) -> None:
    url = f"{start().url}/v1/completions"
    whole = answer(url, {"prompt": "x", "max_tokens": 30})
    assert whole["usage"] == {"prompt_tokens": 1, "completion_tokens": 30, "total_tokens": 31}
    parts = events(url, {"prompt": "x", "max_tokens": 30})
    assert "".join(part["choices"][0]["text"] for part in parts) == whole["choices"][0]["text"]


@pytest.mark.parametrize(("accuracy", "right"), [(0.705, 141), (1.0, 200), (0.0, 0)])
def test_accuracy_is_a_known_number(accuracy: float, right: int) -> None:
    assert sum(answers.is_right(apples, accuracy) for apples in range(200)) == right
