"""How a server gets its API key. The tests really run the container's command, with a program in place of SGLang."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.sglang import command_line, entrypoint
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec
from make import make_server

KEY = "sk-planted'7\\x"
# Prints its own view of its process and other processes' view, and logs its settings as both releases of SGLang do.
PROGRAM = """\
import json, logging, multiprocessing, os, sys
from pathlib import Path

def seen(_):
    return Path("/proc/self/cmdline").read_text(), Path("/proc/self/environ").read_text()

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    key = sys.argv[1].partition("=")[2]
    logging.getLogger("sglang").info(f"server_args=ServerArgs(api_key={key!r}, tp=4)")
    logging.getLogger("sglang").info("%s of %s", 1, {"a": 2})
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        [child] = pool.map(seen, [None])
    print(json.dumps({"process": os.getpid(), "argv": sys.argv, "seen": [*seen(None), *child]}))
"""


@dataclass
class Run:
    """The result: the process, its exit code, its output, and the report of the program."""

    process: int
    code: int
    log: str
    said: dict[str, Any]


def run(folder: Path, key: bytes | None) -> Run:
    package = folder / "sglang"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "launch_server.py").write_text(PROGRAM)
    file = folder / "api-key"
    if key is not None:
        file.write_bytes(key)
    (folder / "python3").symlink_to(sys.executable)
    spec = ServerSpec.model_validate({"engine": {"extraArgs": ["--a=b c", "$HOME"]}})
    command = [*entrypoint.command([], key_file=str(file)), *command_line.arguments(spec)]
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": str(folder)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        output, log = process.communicate(timeout=30)
    return Run(process.pid, process.returncode, output + log, json.loads(output or "{}"))


def test_sglang_reads_the_key_from_a_file_and_no_other_process_sees_it(tmp_path: Path) -> None:
    started = run(tmp_path, KEY.encode())
    assert started.code == 0, started.log
    arguments = command_line.arguments(ServerSpec.model_validate({"engine": {"extraArgs": ["--a=b c", "$HOME"]}}))
    assert started.said["argv"][1:] == [f"--api-key={KEY}", *arguments[3:]]
    assert "api_key='[redacted]', tp=4" in started.log
    assert "1 of {'a': 2}" in started.log
    # The command line and the environment of the program, and of a process that it has started.
    assert len(started.said["seen"]) == 4
    assert not [text for text in started.said["seen"] if "planted" in text]


def test_sglang_replaces_the_shell_and_gets_its_signals(tmp_path: Path) -> None:
    started = run(tmp_path, KEY.encode())
    assert started.said["process"] == started.process


@pytest.mark.parametrize("written", [f"{KEY}\n", f"{KEY}\r\n", f" {KEY} "], ids=repr)
def test_a_line_break_at_the_end_of_a_secret_is_not_part_of_the_key(tmp_path: Path, written: str) -> None:
    assert run(tmp_path, written.encode()).said["argv"][1] == f"--api-key={KEY}"


def test_a_key_may_look_like_a_flag(tmp_path: Path) -> None:
    assert run(tmp_path, b"-rf").said["argv"][1] == "--api-key=-rf"


@pytest.mark.parametrize("written", [b"", b"\n", b"two words", "schlüssel".encode(), b"a\0b", b"\xff\xfe"], ids=repr)
def test_a_key_that_no_client_could_send_ends_the_container_and_is_not_shown(tmp_path: Path, written: bytes) -> None:
    started = run(tmp_path, written)
    assert (started.code, started.said) == (1, {})
    assert started.log.startswith("Error: the API key ")
    assert started.log.count("\n") == 1
    assert "words" not in started.log


def test_the_error_about_an_unreadable_key_names_the_field(tmp_path: Path) -> None:
    started = run(tmp_path, None)
    assert started.code == 1
    assert started.log == (
        "Error: the API key cannot be read (No such file or directory): see spec.auth.apiKeySecretRef of the server\n"
    )


def pod(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = build_pod_template(KimiLinearServer.model_validate(make_server(**spec)))["spec"]
    return found


def test_only_the_engine_mounts_the_key_and_only_its_user_may_read_it() -> None:
    sidecar = {
        "containers": [{"name": "log-shipper", "image": "a"}],
        "initContainers": [{"name": "warm", "image": "a"}],
    }
    made = pod(auth={"apiKeySecretRef": {"name": "keys", "key": "kimi"}}, podTemplate={"spec": sidecar})
    [volume] = [volume for volume in made["volumes"] if "secret" in volume]
    assert volume["secret"] == {
        "secretName": "keys",
        "defaultMode": 0o400,
        "items": [{"key": "kimi", "path": "api-key"}],
    }
    containers = [*made["containers"], *made["initContainers"]]
    mounted = [item["name"] for item in containers if volume["name"] in str(item.get("volumeMounts"))]
    assert mounted == ["sglang"]
    assert "secretKeyRef" not in str(made)


def test_the_launcher_means_the_same_to_kubernetes_and_the_shell() -> None:
    """Kubernetes replaces references to variables in commands, and replaces two dollar signs by one."""
    text = str(pod(auth={"apiKeySecretRef": {"name": "keys"}})["containers"][0]["command"])
    assert "$(" not in text
    assert "$$" not in text
    # The shell's quoting also does not make the text hard to read.
    assert "'\"'\"'" not in text
