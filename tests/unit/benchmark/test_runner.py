"""The runner with small clients of ours.

They print and write the same as SGLang's clients. tests/client runs SGLang's own.
"""

import ast
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kimi_linear_operator.benchmark import metric, runner
from processor_time import cost

FILE = Path(runner.__file__)
URL = "http://kimi.default.svc:30000"


@dataclass(frozen=True)
class Run:
    code: int
    log: str
    result: dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A folder in place of the pod's file system."""

    folder: Path

    def command(self, client: str, kind: str = "speed", requests: int = 10) -> list[str]:
        """The runner's command line, with a client of a few lines of Python."""
        message = str(self.folder / "termination-log")
        options = ["--suite", "low", "--kind", kind, "--requests", str(requests), "--url", URL]
        places = ["--output-folder", str(self.folder), "--termination-message", message]
        return [sys.executable, str(FILE), *options, *places, "--", sys.executable, "-c", client]

    def run(self, client: str, kind: str = "speed", environment: Mapping[str, str] | None = None) -> Run:
        env = {**os.environ, **(environment or {})}
        done = subprocess.run(self.command(client, kind), capture_output=True, text=True, timeout=30, env=env)
        assert done.stderr == ""
        return Run(done.returncode, done.stdout, self.result())

    def result(self) -> dict[str, Any]:
        text = (self.folder / "termination-log").read_text()
        result: dict[str, Any] = json.loads(text, parse_constant=_refuse)
        return result


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not strict JSON")


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def writing(*results: object) -> str:
    """A client that appends results to the file in its argument."""
    lines = "".join(json.dumps(result) + "\n" for result in results)
    return f"import sys; open(sys.argv[sys.argv.index('--output-file') + 1], 'a').write({lines!r})"


def saying(text: str, code: int = 1) -> str:
    return f"import sys; print({text!r}); sys.exit({code})"


def failure(message: str) -> dict[str, Any]:
    return {"outcome": "Failed", "message": message, "requested": 10, "completed": 0, "metrics": {}}


def test_the_runner_needs_only_the_standard_library_of_python_3_10() -> None:
    tree = ast.parse(FILE.read_text(), feature_version=(3, 10))
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert modules <= sys.stdlib_module_names


def test_the_runners_metrics_equal_those_of_reports() -> None:
    assert set(runner.SPEED_METRICS) == {known.name for known in metric.SPEED}
    assert list(runner.ACCURACY_LINES) == [known.name for known in metric.ACCURACY]


def test_only_numbers_of_known_metrics_are_kept(pod: Pod) -> None:
    written = {
        "backend": "sglang",
        "tag": None,
        "request_rate": float("inf"),
        "random_input_len": 1000,
        "server_info": {"api_key": "sk-server"},
        "completed": 10,
        "duration": 23.86,
        "accept_length": None,
        "mean_ttft_ms": float("nan"),
        "p99_itl_ms": 5.58,
        "p90_e2e_latency_ms": 2400.5,
        "output_throughput": True,
    }
    run = pod.run(writing(written))
    metrics = {"completed": 10, "duration": 23.86, "p99_itl_ms": 5.58, "p90_e2e_latency_ms": 2400.5}
    assert run.result == {
        "outcome": "Succeeded",
        "message": "",
        "requested": 10,
        "completed": 10,
        "metrics": metrics,
    }
    assert run.code == 0
    assert "sk-server" not in run.log


def test_the_file_with_the_servers_settings_is_deleted(pod: Pod) -> None:
    pod.run(writing({"completed": 10, "server_info": {"api_key": "sk-server"}}))
    pod.run(writing({"completed": 10, "server_info": {"api_key": "sk-server"}}) + "; sys.exit(3)")
    assert [file.name for file in pod.folder.iterdir()] == ["termination-log"]


def test_the_last_line_counts_and_not_the_line_of_an_earlier_attempt(pod: Pod) -> None:
    assert pod.run(writing({"completed": 3}, {"completed": 4})).result["completed"] == 4
    (pod.folder / "low.jsonl").write_text('{"completed": 9}\n')
    ended = pod.run("pass")
    assert ended.result == failure("The client ended without an error, but wrote no result.")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{'completed': 1}", "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)."),
        ("[1]", "not a JSON object but a list."),
    ],
)
def test_a_result_that_cannot_be_read_is_a_failure(pod: Pod, text: str, reason: str) -> None:
    client = f"import sys; open(sys.argv[sys.argv.index('--output-file') + 1], 'a').write({text!r})"
    message = pod.run(client).result["message"]
    assert message.startswith("The client wrote a result that is n")
    assert message.endswith(reason)


def test_the_printed_table_adds_only_metrics_that_the_file_lacks(pod: Pod) -> None:
    table = "Max ITL (ms):                            11.46     "
    client = f"print({table!r}); "
    assert pod.run(client + writing({"completed": 10})).result["metrics"] == {"completed": 10, "max_itl_ms": 11.46}
    assert pod.run(client + writing({"max_itl_ms": 11.4572})).result["metrics"] == {"max_itl_ms": 11.4572}


