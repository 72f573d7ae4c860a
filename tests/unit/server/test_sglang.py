"""The command line of SGLang, and the shell command that starts it; the tests run that command."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server.sglang import command_line, entrypoint, environment, probes
from kimi_linear_operator.server.sglang.by_hand import recipe_command
from kimi_linear_operator.server.sglang.images import image_of
from kimi_linear_operator.server.spec import ServerSpec
from make import make_server


def spec(**fields: Any) -> ServerSpec:
    return ServerSpec.model_validate(fields)


# A program in place of the image's Python. It answers `-c` and `-m pip` as the test wants, and notes its calls.
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
    """A run of the container's command: process, exit code, and the calls of the interpreter."""

    process: int
    code: int
    calls: list[tuple[int, list[str]]]

    @property
    def arguments(self) -> list[list[str]]:
        return [arguments for _, arguments in self.calls]


def run(folder: Path, server: ServerSpec, *, import_code: int, pip_code: int, emptied: str | None = None) -> Run:
    python = folder / "python3"
    python.write_text(PYTHON.format(interpreter=sys.executable))
    python.chmod(0o755)
    calls = folder / "calls"
    calls.touch()
    environment = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "CALLS": str(calls),
        "IMPORT": str(import_code),
        "PIP": str(pip_code),
    }
    with subprocess.Popen(
        [*entrypoint.command(server.engine.extra_pip_packages, emptied=emptied), *command_line.arguments(server)],
        env=environment,
    ) as process:
        code = process.wait(timeout=10)
    return Run(process.pid, code, [tuple(json.loads(line)) for line in calls.read_text().splitlines()])


SERVER = spec(engine={"extraPipPackages": ["sentencepiece", "tiktoken>=0.7,<1"], "extraArgs": ["--a=b c", "$HOME 'x'"]})
IMPORT = ["-c", "import sentencepiece, tiktoken"]
PIP = ["-m", "pip", "install", "--no-cache-dir", "sentencepiece", "tiktoken>=0.7,<1"]
SERVE = command_line.arguments(SERVER)[1:]


def test_packages_that_can_be_imported_are_not_installed(tmp_path: Path) -> None:
    assert run(tmp_path, SERVER, import_code=0, pip_code=1).arguments == [IMPORT, SERVE]


def test_packages_that_cannot_be_imported_are_installed_first(tmp_path: Path) -> None:
    assert run(tmp_path, SERVER, import_code=1, pip_code=0).arguments == [IMPORT, PIP, SERVE]


def test_a_failed_installation_ends_the_container_with_the_exit_code_of_pip(tmp_path: Path) -> None:
    failed = run(tmp_path, SERVER, import_code=1, pip_code=23)
    assert (failed.code, failed.arguments) == (23, [IMPORT, PIP])


@pytest.mark.parametrize("import_code", [0, 1], ids=["installed", "to be installed"])
def test_sglang_replaces_the_shell_and_gets_its_signals(tmp_path: Path, import_code: int) -> None:
    started = run(tmp_path, SERVER, import_code=import_code, pip_code=0)
    assert started.calls[-1] == (started.process, SERVE)
    assert started.code == 0


@pytest.mark.parametrize("packages", [[], ["tiktoken"]], ids=["nothing to install", "packages"])
def test_leftovers_in_shared_memory_are_removed_before_a_start_and_signals_still_arrive(
    tmp_path: Path, packages: list[str]
) -> None:
    memory = tmp_path / "shm"
    (memory / "folder").mkdir(parents=True)
    for name in ("nccl-1", ".hidden", "a name with spaces", "folder/psm_1"):
        (memory / name).write_text("left")
    server = spec(engine={"extraPipPackages": packages})
    started = run(tmp_path, server, import_code=0, pip_code=1, emptied=str(memory))
    assert list(memory.iterdir()) == []
    assert started.calls[-1] == (started.process, command_line.arguments(server)[1:])


def test_an_empty_shared_memory_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "shm").mkdir()
    assert run(tmp_path, SERVER, import_code=0, pip_code=1, emptied=str(tmp_path / "shm")).code == 0


