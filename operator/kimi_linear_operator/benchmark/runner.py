"""Runs one suite with SGLang's own client, inside the benchmark's pod, and writes its result for the operator.

The operator mounts this file from a ConfigMap into a pod with SGLang's image, so it uses only the standard library of
Python 3.10:

    python3 runner.py --suite speed-low --kind speed --requests 10 --url http://kimi:30000 --output-folder /results -- \
        python3 -m sglang.bench_serving --backend sglang ...

The runner passes the server's address and the output file to the client, in the form that the client's version accepts.
It reads the API key from OPENAI_API_KEY, as bench_serving does.

The runner copies the client's output to the pod's log line by line, without secrets of the environment. The result is
at most 2,000 bytes of strict JSON in the container's termination message. The kubelet copies this message to the pod's
status:

    {"outcome": "Succeeded", "message": "", "requested": 10, "completed": 10,
     "metrics": {"output_throughput": 176.86, ...}}

Succeeded means that the client ran to its end and its numbers were read, even if requests failed. The operator decides
whether the numbers are valid. The exit code is 0 for Succeeded and 1 for Failed.
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

TERMINATION_MESSAGE = Path("/dev/termination-log")

# The kubelet keeps 4,096 bytes of a container's message, and 12,288 bytes of all messages of a pod. This limit leaves
# room for five sidecars.
LONGEST_RESULT = 2000
# How many of the client's last lines to search for the cause of a failure.
_LINES_TO_EXPLAIN = 400

# The metrics in bench_serving's result. Its other keys repeat arguments and the server's settings, including the API
# key. Releases after 0.5.7 write more percentiles.
_LATENCIES = ("e2e_latency", "ttft", "tpot", "itl")
SPEED_METRICS = (
    "duration",
    "completed",
    "total_input_tokens",
    "total_input_text_tokens",
    "total_input_vision_tokens",
    "total_output_tokens",
    "total_output_tokens_retokenized",
    "request_throughput",
    "input_throughput",
    "output_throughput",
    "total_throughput",
    "max_output_tokens_per_s",
    "max_concurrent_requests",
    "concurrency",
    "accept_length",
    *(
        f"{statistic}_{latency}_ms"
        for latency in _LATENCIES
        for statistic in ("mean", "median", "std", "p90", "p95", "p99", "max")
    ),
)

# The metric that bench_serving of 0.5.7 prints but does not write to its result, and the four metrics that
# few_shot_gsm8k prints.
_SPEED_LINES = {"max_itl_ms": r"Max ITL \(ms\): +([\d.]+)"}
ACCURACY_LINES = {
    "accuracy": r"Accuracy: ([\d.]+)",
    "invalid": r"Invalid: ([\d.]+)",
    "latency": r"Latency: ([\d.]+) s",
    "output_throughput": r"Output throughput: ([\d.]+) token/s",
}
# The metrics that `tool_calls.py` prints.
TOOL_CALL_LINES = {
    "valid_tool_calls": r"Valid tool calls: ([\d.]+)",
    "valid_streamed_tool_calls": r"Valid streamed tool calls: ([\d.]+)",
    "latency": r"Latency: ([\d.]+) s",
}
_INVALID_CALL = r"Request \d+: .+"
_PRINTED = {"speed": _SPEED_LINES, "accuracy": ACCURACY_LINES, "tool-calls": TOOL_CALL_LINES}

# The clients' progress bar: " 40%|#### | 4/10 [00:02<00:03, 1.9it/s]". Progress bars of downloads begin with a name.
_PROGRESS = r"\d+%\|.*\| (\d+)/\d+ \["
_SECONDS_BETWEEN_PROGRESS = "5"

_NAMED_LIKE_SECRETS = r"(KEY|TOKEN|SECRET|PASSWORD)$"

# Lines that are not the cause of a failure, because bench_serving goes on without the model's chat template, and
# downloads are retried.
_HARMLESS = r"Fail to load tokenizer config|Retrying in|.* thrown while requesting "

# The causes of a failure, with a remedy if there is one. Each has a pattern for a line of the client's output.
_CAUSES = {
    r"No module named '?sglang": "SGLang's client is not in this image: choose one that has SGLang",
    r"Unauthorized": "the server refused the API key (HTTP 401): name the Secret that the server uses",
    r"LocalEntryNotFoundError|OfflineModeIsEnabled|raw\.githubusercontent\.com": (
        "the dataset is not in the pod and could not be downloaded: without internet, mount it"
    ),
    r"couldn't connect to 'https://huggingface\.co'|Can't load tokenizer|is not a valid model identifier": (
        "the tokenizer is not in the pod and could not be downloaded: without internet, mount it"
    ),
    r"No such file or directory: '([^']+)'": "the file {0} is not in the pod: mount it",
    r"Name or service not known|name resolution|No address associated|ClientConnectorDNSError": (
        "the server's name is unknown: check that its Service exists"
    ),
    r"[Tt]imed out|TimeoutError": "the server did not answer in time: check that no network policy blocks the client",
    r"Connection refused|Connect call failed|Cannot connect to host|not ready\. Exiting": (
        "nothing answers at the server's address (connection refused)"
    ),
    r"ServerDisconnectedError|RemoteDisconnected|Connection reset|ClientPayloadError|IncompleteRead": (
        "the server ended the connection in the middle of a request"
    ),
    r"unrecognized arguments: (.+)": "this version of the client does not know the arguments {0}",
    # few_shot_gsm8k of 0.5.7 fails with this error if the server's error is not JSON.
    r"'HttpResponse' object has no attribute 'text'": "the server answered a request with an error",
    r"Warmup failed .*? Error: (?!Traceback)(.+)": "{0}",
}

# few_shot_gsm8k has no option for an API key, and its --host requires a scheme in 0.5.7 and refuses one in later
# releases. So this code replaces the address and sets the key when the client connects, and changes nothing else.
_URL = "KIMI_LINEAR_URL"
_ACCURACY_CLIENT = {
    "-m": ("-c",),
    "sglang.test.few_shot_gsm8k": (
        f"""
