"""`kimi-linear verify URL` with SGLang's own client and the stand-in: right, wrong, damaged and missing answers."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from client.processes import Pod, StandIn
from integration.processes_under_test import COMMAND
from integration.waiting import wait_for

Start = Callable[..., StandIn]
PARSER = ("--tool-call-parser", "kimi_k2")
KEY = "KIMI_LINEAR_API_KEY"


def words(pod: Pod, url: str, *options: str) -> list[str]:
    dataset = pod.downloads / "gsm8k.jsonl"
    return [COMMAND, "verify", url, f"--python={pod.python}", f"--dataset={dataset}", *options]


def verify(
    pod: Pod, url: str, *options: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = words(pod, url, "--tool-call-parser=enabled", *options)
    variables = {**os.environ, **(environment or {})}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)


def test_right_answers_exit_with_0_and_print_the_numbers(start: Start, pod: Pod) -> None:
    done = verify(pod, f"{start(*PARSER).url}/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("verify: Passed\n")
    for line in ("Accuracy: 0.705", "Valid tool calls: 1.000", "Valid streamed tool calls: 1.000"):
        assert f"\n{line}\n" in done.stdout
    # Progress is not part of the report.
    assert "[1/2] accuracy: 200 requests" in done.stderr
    assert "20/20" in done.stderr


def test_wrong_answers_exit_with_1_and_name_the_missed_bound(start: Start, pod: Pod) -> None:
    done = verify(pod, start(*PARSER, accuracy=0.3).url, "--output=json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["verdict"]) == (1, "Failed")
    assert report["reasons"] == ["accuracy: accuracy is 0.3, min 0.6"]


def test_mangled_tool_calls_exit_with_1_streamed_or_not(start: Start, pod: Pod) -> None:
    done = verify(pod, start(*PARSER, mangle_every=1).url)
    assert done.returncode == 1, done.stderr
    for metric in ("valid_tool_calls", "valid_streamed_tool_calls"):
        assert f"{metric} is 0, min 0.8" in done.stdout
    assert "are not JSON" in done.stdout
    # A server without a tool-call parser gets no questions with tools, unless the user says that it has a parser.
    without = start()
    assert verify(pod, without.url).returncode == 1
    asked = subprocess.run(words(pod, without.url), capture_output=True, text=True, timeout=300)
    assert (asked.returncode, "tool" in asked.stdout) == (0, False)


def test_a_server_that_does_not_exist_exits_with_2(pod: Pod) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        done = verify(pod, f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert (done.returncode, done.stdout.splitlines()[0]) == (2, "verify: Invalid")
    assert "no result: accuracy: Nothing answers at the server's address (connection refused)." in done.stderr


def test_missing_questions_or_a_missing_client_exit_with_2_and_a_remedy(start: Start, pod: Pod, tmp_path: Path) -> None:
    url = start(*PARSER).url
    bad = tmp_path / "empty.jsonl"
    bad.write_text("")
    assert verify(pod, url, f"--dataset={bad}").returncode == 2
    nobody = {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}
    command = [COMMAND, "verify", url, f"--python={pod.python}"]
    done = subprocess.run(command, env={**os.environ, **nobody}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stdout
    assert "Next: Name GSM8K's test.jsonl with --dataset." in done.stderr
    done = verify(pod, url, "--python=/usr/bin/false")
    assert done.returncode == 2
    relative = os.path.relpath(pod.python)
    assert "cannot be started" not in verify(pod, url, f"--python={relative}", "--dataset=/dev/null").stderr
    done = verify(pod, url, "--python=nowhere")
    assert (done.returncode, "Next: Name a Python that can import sglang with --python." in done.stderr) == (2, True)


def test_the_key_comes_from_a_file_or_the_environment_and_is_never_shown(
    start: Start, pod: Pod, tmp_path: Path
) -> None:
    url, file = start(*PARSER, "--api-key", "planted").url, tmp_path / "key"
    file.write_text("planted\n")
    right = [verify(pod, url, f"--api-key-file={file}"), verify(pod, url, environment={KEY: "planted"})]
    assert [done.returncode for done in right] == [0, 0]
    refused = verify(pod, url, environment={KEY: "sk-wrong"})
    assert refused.returncode == 2
    assert f"Give the server's key with --api-key-file or ${KEY}." in refused.stderr
    for done in (*right, refused):
        assert "planted" not in done.stdout + done.stderr
        assert "sk-wrong" not in done.stdout + done.stderr


_INTERRUPTIONS = {"Ctrl-C": signal.SIGINT, "timeout(1)": signal.SIGTERM, "a lost terminal": signal.SIGHUP}


@pytest.mark.parametrize("ended_by", [*_INTERRUPTIONS, "--timeout"])
def test_no_client_keeps_running_after_an_early_end(start: Start, pod: Pod, ended_by: str) -> None:
    server = start(seconds_per_token=0.5)
    command = words(pod, server.url, *(["--timeout=20"] if ended_by == "--timeout" else []))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: _clients_of(server.url), "the client runs")
        if interruption := _INTERRUPTIONS.get(ended_by):
            process.send_signal(interruption)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == ((130, "") if interruption else (2, ""))
    assert "Traceback" not in errors
    if ended_by == "--timeout":
        assert "not done within 20 s (--timeout), in suite accuracy" in errors
    wait_for(lambda: _clients_of(server.url), "no client is left", lambda found: not found)


def _clients_of(url: str) -> list[str]:
    """The running clients of a server: processes with the server's address in their environment or command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            texts = [(process / name).read_bytes() for name in ("cmdline", "environ")]
        except OSError:
            continue
        if f"KIMI_LINEAR_URL={url}".encode() in texts[1]:
            found.append(texts[0].decode())
    return found