def test_without_packages_sglang_starts_without_a_shell() -> None:
    assert entrypoint.command([]) == []


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
        ({"engine": {"version": "v0.5.8"}}, "lmsysorg/sglang:v0.5.8-rocm700-mi30x"),
        ({"hardware": "mi355x", "engine": {"version": "v0.5.12.post1"}}, "lmsysorg/sglang:v0.5.12.post1-rocm720-mi35x"),
        ({"engine": {"version": "v0.5.18"}}, "lmsysorg/sglang-rocm:v0.5.18-rocm724-mi30x-20260825"),
        ({"engine": {"version": "v0.5.99"}}, "lmsysorg/sglang:v0.5.99-rocm720-mi30x"),
        ({"engine": {"image": "registry:5000/sglang@sha256:0", "version": "v0.5.9"}}, "registry:5000/sglang@sha256:0"),
    ],
    ids=str,
)
def test_version_and_hardware_select_the_image(fields: dict[str, Any], image: str) -> None:
    assert image_of(spec(**fields)) == image


EVERY_FLAG = command_line.arguments(
    spec(
        model={"revision": "main", "servedName": "kimi"},
        toolCallParser="enabled",
        engine={"contextLength": 1, "memoryFractionStatic": 0.5, "attentionBackend": "triton"},
    )
)
FLAGS = [word for word in EVERY_FLAG if word.startswith("--")]


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_that_the_operator_sets_appears_once_and_cannot_be_repeated(flag: str) -> None:
    assert FLAGS.count(flag) == 1
    assert check(make_server(engine={"extraArgs": [flag]})).errors


@pytest.mark.parametrize(("seconds", "threshold"), [(60, 6), (61, 7), (3600, 360), (3601, 361)])
def test_loading_gets_at_least_the_requested_time(seconds: int, threshold: int) -> None:
    startup = probes.build_probes(spec(startup={"timeoutSeconds": seconds}))["startupProbe"]
    assert (startup["periodSeconds"], startup["failureThreshold"]) == (10, threshold)


HEALTH_SECONDS = 20
"""How long SGLang waits for a message of its engine before /health_generate answers 503 (http_server.py)."""


def probe(name: str, **fields: Any) -> dict[str, Any]:
    return dict(probes.build_probes(spec(**fields))[name])


def test_readiness_and_liveness_probes_check_the_engine_and_not_only_its_main_process() -> None:
    # With the variable SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION=false, /health would be 200 with a dead engine.
    for name in ("readinessProbe", "livenessProbe"):
        assert probe(name)["httpGet"]["path"] == "/health_generate"
        assert probe(name)["timeoutSeconds"] > HEALTH_SECONDS


def test_a_dead_engine_leaves_its_services_within_a_minute() -> None:
    readiness = probe("readinessProbe")
    # The engine dies just after a good answer. Each probe takes its whole timeout, and the next one follows at once.
    seconds = readiness["periodSeconds"] + readiness["failureThreshold"] * HEALTH_SECONDS
    assert seconds <= 60


@pytest.mark.parametrize(
    ("arguments", "watchdog"),
    [
        ([], 300),
        (["--watchdog-timeout=1200"], 1200),
        (["--watchdog-timeout", "900.5"], 900),
        (["--watchdog", "600"], 600),
        (["--soft-watchdog-timeout=900"], 300),
        (["--watchdog-timeout=none"], 300),
        (["--watchdog-timeout=0"], 300),
        (["--watchdog-timeout=1200", "--watchdog-timeout=600"], 600),
    ],
    ids=str,
)
def test_sglangs_watchdog_ends_a_slow_batch_before_the_kubelet_does(arguments: list[str], watchdog: int) -> None:
    liveness = probe("livenessProbe", engine={"extraArgs": arguments})
    shortest = (liveness["failureThreshold"] - 1) * liveness["periodSeconds"] + HEALTH_SECONDS
    assert watchdog < shortest <= watchdog + 60


def test_no_probe_gives_up_within_the_second_that_health_can_take() -> None:
    timeouts = {name: item["timeoutSeconds"] for name, item in probes.build_probes(spec()).items()}
    assert timeouts == {"startupProbe": 5, "readinessProbe": 25, "livenessProbe": 25}