import os, runpy
from sglang.lang.backend.runtime_endpoint import RuntimeEndpoint
connect = RuntimeEndpoint.__init__
RuntimeEndpoint.__init__ = lambda self, *_: connect(self, os.environ["{_URL}"], os.environ.get("OPENAI_API_KEY"))
runpy.run_module("sglang.test.few_shot_gsm8k", run_name="__main__", alter_sys=True)
""",
    ),
}


@dataclass(frozen=True)
class Suite:
    """The suite to run: its client, the server and the output folder."""

    name: str
    kind: str
    """speed (sglang.bench_serving), accuracy (sglang.test.few_shot_gsm8k) or tool-calls (tool_calls.py)."""
    requests: int
    url: str
    output_folder: Path
    command: tuple[str, ...]
    revision: str | None = None
    """The commit, branch or tag of the server's model, for its tokenizer and code; None for the default branch."""

    @property
    def output_file(self) -> Path:
        """Return the file that bench_serving appends its result to."""
        return self.output_folder / f"{self.name}.jsonl"

    @property
    def client(self) -> list[str]:
        """Return the client's whole command line, with the server's address and, for speed, the output file."""
        if self.kind == "speed":
            return [*self.command, "--base-url", self.url, "--output-file", str(self.output_file), "--output-details"]
        return [word for option in self.command for word in _ACCURACY_CLIENT.get(option, (option,))]


class SuiteError(Exception):
    """The suite has no result, for the reason in the message."""


