"""SGLang's own parser accepts every command line of the operator for a server."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from arguments.sglang_releases import RELEASES, parse, spellings
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server.manifests import build
from kimi_linear_operator.server.sglang import command_line
from kimi_linear_operator.server.sglang.by_hand import recipe_command
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server, stored

ROOT = Path(__file__).parents[2]
SERVER = ("sglang.launch_server", "--model-path", "kimi")
FIELDS: dict[str, list[Any]] = {
    "model": [{}, {"revision": "8a1c5d5"}, {"path": "/models/kimi"}, {"servedName": "kimi"}],
    "tensorParallelism": [1, 2, 4, 8],
    "toolCallParser": ["disabled", "enabled"],
    "engine": [{}, {"contextLength": 131072}, {"memoryFractionStatic": 0.85}, {"attentionBackend": "triton"}],
}


def servers() -> Iterator[tuple[str, Manifest]]:
    """Yield every golden case, every sample, and every combination of fields for the command line."""
    for file in sorted([*ROOT.glob("tests/golden/*/cr.yaml"), *ROOT.glob("deploy/samples/*.yaml")]):
        for number, document in enumerate(yaml.safe_load_all(file.read_text())):
            if document and document["kind"] == "KimiLinearServer":
                yield f"{file.relative_to(ROOT)}[{number}]", stored(document)
    for values in itertools.product(*FIELDS.values()):
        spec = dict(zip(FIELDS, values, strict=True))
        yield str(spec), make_server(**spec)


def valid_servers(release: str) -> dict[str, KimiLinearServer]:
    """Return the servers that a release can run.

    Servers with extraArgs run only on 0.5.7, for which these arguments are written.
    """
    checked = {name: check(manifest) for name, manifest in servers()}
    return {
        name: answer.resource
        for name, answer in checked.items()
        if isinstance(answer.resource, KimiLinearServer)
        and answer.is_valid
        and (release == "0.5.7" or not answer.resource.spec.engine.extra_args)
    }


def command(server: KimiLinearServer) -> list[str]:
    """Return the command line of the container's process, as a list of words."""
    own = [child for child in build(server) if child["metadata"]["name"] == server.metadata.name]
    (deployment,) = [child for child in own if child["kind"] == "Deployment"]
    containers = deployment["spec"]["template"]["spec"]["containers"]
    (container,) = [container for container in containers if container["name"] == ENGINE_CONTAINER]
    return list(container["args"])


@pytest.mark.parametrize("release", RELEASES)
def test_sglang_accepts_every_command_line_and_reads_the_spec_from_it(release: str) -> None:
    valid = valid_servers(release)
    answers = parse(release, [command(server) for server in valid.values()])
    assert len(answers) > 100
    assert [answer.error for answer in answers if answer.error] == []
    for (name, server), answer in zip(valid.items(), answers, strict=True):
        spec, said = server.spec, answer.arguments
        assert said["model_path"] == said["tokenizer_path"] == command_line.model_path(spec), name
        # 0.5.7 calls it tensor_parallel_size.
        assert said.get("tp_size", said.get("tensor_parallel_size")) == spec.tensor_parallelism, name
        assert said["tool_call_parser"] == ("kimi_k2" if spec.tool_call_parser == "enabled" else None), name
        assert said["revision"] == spec.model.revision, name
        assert said["served_model_name"] == spec.model.served_name, name
        assert said["context_length"] == spec.engine.context_length, name
        assert said["mem_fraction_static"] == spec.engine.memory_fraction_static, name
        assert said["attention_backend"] == spec.engine.attention_backend, name
        assert (said["host"], said["port"]) == (command_line.ALL_ADDRESSES, 30000), name
        assert said["trust_remote_code"] is True, name
        assert said["enable_metrics"] is True, name
        assert said["reasoning_parser"] is None, name


@pytest.mark.parametrize("release", RELEASES)
def test_sglang_accepts_the_recipes_command_split_as_by_a_shell(release: str) -> None:
    texts = {recipe_command(server.spec) for server in valid_servers(release).values()}
    # Python's shlex keeps the line break that a shell drops after a backslash.
    words = [shlex.split(text.replace("\\\n", "")) for text in sorted(texts)]
    commands = [command[command.index("python3") :] for command in words]
    assert [answer.error for answer in parse(release, commands) if answer.error] == []


@pytest.mark.parametrize("release", RELEASES)
def test_sglang_refuses_an_unknown_argument(release: str) -> None:
    [answer] = parse(release, [["python3", "-m", *SERVER, "--no-such-argument"]])
    assert answer.error is not None
    assert "unrecognized arguments: --no-such-argument" in answer.error


@pytest.mark.parametrize("release", RELEASES)
def test_every_flag_that_the_operator_reserves_exists_in_sglang(release: str) -> None:
    known = spellings(release, *SERVER)
    assert [flag for flag in command_line.OWNED_FLAGS if f"--{flag}" not in known] == []


@pytest.mark.parametrize("release", RELEASES)
def test_rules_refuse_every_spelling_of_a_reserved_flag_and_no_other_flag(release: str) -> None:
    known = spellings(release, *SERVER)
    owned = {known[f"--{flag}"] for flag in command_line.OWNED_FLAGS}
    refused = {word for word in known if _is_refused(word)}
    assert [word for word, name in known.items() if name in owned and word not in refused] == []
    assert [word for word, name in known.items() if name not in {*owned, "help"} and word in refused] == []


def _is_refused(word: str) -> bool:
    """Return whether an argument is refused because a field or the operator sets it."""
    problems = check(make_server(engine={"extraArgs": [word]})).problems
    return any("contains a flag that the operator sets" in problem.message for problem in problems)


UNUSABLE = (
    *command_line.TLS_FLAGS,
    *command_line.DATA_PARALLEL_FLAGS,
    *command_line.NODES_FLAGS,
    *command_line.OTHER_PROTOCOL_FLAGS,
    *command_line.GPU_NUMBER_FLAGS,
    "help",
)


def test_every_flag_that_always_fails_exists_in_a_release() -> None:
    known = {word for release in RELEASES for word in spellings(release, *SERVER)}
    assert [flag for flag in UNUSABLE if f"--{flag}" not in known] == []


@pytest.mark.parametrize("release", RELEASES)
def test_rules_refuse_every_spelling_of_a_flag_that_always_fails(release: str) -> None:
    known = spellings(release, *SERVER)
    unusable = {known[f"--{flag}"] for flag in UNUSABLE if f"--{flag}" in known}
    written = [word for word, name in known.items() if name in unusable]
    passed = [word for word in written if check(make_server(engine={"extraArgs": [word]})).is_valid]
    assert passed == []


@pytest.mark.parametrize("release", RELEASES)
def test_rules_refuse_every_spelling_of_a_secret_on_the_command_line(release: str) -> None:
    secrets = [word for word, name in spellings(release, *SERVER).items() if re.search("api_key|password|secret", name)]
    assert "--api-key" in secrets
    passed = [word for word in secrets if check(make_server(engine={"extraArgs": [f"{word}=x"]})).is_valid]
    assert passed == []


@pytest.mark.parametrize("release", RELEASES)
def test_the_recipes_tool_call_parser_exists_in_sglang(release: str) -> None:
    [answer] = parse(release, [["python3", "-m", *SERVER, "--tool-call-parser", command_line.TOOL_CALL_PARSER]])
    assert (answer.error, answer.arguments.get("tool_call_parser")) == (None, "kimi_k2")
