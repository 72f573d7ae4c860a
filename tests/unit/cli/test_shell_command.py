"""A command that the tool shows can be pasted: a shell executes nothing but the command itself."""

import subprocess

import pytest

from kimi_linear_operator.cli.shell_command import cleaned_command
from kimi_linear_operator.server.sglang.by_hand import recipe_command
from kimi_linear_operator.server.spec import ServerSpec


def words_of(*extra_args: str) -> list[str]:
    """Return the words that a shell reads in the shown command of a server with these arguments."""
    spec = ServerSpec.model_validate({"engine": {"extraArgs": list(extra_args)}})
    return read_by_a_shell(cleaned_command(recipe_command(spec)))


def read_by_a_shell(text: str) -> list[str]:
    done = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' {text}"], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.removesuffix("\0").split("\0")


def test_a_command_without_secrets_is_shown_as_it_is() -> None:
    command = recipe_command(ServerSpec.model_validate({"engine": {"extraArgs": ['--note=it\'s a "test" of $HOME']}}))
    assert cleaned_command(command) == command


@pytest.mark.parametrize("secret", ["token=\"abc''def", "password='x", 'api_key="\'"', "token=`id`"])
def test_hiding_a_secret_keeps_the_quotes_of_other_words(secret: str) -> None:
    dangerous = ("--x=$(echo INJECTED)", '--y=" #')
    words = words_of(f"--note={secret}", *dangerous)
    assert words[-2:] == list(dangerous)
    assert secret not in words[-3]
    assert "[redacted]" in words[-3]


def test_a_secret_after_its_flag_is_hidden() -> None:
    assert words_of("--some-token", "abcdefgh")[-2:] == ["--some-token", "[redacted]"]


def test_a_text_that_is_no_command_becomes_one_word() -> None:
    assert read_by_a_shell(cleaned_command("echo 'half; $(reboot)")) == ["echo 'half; $(reboot)"]
