"""The command line that becomes SGLang, and the shell line before it, which really runs here."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kimi_linear_operator import engine, rules
from kimi_linear_operator.api import ServerSpec
from make import make_server


def spec(**fields: Any) -> ServerSpec:
    return ServerSpec.model_validate(fields)


# Stands in for the image's interpreter: answers `-c` and `-m pip` as told, and notes how it was called.
PYTHON = """\
#!{interpreter}
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([os.getpid(), sys.argv[1:]]) + "\\n")
if sys.argv[1] == "-c":
    sys.exit(int(os.environ["IMPORT"]))
if sys.argv[1:3] == ["-m", "pip"]:
    sys.exit(int(os.environ["PIP"]))
"""


@dataclass
class Run:
    """What happened when the container's command ran: process, exit code, and the interpreter's calls."""

    process: int
    code: int
    calls: list[tuple[int, list[str]]]

    @property
    def arguments(self) -> list[list[str]]:
        return [arguments for _, arguments in self.calls]


def run(folder: Path, server: ServerSpec, *, import_code: int, pip_code: int) -> Run:
    python = folder / "python3"
    python.write_text(PYTHON.format(interpreter=sys.executable))
    python.chmod(0o755)
    calls = folder / "calls"
    calls.touch()
    environment = {"PATH": str(folder), "CALLS": str(calls), "IMPORT": str(import_code), "PIP": str(pip_code)}
    with subprocess.Popen(
        [*engine.command(server.engine.extra_pip_packages), *engine.arguments(server)], env=environment
    ) as process:
        code = process.wait(timeout=10)
    return Run(process.pid, code, [tuple(json.loads(line)) for line in calls.read_text().splitlines()])


SERVER = spec(engine={"extraPipPackages": ["sentencepiece", "tiktoken>=0.7,<1"], "extraArgs": ["--a=b c", "$HOME 'x'"]})
IMPORT = ["-c", "import sentencepiece, tiktoken"]
PIP = ["-m", "pip", "install", "--no-cache-dir", "sentencepiece", "tiktoken>=0.7,<1"]
SERVE = engine.arguments(SERVER)[1:]


def test_what_can_be_imported_is_not_installed(tmp_path: Path) -> None:
    assert run(tmp_path, SERVER, import_code=0, pip_code=1).arguments == [IMPORT, SERVE]


def test_what_can_not_be_imported_is_installed_first(tmp_path: Path) -> None:
    assert run(tmp_path, SERVER, import_code=1, pip_code=0).arguments == [IMPORT, PIP, SERVE]


def test_a_failed_installation_ends_the_container_with_the_code_of_pip(tmp_path: Path) -> None:
    failed = run(tmp_path, SERVER, import_code=1, pip_code=23)
    assert (failed.code, failed.arguments) == (23, [IMPORT, PIP])


@pytest.mark.parametrize("import_code", [0, 1], ids=["installed", "to be installed"])
def test_sglang_takes_the_place_of_the_shell_and_gets_its_signals(tmp_path: Path, import_code: int) -> None:
    started = run(tmp_path, SERVER, import_code=import_code, pip_code=0)
    assert started.calls[-1] == (started.process, SERVE)
    assert started.code == 0


def test_without_packages_no_shell_stands_before_sglang() -> None:
    assert engine.command([]) == []


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("tiktoken", "tiktoken"),
        ("tiktoken==0.9.0", "tiktoken"),
        ("tiktoken~=0.9", "tiktoken"),
        ("tiktoken!=0.8,<1", "tiktoken"),
        ("huggingface-hub[hf_transfer]>=1", "huggingface_hub"),
    ],
)
def test_the_module_to_import_is_guessed_from_the_requirement(tmp_path: Path, package: str, module: str) -> None:
    server = spec(engine={"extraPipPackages": [package]})
    assert run(tmp_path, server, import_code=0, pip_code=1).arguments[0] == ["-c", f"import {module}"]


@pytest.mark.parametrize(
    ("fields", "image"),
    [
        ({}, "lmsysorg/sglang:v0.5.7-rocm700-mi30x"),
        ({"hardware": "mi325x"}, "lmsysorg/sglang:v0.5.7-rocm700-mi30x"),
        ({"hardware": "mi355x"}, "lmsysorg/sglang:v0.5.7-rocm700-mi35x"),
        ({"hardware": "mi355x", "engine": {"version": "v0.5.12.post1"}}, "lmsysorg/sglang:v0.5.12.post1-rocm720-mi35x"),
        ({"engine": {"image": "registry:5000/sglang@sha256:0", "version": "v0.5.9"}}, "registry:5000/sglang@sha256:0"),
    ],
    ids=str,
)
def test_version_and_hardware_select_the_image(fields: dict[str, Any], image: str) -> None:
    assert engine.image(spec(**fields)) == image


EVERY_FLAG = engine.arguments(
    spec(
        model={"revision": "main", "servedName": "kimi"},
        toolCallParser="enabled",
        engine={"contextLength": 1, "memoryFractionStatic": 0.5, "attentionBackend": "triton"},
    )
)
FLAGS = [word for word in EVERY_FLAG if word.startswith("--")]


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_that_the_operator_sets_stands_there_once_and_can_not_be_repeated(flag: str) -> None:
    assert FLAGS.count(flag) == 1
    assert rules.check(make_server(engine={"extraArgs": [flag]})).errors


@pytest.mark.parametrize(("seconds", "threshold"), [(60, 6), (61, 7), (3600, 360), (3601, 361)])
def test_loading_gets_at_least_the_time_that_was_asked_for(seconds: int, threshold: int) -> None:
    startup = engine.probes(spec(startup={"timeoutSeconds": seconds}))["startupProbe"]
    assert (startup["periodSeconds"], startup["failureThreshold"]) == (10, threshold)


def test_no_probe_gives_up_within_the_second_that_health_can_take() -> None:
    timeouts = {name: probe["timeoutSeconds"] for name, probe in engine.probes(spec()).items()}
    assert timeouts == {"startupProbe": 5, "readinessProbe": 10, "livenessProbe": 30}


def test_the_tokens_value_is_nowhere_but_in_its_secret() -> None:
    variables = engine.environment(spec(model={"tokenSecretRef": {"name": "hf", "key": "t"}}))
    assert variables[-1] == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "t"}}}
    assert "HF_TOKEN" not in [variable["name"] for variable in engine.environment(spec())]
