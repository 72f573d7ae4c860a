"""Programs of this package that run in containers as `python3 -c TEXT`.

They are in the pod template itself, so that the record of a template holds all that its pods run.
"""

import re
from importlib.resources import files

# The documentation of a module and of functions, comments, and empty lines. Every pod template is stored several times.
_LEFT_OUT = (
    re.compile(r'\A""".*?"""\n', re.DOTALL),
    # The docstring of a class that has nothing else stays.
    re.compile(r'(?<=:\n) +"""(?:(?!""").)*"""\n(?= )', re.DOTALL),
    re.compile(r"^ *#.*\n", re.MULTILINE),
    re.compile(r"^\n", re.MULTILINE),
)


def program(name: str) -> str:
    """Return the text of a module of this package, without what only people read."""
    text = files("kimi_linear_operator.server.sglang").joinpath(f"{name}.py").read_text()
    for pattern in _LEFT_OUT:
        text = pattern.sub("", text)
    return text
