"""The shell commands that start a server by hand, as the recipe shows them."""

import shlex

from kimi_linear_operator.foreigntext import printable
from kimi_linear_operator.server.sglang.command_line import PROGRAM, chosen_flags, recipe_flags
from kimi_linear_operator.server.sglang.environment import RECIPE_ENVIRONMENT
from kimi_linear_operator.server.sglang.images import image_of
from kimi_linear_operator.server.spec import ServerSpec

COMMAND_START = " ".join([*(f"{name}={value}" for name, value in RECIPE_ENVIRONMENT.items()), *PROGRAM])
LINE_BREAK = " \\\n  "
"""The separator before each flag of a shell command."""


def recipe_command(spec: ServerSpec) -> str:
    """Return the shell command that starts this server by hand, in the format of the recipe's generator.

    Control characters are replaced, because a terminal would execute them when somebody pastes the command.
    """
    flags = [*recipe_flags(spec), *chosen_flags(spec)]
    return COMMAND_START + LINE_BREAK.join(["", *(shlex.join(map(printable, flag)) for flag in flags)])


def docker_commands(spec: ServerSpec) -> list[str]:
    """Return the recipe's commands that come before the start by hand (4.2.1 and 4.2.2): pull, run, install."""
    run = [
        "docker run -d -it --ipc=host --network=host --privileged",
        "--cap-add=CAP_SYS_ADMIN",
        "--device=/dev/kfd --device=/dev/dri --device=/dev/mem",
        "--group-add video --cap-add=SYS_PTRACE",
        "--security-opt seccomp=unconfined",
        "-v /:/work",
        "-e SHELL=/bin/bash",
        "--name Kimi-linear",
        image_of(spec),
        "/bin/bash",
    ]
    return [
        f"docker pull {image_of(spec)}",
        LINE_BREAK.join(run),
        shlex.join(["pip", "install", *spec.engine.extra_pip_packages]),
    ]