HTTP_PROXY = {"name": "HTTP_PROXY", "value": "http://proxy:3128"}
OWN = "localhost,127.0.0.1,0.0.0.0,::1"


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ([], []),
        ([{"name": "A", "value": "b"}], [{"name": "A", "value": "b"}]),
        (
            [{"name": "HTTPS_PROXY", "value": "http://p"}, {"name": "NO_PROXY", "value": ".svc"}],
            [{"name": "HTTPS_PROXY", "value": "http://p"}, {"name": "NO_PROXY", "value": ".svc"}],
        ),
        ([HTTP_PROXY], [HTTP_PROXY, {"name": "NO_PROXY", "value": OWN}, {"name": "no_proxy", "value": OWN}]),
        (
            [HTTP_PROXY, {"name": "NO_PROXY", "value": "localhost, .svc,10.0.0.0/8"}],
            [HTTP_PROXY, {"name": "NO_PROXY", "value": "localhost,.svc,10.0.0.0/8,127.0.0.1,0.0.0.0,::1"}],
        ),
        (
            [{"name": "no_proxy", "value": ".svc"}, {"name": "http_proxy", "value": "http://p"}],
            [{"name": "no_proxy", "value": f".svc,{OWN}"}, {"name": "http_proxy", "value": "http://p"}],
        ),
        ([HTTP_PROXY, {"name": "NO_PROXY", "value": "*"}], [HTTP_PROXY, {"name": "NO_PROXY", "value": "*"}]),
        ([HTTP_PROXY, {"name": "NO_PROXY"}], [HTTP_PROXY, {"name": "NO_PROXY", "value": OWN}]),
        (
            [
                {"name": "http_proxy", "valueFrom": {"configMapKeyRef": {"name": "p", "key": "url"}}},
                {"name": "no_proxy", "valueFrom": {"configMapKeyRef": {"name": "p", "key": "no"}}},
            ],
            [
                {"name": "http_proxy", "valueFrom": {"configMapKeyRef": {"name": "p", "key": "url"}}},
                {"name": "GIVEN_no_proxy", "valueFrom": {"configMapKeyRef": {"name": "p", "key": "no"}}},
                {"name": "no_proxy", "value": f"$(GIVEN_no_proxy),{OWN}"},
            ],
        ),
    ],
    ids=[
        "nothing",
        "no proxy",
        "a proxy for https alone, which the warm-up does not use",
        "no exceptions",
        "exceptions",
        "lower case, before the proxy",
        "everything is an exception",
        "an empty value",
        "from a ConfigMap",
    ],
)
def test_the_engine_reaches_itself_past_a_proxy(variables: list[Any], wanted: list[Any]) -> None:
    assert environment.with_proxy_exceptions(variables) == wanted


def test_the_warm_up_bypasses_a_proxy_that_excepts_only_localhost() -> None:
    # The Python package requests decides by the end of the name (utils.py, should_bypass_proxies).
    url = urlsplit(f"http://{command_line.ALL_ADDRESSES}:{command_line.PORT}")
    assert url.hostname
    assert url.hostname.endswith("localhost")


LISTEN = """\
import asyncio, json, sys, uvloop
async def main():
    server = await asyncio.start_server(lambda reader, writer: None, sys.argv[1], 0)
    print(json.dumps(sorted(socket.getsockname()[0] for socket in server.sockets)))
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a process another /etc/hosts")
@pytest.mark.parametrize(
    ("host", "addresses"),
    [(command_line.ALL_ADDRESSES, ["0.0.0.0", "::"]), ("::", ["::"]), ("0.0.0.0", ["0.0.0.0"])],  # noqa: S104
)
def test_the_special_hostname_listens_on_both_ip_families_and_an_address_on_one(
    tmp_path: Path, host: str, addresses: list[str]
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("".join(f"{ip}\t{command_line.ALL_ADDRESSES}\n" for ip in command_line.ALL_ADDRESSES_ALIASES))
    script = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", LISTEN, host]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(done.stdout) == addresses


def test_the_tokens_value_is_only_in_its_secret() -> None:
    variables = environment.variables(spec(model={"tokenSecretRef": {"name": "hf", "key": "t"}}))
    assert variables[-1] == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "t"}}}
    assert "HF_TOKEN" not in [variable["name"] for variable in environment.variables(spec())]


def test_a_copied_command_contains_no_control_characters() -> None:
    command = recipe_command(spec(engine={"extraArgs": ["--log-level=\x15; touch x #", "--x=\x1b[201~\u202e"]}))
    assert command.endswith("'--log-level=\ufffd; touch x #' \\\n  '--x=\ufffd'")
