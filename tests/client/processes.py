"""The stand-in and the runner as real processes. A folder takes the place of a pod's file system."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from integration.waiting import wait_for
from kimi_linear_operator.benchmark import runner
from kimi_linear_operator.benchmark.commands import DATASET_FOLDER, PROGRAM_FOLDER
from kimi_linear_operator.benchmark.job import RESULTS_FOLDER
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.sglang import environment

_TESTS = Path(__file__).parents[1]
MODEL = "moonshotai/Kimi-Linear-48B-A3B-Instruct"
QUICK = {"load_seconds": 0, "warm_up_seconds": 0, "seconds_per_token": 0.0001}


@dataclass
class StandIn:
    """A stand-in that runs in its `with` block, on a free port of the loopback interface. By default, it is quick."""

    arguments: Sequence[str]
    behaviour: Mapping[str, float]
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def __enter__(self) -> Self:
        behaviour = {f"STAND_IN_{name.upper()}": str(value) for name, value in (QUICK | dict(self.behaviour)).items()}
        command = [sys.executable, "-m", "stand_in", "--model-path", MODEL, "--port", "0", *self.arguments]
        with self.log.open("wb") as log:
            env = os.environ | {"PYTHONPATH": str(_TESTS)} | behaviour
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def url(self) -> str:
        """Its address, as soon as it has one."""
        return wait_for(self._address, "the stand-in has opened its port")

    def _address(self) -> str:
        found = re.search(r"running on (http://\S+)", self.log.read_text())
        return found[1] if found else ""

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@dataclass(frozen=True)
class Run:
    """A finished run of the runner."""

    code: int
    log: str
    result: dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """The benchmark's pod: a folder to write to, a folder with the client's downloads, and the client's Python."""

    folder: Path
    downloads: Path
    python: Path

    def run(
        self,
        command: Sequence[str],
        requests: int,
        url: str,
        environment: Mapping[str, str] | None = None,
        *,
        kind: str | None = None,
    ) -> Run:
        """Run the runner with a client to its end."""
        with self.start(command, requests, url, environment, kind) as process:
            log, _ = process.communicate(timeout=300)
        return Run(process.returncode, log, self.result())

    def start(
        self,
        command: Sequence[str],
        requests: int,
        url: str,
        environment: Mapping[str, str] | None = None,
        kind: str | None = None,
    ) -> subprocess.Popen[str]:
        kind = kind or ("accuracy" if "sglang.test.few_shot_gsm8k" in command else "speed")
        options = ["--suite", "suite", "--kind", kind, "--requests", str(requests), "--url", url]
        hub = {"HF_HOME": str(self.downloads / "huggingface"), "HF_HUB_OFFLINE": "1"}
        words = ["python3", runner.__file__, *options, "--output-folder", str(self.folder), "--", *command]
        return self._start(words, hub | dict(environment or {}))

    def run_job(self, job: Manifest, program: Manifest) -> Run:
        """Run the container of a Job unchanged, except for its folders, which are replaced by ours."""
        (self.folder / "runner.py").write_text(program["data"]["runner.py"])
        [container] = job["spec"]["template"]["spec"]["containers"]
        assert "command" not in container
        environment = {variable["name"]: self._here(variable["value"]) for variable in container["env"]}
        with self._start([self._here(word) for word in container["args"]], environment) as process:
            log, _ = process.communicate(timeout=300)
        return Run(process.returncode, log, self.result())

    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.termination_message.read_text())
        return result

    @property
    def termination_message(self) -> Path:
        return self.folder / "termination-log"

    def _start(self, words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        before_command = words.index("--")
        message = ["--termination-message", str(self.termination_message)]
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            [*words[:before_command], *message, *words[before_command:]],
            env=os.environ | {"PATH": path} | dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _here(self, text: str) -> str:
        """Return a word of a container with our folders in place of its own."""
        mounted = {
            PROGRAM_FOLDER: self.folder,
            RESULTS_FOLDER: self.folder,
            f"{DATASET_FOLDER}/gsm8k": self.downloads,
            environment.CACHE_PATH: self.downloads,
        }
        for place, folder in mounted.items():
            if text == place or text.startswith(f"{place}/"):
                return f"{folder}{text.removeprefix(place)}"
        return text
