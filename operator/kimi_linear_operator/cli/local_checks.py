"""Verifies a server at any address: runs the clients of its verification on this machine."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kimi_linear_operator.benchmark import commands, job_status, load, runner, tool_calls, verdict
from kimi_linear_operator.benchmark.baseline import Baseline
from kimi_linear_operator.benchmark.definition import CHECKER
from kimi_linear_operator.benchmark.spec import BENCHMARK, KimiLinearBenchmark, Suite
from kimi_linear_operator.benchmark.verdict import Verdict
from kimi_linear_operator.cli.checks import Outcome, tell
from kimi_linear_operator.cli.failure import CommandError, of_file
from kimi_linear_operator.cli.status import now
from kimi_linear_operator.kubernetes.conditions import Reason, condition, stamped
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server import verification
from kimi_linear_operator.server.spec import ServerSpec
from kimi_linear_operator.server.spec.engine import Switch

KEY_VARIABLE = "KIMI_LINEAR_API_KEY"
"""The environment variable with the server's API key.

It is not OPENAI_API_KEY, because that may contain the key of another service, and such a key must not be sent to this
server.
"""

REMEDIES = {
    "SGLang's client is not": "Name a Python that can import sglang with --python.",
    "client cannot be started": "Name a Python that can import sglang with --python.",
    "dataset is not": "Name GSM8K's test.jsonl with --dataset.",
    "refused the API key": f"Give the server's key with --api-key-file or ${KEY_VARIABLE}.",
}
"""Remedies by words of the runner's messages. The runner's own remedies are for pods; these are for this machine."""

_OTHER_REMEDY = "Correct what the message names. The client's output is above."


@dataclass(frozen=True)
class LocalClient:
    """The files and the key that the clients of a verification need on this machine.

    Attributes:
        python: A Python that has SGLang's client.
        dataset: GSM8K's questions, None to download them.
        key: The server's API key, empty if it has none.
    """

    python: str
    dataset: Path | None
    key: str

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a client."""
        others = {name: value for name, value in os.environ.items() if name != commands.API_KEY_VARIABLE}
        return {**others, **({commands.API_KEY_VARIABLE: self.key} if self.key else {})}


def client(python: str | None, dataset: Path | None, key_file: Path | None) -> LocalClient:
    """Return the client that options ask for.

    Raises:
        CommandError: A file cannot be read.
    """
    key = _read(key_file) if key_file else os.environ.get(KEY_VARIABLE, "")
    if dataset:
        _check_readable(dataset)
    # The clients run in another folder, so the path must be absolute. It must not be resolved, because the Python of a
    # virtual environment is a link.
    program = str(Path(python).absolute()) if python and os.sep in python else python
    return LocalClient(program or sys.executable, dataset.absolute() if dataset else None, key.strip())


def _read(key_file: Path) -> str:
    try:
        return key_file.read_text()
    except OSError as error:
        raise of_file(f"--api-key-file {key_file}", error) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"--api-key-file {key_file}: must be a text file with the key") from error


def _check_readable(dataset: Path) -> None:
    try:
        dataset.open().close()
    except OSError as error:
        raise of_file(f"--dataset {dataset}", error) from error


def run(url: str, parser: Switch, local: LocalClient, seconds: float) -> Outcome:
    """Verify a server. The clients' output goes to standard error.

    Args:
        url: Its address.
        parser: Whether it has a parser of tool calls.
        local: Its clients.
        seconds: The time limit for everything.

    Raises:
        CommandError: The address is not valid, or the time limit has passed.
    """
    benchmark = _benchmark(url, ServerSpec.model_validate({"toolCallParser": parser}))
    deadline = time.monotonic() + seconds
    results = []
    for number, suite in enumerate(benchmark.spec.suites, 1):
        tell(f"[{number}/{len(benchmark.spec.suites)}] {suite.name}: {load.requests(suite)} requests")
        try:
            result = _result(benchmark, suite, local, deadline)
        except TimeoutError:
            raise CommandError(f"not done within {seconds:.0f} s (--timeout), in suite {suite.name}") from None
        results.append(verdict.judge(benchmark.spec, suite, result, baseline=Baseline(), changes=()))
    concluded = verdict.conclude(results)
    return Outcome(_manifest(benchmark, results, concluded), concluded.message, _remedy(concluded.message))


