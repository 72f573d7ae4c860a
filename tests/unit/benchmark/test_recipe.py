"""For every selection, the output equals the output of the recipe's generator, word for word."""

import itertools

import pytest

from kimi_linear_operator import cli

HARDWARE = ("mi300x", "mi325x", "mi355x")
SWITCH = ("disabled", "enabled")

PLAIN = """\
SGLANG_ROCM_FUSED_DECODE_MLA=0 python3 -m sglang.launch_server \\
  --model-path moonshotai/Kimi-Linear-48B-A3B-Instruct \\
  --tp 4 \\
  --trust-remote-code
"""
WITH_TOOL_CALLS = """\
SGLANG_ROCM_FUSED_DECODE_MLA=0 python3 -m sglang.launch_server \\
  --model-path moonshotai/Kimi-Linear-48B-A3B-Instruct \\
  --tp 4 \\
  --trust-remote-code \\
  --tool-call-parser kimi_k2
"""
REFUSED = """\
# Error: Kimi-Linear doesn't support reasoning parser
# Please select "Disabled" for Reasoning Parser or choose Kimi-Linear-Thinking model
"""
ANSWERS = {
    ("disabled", "disabled"): (0, PLAIN, ""),
    ("disabled", "enabled"): (0, WITH_TOOL_CALLS, ""),
    ("enabled", "disabled"): (1, "", REFUSED),
    ("enabled", "enabled"): (1, "", REFUSED),
}

PREPARATION = """\
docker pull lmsysorg/sglang:v0.5.7-rocm700-{architecture}

docker run -d -it --ipc=host --network=host --privileged \\
  --cap-add=CAP_SYS_ADMIN \\
  --device=/dev/kfd --device=/dev/dri --device=/dev/mem \\
  --group-add video --cap-add=SYS_PTRACE \\
  --security-opt seccomp=unconfined \\
  -v /:/work \\
  -e SHELL=/bin/bash \\
  --name Kimi-linear \\
  lmsysorg/sglang:v0.5.7-rocm700-{architecture} \\
  /bin/bash

pip install sentencepiece tiktoken

"""


@pytest.mark.parametrize(("hardware", "reasoning", "tool_call"), [*itertools.product(HARDWARE, SWITCH, SWITCH)])
def test_every_selection_gets_the_recipes_answer(
    hardware: str, reasoning: str, tool_call: str, capsys: pytest.CaptureFixture[str]
) -> None:
    selection = ["--hardware", hardware, "--reasoning-parser", reasoning, "--tool-call-parser", tool_call]
    code = cli.main(["command", "--model", "instruct", *selection])
    assert (code, *capsys.readouterr()) == ANSWERS[reasoning, tool_call]


def test_the_defaults_are_those_of_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert (cli.main(["command"]), *capsys.readouterr()) == (0, PLAIN, "")


@pytest.mark.parametrize(("hardware", "architecture"), list(zip(HARDWARE, ("mi30x", "mi30x", "mi35x"), strict=True)))
def test_docker_prints_the_recipes_preparation_first(
    hardware: str, architecture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["command", "--docker", "--hardware", hardware])
    assert (code, *capsys.readouterr()) == (0, PREPARATION.format(architecture=architecture) + PLAIN, "")


def test_docker_prepares_nothing_for_a_refused_selection(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["command", "--docker", "--reasoning-parser", "enabled"])
    assert (code, *capsys.readouterr()) == (1, "", REFUSED)


@pytest.mark.parametrize(
    "arguments", [["--hardware", "h100"], ["--model", "thinking"], ["--tool-call-parser", "yes"]], ids=" ".join
)
def test_a_selection_that_the_recipe_does_not_offer_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["command", *arguments])
    output = capsys.readouterr()
    assert (exit_info.value.code, output.out) == (2, "")
    assert "invalid choice" in output.err