@dataclass
class Reading:
    """The needed parts of the client's output so far."""

    patterns: Mapping[str, str]
    """Patterns of the lines with metrics, by metric."""
    printed: dict[str, float] = field(default_factory=dict)
    """The metrics that the client printed."""
    done: int = 0
    """How many requests have ended according to the progress bar."""
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES_TO_EXPLAIN))
    """The last lines, which say why the client failed."""

    def read(self, line: str) -> None:
        """Read one line."""
        if progress := re.match(_PROGRESS, line):
            self.done = int(progress[1])
            return
        for name, pattern in self.patterns.items():
            if match := re.fullmatch(pattern, line):
                self.printed[name] = float(match[1])
        if line and not re.match(_HARMLESS, line):
            self.last_lines.append(line)


class Client:
    """SGLang's client, a child process in its own process group."""

    def __init__(self, suite: Suite, secrets: Sequence[str]) -> None:
        self.reading = Reading(_PRINTED[suite.kind])
        self.suite = suite
        self._secrets = secrets
        self._process: subprocess.Popen[str] | None = None
        self._is_stopped = False

    def stop(self, *_signal: object) -> None:
        """Pass on SIGTERM, because the pod is being deleted or its time has passed."""
        self._is_stopped = True
        if self._process:
            # The client may have ended just before.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)

    def run(self) -> None:
        """Run the client to its end, with its output in the log.

        Raises:
            SuiteError: The client failed or was stopped.
        """
        with self._start() as self._process:
            if self._is_stopped:
                self.stop()
            for line in self._process.stdout or ():
                print(redact(line.rstrip(), self._secrets), flush=True)
                self.reading.read(line.strip())
        if self._is_stopped or self._process.returncode:
            raise SuiteError(self._explain(self._process.returncode))

    def _start(self) -> subprocess.Popen[str]:
        # Otherwise bench_serving would append to the file of an earlier attempt.
        self.suite.output_file.unlink(missing_ok=True)
        output_settings = {"PYTHONUNBUFFERED": "1", "TQDM_MININTERVAL": _SECONDS_BETWEEN_PROGRESS}
        try:
            return subprocess.Popen(
                self.suite.client,
                cwd=self.suite.output_folder,
                env=output_settings | os.environ | {_URL: self.suite.url} | _clean_key(os.environ),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise SuiteError(f"The client cannot be started: {error}.") from error

    def _explain(self, code: int) -> str:
        """Return why the client failed. The exit code and the last lines show it."""
        if self._is_stopped:
            return self._with_progress("the run was stopped (SIGTERM)")
        if code < 0:
            name = signal.Signals(-code).name
            memory = ", most likely because it took more memory than its container may" if name == "SIGKILL" else ""
            return self._with_progress(f"the client was killed by {name}{memory}")
        lines = list(self.reading.last_lines)
        cause = find_cause(lines)
        if any("All requests failed" in line for line in lines):
            return f"All {self.suite.requests} requests failed" + (f": {cause}." if cause else ".")
        last = lines[-1].rstrip(".") if lines else "it said nothing"
        cause = cause or f"the client failed with exit code {code}: {last}"
        if any("Warmup failed" in line for line in lines):
            return f"The warm-up failed: {cause}."
        return self._with_progress(cause)

    def _with_progress(self, cause: str) -> str:
        """Return a cause as a sentence, with the number of ended requests."""
        if self.reading.done:
            return f"After {self.reading.done} of {self.suite.requests} requests: {cause}."
        return f"{cause[0].upper()}{cause[1:]}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a suite, write its result to the termination message, and return the exit code."""
    options = _parse(arguments)
    suite = _suite(options)
    secrets = find_secrets(os.environ)
    client = Client(suite, secrets)
    signal.signal(signal.SIGTERM, client.stop)
    try:
        client.suite = pinned(suite)
        client.run()
        result = read_result(suite, client.reading)
    except (SuiteError, OSError) as error:
        result = _result(suite, "Failed", str(error))
    finally:
        # The file contains the server's API key.
        with contextlib.suppress(OSError):
            suite.output_file.unlink()
    text = encode(result | {"message": redact(result["message"], secrets)})
    print(text, flush=True)
    options.termination_message.write_text(text)
    return 0 if result["outcome"] == "Succeeded" else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--suite", required=True, metavar="NAME")
    parser.add_argument("--kind", required=True, choices=tuple(_PRINTED))
    parser.add_argument("--requests", required=True, type=int, help="how many requests the client sends")
    parser.add_argument("--url", required=True, help="the server's address, without a path")
    parser.add_argument("--output-folder", required=True, type=Path, help="a folder that the client may write to")
    parser.add_argument("--revision", help="revision of the model on the hub, for its tokenizer and code")
    parser.add_argument("--termination-message", type=Path, default=TERMINATION_MESSAGE)
    parser.add_argument("command", nargs="+", help="the client's command, after --")
    return parser.parse_args(arguments)


def _suite(options: argparse.Namespace) -> Suite:
    folder = options.output_folder.absolute()
    url, command = options.url.rstrip("/"), tuple(options.command)
    return Suite(options.suite, options.kind, options.requests, url, folder, command, options.revision)


# bench_serving runs code from the model's repository and has no flag for a revision. So the revision is downloaded to a
# folder first.
_FETCH = """
import sys
from huggingface_hub import snapshot_download
weights = ["*.bin", "*.gguf", "*.pt", "*.pth", "*.safetensors"]
print(snapshot_download(sys.argv[1], revision=sys.argv[2], ignore_patterns=weights))
"""


def pinned(suite: Suite) -> Suite:
    """Download the revision that a suite names, if any, and return the suite with that folder as its model.

    Raises:
        SuiteError: The revision could not be downloaded.
    """
    if suite.revision is None or "--model" not in suite.command:
        return suite
    position = suite.command.index("--model") + 1
    fetch = [sys.executable, "-c", _FETCH, suite.command[position], suite.revision]
    fetched = subprocess.run(fetch, capture_output=True, encoding="utf-8", errors="replace", cwd=suite.output_folder)
    if fetched.returncode:
        lines = [line for line in fetched.stderr.splitlines() if line.strip()] or ["it said nothing"]
        cause = find_cause(lines) or lines[-1].strip().rstrip(".")
        raise SuiteError(f"The tokenizer's revision {suite.revision} could not be fetched: {cause}.")
    folder = fetched.stdout.splitlines()[-1]
    return replace(suite, command=(*suite.command[:position], folder, *suite.command[position + 1 :]))


def _clean_key(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the API key without the line break that editors and `echo` add to a Secret. The server removes it, too."""
    return {name: value.strip() for name, value in environment.items() if name == "OPENAI_API_KEY"}


def find_secrets(environment: Mapping[str, str]) -> list[str]:
    """Return the values of variables that are named like secrets, the longest first.

    Each line of a value is one secret, also in the form that it has inside a quoted string.
    """
    lines = {
        line.strip()
        for name, value in environment.items()
        if re.search(_NAMED_LIKE_SECRETS, name.upper())
        for line in value.splitlines()
    }
    forms = {form for line in lines for form in (line, repr(line)[1:-1], json.dumps(line)[1:-1])}
    return sorted(forms - {""}, key=len, reverse=True)


def redact(text: str, secrets: Iterable[str]) -> str:
    """Replace the secrets in a text."""
    for secret in secrets:
        text = text.replace(secret, "[redacted]")
    return text


def find_cause(lines: Sequence[str]) -> str:
    """Return the cause in the last line that matches a pattern of `_CAUSES`, empty if none does."""
    for line in reversed(lines):
        for pattern, cause in _CAUSES.items():
            if match := re.search(pattern, line):
                return cause.format(*match.groups())
    return ""


def read_result(suite: Suite, reading: Reading) -> dict[str, Any]:
    """Return the result of a client that ended without an error.

    Raises:
        SuiteError: The client left no numbers.
    """
    return _speed_result(suite, reading) if suite.kind == "speed" else _printed_result(suite, reading)


def _speed_result(suite: Suite, reading: Reading) -> dict[str, Any]:
    written = _last_result(suite.output_file)
    metrics = {name: written[name] for name in SPEED_METRICS if is_number(written.get(name))}
    message = _shortfall(suite, written.get("errors", ()))
    completed = int(metrics.get("completed", 0))
    return _result(suite, "Succeeded", message, completed=completed, metrics=reading.printed | metrics)


def _shortfall(suite: Suite, errors: Sequence[str]) -> str:
    """Return why some requests got no answer. `errors` contains a text for each request, empty if it was answered."""
    failed = [error for error in errors if error.strip()]
    if failed:
        return f"{len(failed)} of {suite.requests} requests failed, the first with: {_reason(failed[0])}."
    return f"The dataset has only {len(errors)} prompts." if 0 < len(errors) < suite.requests else ""


def _printed_result(suite: Suite, reading: Reading) -> dict[str, Any]:
    """Return the result of a client that prints its metrics."""
    if missing := reading.patterns.keys() - reading.printed.keys():
        raise SuiteError(f"The client ended without an error, but did not print: {', '.join(sorted(missing))}.")
    return _result(suite, "Succeeded", _remark(suite, reading), completed=reading.done, metrics=reading.printed)


def _remark(suite: Suite, reading: Reading) -> str:
    # If the dataset is too small, the client asks fewer questions and does not say so.
    if suite.kind == "accuracy" and reading.done < suite.requests:
        return f"The dataset has only {reading.done} questions."
    return next((line for line in reading.last_lines if re.fullmatch(_INVALID_CALL, line)), "")


def _result(
    suite: Suite, outcome: str, message: str, *, completed: int = 0, metrics: Mapping[str, float] | None = None
) -> dict[str, Any]:
    counts = {"requested": suite.requests, "completed": completed}
    return {"outcome": outcome, "message": message, **counts, "metrics": dict(metrics or {})}


def _last_result(file: Path) -> dict[str, Any]:
    """Return the last result in bench_serving's file. Each line of the file is a result."""
    lines = file.read_text().splitlines() if file.exists() else []
    if not lines:
        raise SuiteError("The client ended without an error, but wrote no result.")
    try:
        # Python also parses Infinity and NaN, which the client writes although they are not in the JSON standard.
        written = json.loads(lines[-1])
    except (RecursionError, ValueError) as error:
        raise SuiteError(f"The client wrote a result that is not JSON: {error}.") from error
    if not isinstance(written, dict):
        raise SuiteError(f"The client wrote a result that is not a JSON object but a {type(written).__name__}.")
    return written


def is_number(value: object) -> bool:
    """Return whether a value is a number in strict JSON: neither Infinity nor NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _reason(error: str) -> str:
    """Return the cause of a single request's error, or the last line of the error if the cause is not known."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return find_cause(lines) or lines[-1]


def encode(result: Mapping[str, Any]) -> str:
    """Return a result as strict JSON of at most `LONGEST_RESULT` bytes. If it is too long, the message is cut."""
    text = _json(result)
    if len(text) <= LONGEST_RESULT:
        return text
    room = LONGEST_RESULT - len(_json({**result, "message": "..."}))
    if room < 0:
        raise ValueError(f"The metrics alone take more than {LONGEST_RESULT} bytes: {sorted(result['metrics'])}")
    return _json({**result, "message": _cut(result["message"], room) + "..."})


def _cut(text: str, room: int) -> str:
    """Return the longest beginning of a text that takes at most this many bytes in JSON."""
    # In JSON, a character takes one to twelve bytes.
    sizes = itertools.accumulate(len(json.dumps(character)) - 2 for character in text[:room])
    return text[: sum(size <= room for size in sizes)]


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


if __name__ == "__main__":
    sys.exit(main())