def _remedy(message: str) -> str:
    known = [remedy for words, remedy in REMEDIES.items() if words in message]
    return " ".join(known) or _OTHER_REMEDY


def _benchmark(url: str, spec: ServerSpec) -> KimiLinearBenchmark:
    """Return a benchmark with the questions of a verification.

    Raises:
        CommandError: The address is not valid.
    """
    manifest = {
        "apiVersion": BENCHMARK.api_version,
        "kind": BENCHMARK.kind,
        "metadata": {"name": "verify"},
        "spec": {"endpoint": {"url": url.rstrip("/")}, **verification.checks(spec)},
    }
    checked = CHECKER.check(manifest)
    if checked.resource is None or not checked.is_valid:
        raise CommandError(
            f"{url} is not the address of a server: write it without a path, for example http://localhost:30000"
        )
    return checked.resource


def _result(benchmark: KimiLinearBenchmark, suite: Suite, local: LocalClient, deadline: float) -> Manifest:
    """Run the client of a suite; return its result with its times.

    Raises:
        TimeoutError: There was no time left.
    """
    started = now()
    with tempfile.TemporaryDirectory() as folder:
        message = Path(folder) / "result.json"
        words = [*_runner(benchmark, suite, folder, message), "--", *_command(benchmark, suite, local)]
        code = _follow(words, local.environment, deadline)
        text = message.read_text() if message.exists() else ""
    result = job_status.result_of_client({"exitCode": code, "message": text}, suite)
    times = {"startTime": started, "completionTime": now()}
    return {"name": suite.name, "kind": load.kind(suite), **result, **times}


def _follow(words: Sequence[str], environment: Mapping[str, str], deadline: float) -> int:
    """Run a program, and show its output without control characters. Return its exit code.

    Raises:
        TimeoutError: There was no time left.
    """
    with subprocess.Popen(
        words,
        env=environment,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        # Ctrl-C reaches only this process. This process ends the runner with SIGTERM, and the runner passes SIGTERM on.
        start_new_session=True,
    ) as process:
        end = threading.Timer(max(0.0, deadline - time.monotonic()), process.terminate)
        end.start()
        try:
            for line in process.stdout or ():
                tell(line)
        except KeyboardInterrupt:
            process.terminate()
            process.communicate()
            raise
        finally:
            end.cancel()
    if time.monotonic() >= deadline:
        raise TimeoutError
    return process.returncode


def _runner(benchmark: KimiLinearBenchmark, suite: Suite, folder: str, message: Path) -> Iterator[str]:
    """Yield the words of the runner's command line, without the client's words."""
    url = benchmark.spec.endpoint.url if benchmark.spec.endpoint else ""
    options: dict[str, Any] = {
        "--suite": suite.name,
        "--kind": load.kind(suite),
        "--requests": load.requests(suite),
        "--url": url,
        "--output-folder": folder,
        "--termination-message": message,
    }
    yield from (sys.executable, runner.__file__)
    yield from (str(word) for option in options.items() for word in option)


def _command(benchmark: KimiLinearBenchmark, suite: Suite, local: LocalClient) -> Iterator[str]:
    """Yield the words of the client's command line, as in a pod, but with the programs and files of this machine."""
    here = {"python3": local.python, f"{commands.PROGRAM_FOLDER}/{commands.TOOL_CALLS}": tool_calls.__file__}
    yield from (here.get(word, word) for word in commands.build_command(benchmark.spec, suite, model=""))
    if suite.accuracy and local.dataset:
        yield from ("--data-path", str(local.dataset))


def _manifest(benchmark: KimiLinearBenchmark, results: list[Manifest], concluded: Verdict) -> Manifest:
    """Return the benchmark as the operator would store it."""
    url = benchmark.spec.endpoint.url if benchmark.spec.endpoint else ""
    succeeded = {"Passed": True, "Failed": False}.get(concluded.verdict)
    told = condition("Succeeded", succeeded, Reason(concluded.reason, concluded.message))
    status = {
        "verdict": concluded.verdict,
        "startTime": results[0]["startTime"],
        "completionTime": results[-1]["completionTime"],
        "environment": {"server": url},
        "results": results,
        "conditions": stamped([told], {}, 1, now()),
    }
    return {**benchmark.model_dump(by_alias=True, exclude_unset=True), "status": status}