def test_failed_requests_are_reported_with_the_first_reason(pod: Pod) -> None:
    errors = ["", "Traceback ...\naiohttp.client_exceptions.ServerDisconnectedError: Server disconnected\n", "x"]
    run = pod.run(writing({"completed": 1, "errors": errors}))
    reason = "the server ended the connection in the middle of a request"
    assert run.result["message"] == f"2 of 10 requests failed, the first with: {reason}."
    assert (run.result["outcome"], run.result["completed"], run.code) == ("Succeeded", 1, 0)


def test_prompts_that_the_dataset_lacks_are_reported(pod: Pod) -> None:
    result = pod.run(writing({"completed": 2, "errors": ["", ""]})).result
    assert (result["completed"], result["message"]) == (2, "The dataset has only 2 prompts.")


PRINTED = "Accuracy: 0.705\nInvalid: 0.000\nLatency: 11.855 s\nOutput throughput: 3224.982 token/s\n"


def test_the_accuracy_is_the_number_that_the_client_prints(pod: Pod) -> None:
    bar = "100%|##########| 10/10 [00:02<00:00,  3.9it/s]"
    run = pod.run(f"import sys; sys.stderr.write({bar!r} + '\\n'); sys.stdout.write({PRINTED!r})", "accuracy")
    assert run.result == {
        "outcome": "Succeeded",
        "message": "",
        "requested": 10,
        "completed": 10,
        "metrics": {"accuracy": 0.705, "invalid": 0.0, "latency": 11.855, "output_throughput": 3224.982},
    }


def test_questions_that_the_dataset_lacks_are_reported(pod: Pod) -> None:
    bar = "100%|##########| 7/7 [00:02<00:00,  3.9it/s]"
    result = pod.run(saying(f"{bar}\n{PRINTED}", 0), "accuracy").result
    assert (result["completed"], result["message"]) == (7, "The dataset has only 7 questions.")


def test_accuracy_output_without_its_lines_is_a_failure(pod: Pod) -> None:
    said = pod.run(saying("Accuracy: 0.705\nLatency: 11.855 s", 0), "accuracy")
    reason = "The client ended without an error, but did not print: invalid, output_throughput."
    assert (said.result, said.code) == (failure(reason), 1)


BAR = " 40%|####      | 4/10 [00:02<00:03,  1.9it/s]\n"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("ModuleNotFoundError: No module named 'sglang'", "SGLang's client is not in this image: choose one that"),
        ("RuntimeError: {'error': 'Unauthorized'}", "The server refused the API key (HTTP 401): name the Secret"),
        ("huggingface_hub.errors.LocalEntryNotFoundError: An error", "The dataset is not in the pod and could not be"),
        ("ConnectionError: HTTPSConnectionPool(host='raw.githubusercontent.com', port=443)", "The dataset is not in"),
        (
            "URLError: <urlopen error [Errno 110] Connection timed out>",
            "The server did not answer in time: check that",
        ),
        ("OSError: We couldn't connect to 'https://huggingface.co' to", "The tokenizer is not in the pod and could"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/data/x'", "The file /data/x is not in the pod"),
        ("socket.gaierror: [Errno -2] Name or service not known", "The server's name is unknown: check that its"),
        ("urllib.error.URLError: <urlopen error [Errno 111] Connection refused>", "Nothing answers at the server's"),
        (BAR + "http.client.RemoteDisconnected: Remote end", "After 4 of 10 requests: the server ended the connection"),
        ("Fetching: " + BAR + "x: [Errno 111] Connection refused", "Nothing answers at the server's address"),
        (BAR + "x: [Errno 111] Connection refused", "After 4 of 10 requests: nothing answers at the server's address"),
        (
            "ValueError: Warmup failed - Please. Error: Internal Server Error: boom",
            "The warm-up failed: Internal Serve",
        ),
        (BAR + "UserWarning: All requests failed. This is\nIndexError: x", "All 10 requests failed."),
        ("error: unrecognized arguments: --fast", "This version of the client does not know the arguments --fast."),
        (
            "(Name or service not known) thrown while requesting HEAD https://x\nRetrying in 1s\nKeyError: 'x'",
            "The client failed with exit code 1: KeyError: 'x'.",
        ),
        ("RuntimeError: It ends with a dot.", "The client failed with exit code 1: RuntimeError: It ends with a dot."),
        ("Something\nKeyError: 'x'\n", "The client failed with exit code 1: KeyError: 'x'."),
        ("", "The client failed with exit code 1: it said nothing."),
        (
            "Fail to load tokenizer config with error=We couldn't connect to 'https://huggingface.co'\nKeyError: 'x'",
            "The client failed with exit code 1: KeyError: 'x'.",
        ),
    ],
)
def test_a_failure_names_its_cause(pod: Pod, said: str, message: str) -> None:
    run = pod.run(saying(said))
    assert run.result == failure(run.result["message"])
    assert run.result["message"].startswith(message)
    assert not run.result["message"].endswith("..")
    assert run.code == 1


