"""The stand-in's own parts: command line, faults and answers. `tests/engine` compares the stand-in with SGLang."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import sglang_client
from client.asking import answer, ask, events
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
CALL = '{"city": "city", "days": 1, "unit": "C"}'


def chat(**more: object) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "Grüezi"}], **more}


def test_the_stand_in_has_the_same_arguments_as_sglang() -> None:
    sglang_client.environment().ensure_made()
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
def test_the_stand_in_accepts_the_operators_command_line(spec: dict[str, Any]) -> None:
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
def test_the_stand_in_refuses_arguments_that_sglang_refuses(words: list[str], reason: str) -> None:
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-m", "stand_in", *words]
    done = subprocess.run(command, cwd=tests, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert reason in done.stderr


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown: STAND_IN_FAIL\. Choose from: STAND_IN_LOAD_SECONDS, "):
        behaviour.from_environment({"STAND_IN_FAIL": "1"})


def test_the_engine_hangs_when_told_to(start: Start) -> None:
    url = f"{start(hang_after=1).url}/generate"
    assert ask(url, {"text": "x"})[0] == 200
    with pytest.raises(TimeoutError):
        ask(url, {"text": "x"}, seconds=2)


def test_metrics_are_served_where_they_are_enabled(start: Start) -> None:
    assert [ask(f"{start(*words).url}/metrics")[0] for words in (["--enable-metrics"], [])] == [200, 404]


def test_requests_above_the_limit_are_queued_and_answered_later(start: Start) -> None:
    url = start("--enable-metrics", "--max-running-requests=1", seconds_per_token=0.02).url
    body = {"text": "x", "sampling_params": {"max_new_tokens": 100, "ignore_eos": True}}
    with ThreadPoolExecutor() as users:
        asked = [users.submit(ask, f"{url}/generate", body, seconds=60) for _ in range(3)]
        wait_for(
            lambda: ask(f"{url}/metrics")[1],
            "one request runs and two wait",
            lambda text: re.search(r"num_running_reqs{.*} 1.0", text) and re.search(r"num_queue_reqs{.*} 2.0", text),
        )
    assert [one.result()[0] for one in asked] == [200, 200, 200]


def test_generating_gives_the_same_with_and_without_streaming(start: Start) -> None:
    url = f"{start(tokens_per_event=3).url}/generate"
    body = {"input_ids": [1, 2], "sampling_params": {"max_new_tokens": 7, "ignore_eos": True}}
    whole = answer(url, body)
    parts = list(events(url, body))
    assert [part["meta_info"]["completion_tokens"] for part in parts] == [3, 6, 7]
    assert [part["text"] for part in parts] == [whole["text"][:length] for length in (3, 6, 7)]
    assert parts[-1]["meta_info"]["finish_reason"] == whole["meta_info"]["finish_reason"] == {"type": "length"}
    assert whole["meta_info"]["prompt_tokens"] == 2


def test_a_request_for_no_tokens_generates_nothing(start: Start) -> None:
    nothing = answer(f"{start().url}/generate", {"text": "x", "sampling_params": {"max_new_tokens": 0}})
    assert (nothing["text"], nothing["meta_info"]["completion_tokens"]) == ("", 0)


def test_chat_gives_the_same_with_and_without_streaming(start: Start) -> None:
    url = f"{start().url}/v1/chat/completions"
    whole = answer(url, chat())
    assert whole["choices"][0]["message"]["content"] == "You said: Gr?ezi"
    assert (whole["choices"][0]["finish_reason"], whole["usage"]["completion_tokens"]) == ("stop", 16)
    parts = list(events(url, chat(stream_options={"include_usage": True})))
    text = "".join(part["choices"][0]["delta"].get("content", "") for part in parts if part["choices"])
    assert text == "You said: Gr?ezi"
    assert parts[-1]["usage"] == whole["usage"]
    assert parts[-2]["choices"][0]["finish_reason"] == "stop"
    assert ask(url, {"messages": []})[0] == 400


def test_the_log_shows_which_answers_were_cut_off(start: Start) -> None:
    server = start("--log-requests", die_after=2, tokens_per_event=2)
    url = f"{server.url}/v1/chat/completions"
    answer(url, chat())
    list(events(url, chat()))
    with pytest.raises(AssertionError, match="has no end"):
        list(events(url, chat(messages=[{"role": "user", "content": "cut off"}])))
    assert server.process.wait(10) == -signal.SIGKILL
    log = server.log.read_text()
    received = dict(re.findall(r"Receive: obj=GenerateReqInput\(rid='(\w+)', text='(.*)'\)", log))
    [cut_off] = received.keys() - set(re.findall(r"Finish: obj=GenerateReqInput\(rid='(\w+)'", log))
    assert (len(received), "cut off" in received[cut_off]) == (3, True)


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


def test_the_model_answers_after_the_tools_result(start: Start) -> None:
    url = f"{start('--tool-call-parser', 'kimi_k2').url}/v1/chat/completions"
    messages = [*chat()["messages"], {"role": "tool", "tool_call_id": "functions.weather:0", "content": "sunny"}]
    [choice] = answer(url, chat(messages=messages, tools=[WEATHER]))["choices"]
    assert choice["message"]["content"] == "The tool said: sunny"


def test_without_the_parser_a_tool_call_is_plain_text(start: Start) -> None:
    [choice] = answer(f"{start().url}/v1/chat/completions", chat(tools=[WEATHER]))["choices"]
    assert choice["message"]["tool_calls"] is None
    assert choice["message"]["content"] == answers.as_tokens("weather", CALL)
    assert choice["finish_reason"] == "stop"


def test_completions_give_the_same_with_and_without_streaming(start: Start) -> None:
    url = f"{start().url}/v1/completions"
    whole = answer(url, {"prompt": "x", "max_tokens": 30})
    usage = whole["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (1, 30, 31)
    parts = list(events(url, {"prompt": "x", "max_tokens": 30}))
    assert "".join(part["choices"][0]["text"] for part in parts) == whole["choices"][0]["text"]


@pytest.mark.parametrize(("accuracy", "right"), [(0.705, 141), (1.0, 200), (0.0, 0)])
def test_accuracy_is_a_known_number(accuracy: float, right: int) -> None:
    assert sum(answers.is_right(apples, accuracy) for apples in range(200)) == right