def test_a_client_that_cannot_be_started_is_a_failure(pod: Pod) -> None:
    command = [*pod.command("")[:-3], "no-such-python"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert pod.result() == failure(
        "The client cannot be started: [Errno 2] No such file or directory: 'no-such-python'."
    )


def test_a_folder_that_cannot_be_written_to_is_a_failure(pod: Pod) -> None:
    (pod.folder / "low.jsonl").mkdir()
    done = subprocess.run(pod.command("pass"), capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert str(pod.folder / "low.jsonl") in pod.result()["message"]


def test_a_killed_client_is_a_failure(pod: Pod) -> None:
    run = pod.run(f"import os, signal; print({BAR!r}); os.kill(os.getpid(), signal.SIGKILL)")
    killed = "the client was killed by SIGKILL, most likely because it took more memory than its container may"
    assert run.result == failure(f"After 4 of 10 requests: {killed}.")


def test_sigterm_reaches_the_client_and_is_reported(pod: Pod) -> None:
    client = f"import time; print({BAR!r}, flush=True); time.sleep(60)"
    with subprocess.Popen(pod.command(client), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert "4/10" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 1
    assert pod.result() == failure("After 4 of 10 requests: the run was stopped (SIGTERM).")


def test_progress_reaches_the_log_line_by_line_while_the_client_runs(pod: Pod) -> None:
    client = "import sys; sys.stderr.write('\\r 0/2'); sys.stderr.write('\\r 1/2'); print('\\nend'); sys.stdin.read()"
    with subprocess.Popen(
        pod.command(client), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        assert process.stdin
        assert [process.stdout.readline() for _ in range(4)] == ["\n", " 0/2\n", " 1/2\n", "end\n"]
        process.stdin.close()


def test_secrets_are_redacted_in_result_and_log(pod: Pod) -> None:
    secrets = {"OPENAI_API_KEY": 'k"e\\y\n', "HF_TOKEN": "hf_1", "API_KEY": "hf_1234", "MY_PASSWORD": "ä"}
    said = "Error: k\"e\\y, hf_1, hf_1234, ä and 'k\"e\\\\y'"
    run = pod.run(saying(said), environment=secrets)
    shown = "Error: [redacted], [redacted], [redacted], [redacted] and '[redacted]'"
    assert run.result == failure(f"The client failed with exit code 1: {shown}.")
    assert run.log.splitlines()[0] == shown


LONGEST_NUMBER = -1.2345678901234567e-308


@pytest.mark.parametrize("message", ["", "x" * 5000, "\N{SNOWMAN}" * 5000, '"' * 5000])
def test_the_longest_result_fits_and_loses_no_metric(message: str) -> None:
    metrics = dict.fromkeys(runner.SPEED_METRICS, LONGEST_NUMBER)
    result = {"outcome": "Succeeded", "message": message, "requested": 10**6, "completed": 10**6, "metrics": metrics}
    text = runner.encode(result)
    assert len(text.encode()) <= runner.LONGEST_RESULT == 2000
    kept = json.loads(text)
    assert kept == result | {"message": kept["message"]}
    assert kept["message"].removesuffix("...") == message[: len(kept["message"].removesuffix("..."))]
    assert len(text) > 1900 or not message


@pytest.mark.parametrize("character", ["x", '"', "\N{SNOWMAN}", "\N{GRINNING FACE}"])
def test_a_message_of_a_megabyte_is_cut_at_once(character: str) -> None:
    result = {"outcome": "Failed", "message": character * 10**6, "requested": 1, "completed": 0, "metrics": {}}
    text = runner.encode(result)
    assert cost(lambda: runner.encode(result), tries=3) < 10
    assert runner.LONGEST_RESULT - 12 <= len(text) <= runner.LONGEST_RESULT


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A folder with a package in place of the hub's client. It prints as much as the real client."""
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "huggingface_hub.py").write_text(
        "import sys\n"
        "def snapshot_download(name, revision, ignore_patterns):\n"
        "    print('Fetching 7 files', file=sys.stderr)\n"
        "    if revision == 'gone':\n"
        "        raise OSError(f\"'{name}' is not a valid model identifier\")\n"
        "    assert '*.safetensors' in ignore_patterns\n"
        "    return f'/snapshots/{name}/{revision}'\n"
    )
    return folder


def pinned(command: list[str], revision: str, hub: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.setenv("PYTHONPATH", str(hub))
    return runner.pinned(runner.Suite("low", "speed", 1, URL, hub, tuple(command), revision)).command


def test_a_client_gets_the_files_of_the_models_revision(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["python3", "-m", "sglang.bench_serving", "--model", "a/b", "--num-prompts", "1"]
    expected = tuple(word if word != "a/b" else "/snapshots/a/b/abc" for word in command)
    assert pinned(command, "abc", hub, monkeypatch) == expected
    asked = ["python3", "-m", "sglang.test.few_shot_gsm8k", "--num-questions", "1"]
    assert pinned(asked, "abc", hub, monkeypatch) == tuple(asked)


def test_a_revision_that_cannot_be_fetched_is_reported(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(runner.SuiteError, match="revision gone could not be fetched: the tokenizer is not in the pod"):
        pinned(["x", "--model", "a/b"], "gone", hub, monkeypatch)
