"""Programs of this package that run in containers as `python3 -c TEXT`.

The text of a program is in the pod template itself. So the record of a template contains everything that its pods run.
"""

import re
from importlib.resources import files

# Matches docstrings of a module and of functions, comments, and empty lines. They are removed, because every pod
# template is stored several times.
_LEFT_OUT = (
    re.compile(r'\A""".*?"""\n', re.DOTALL),
    # The docstring of a class without other contents stays.
    re.compile(r'(?<=:\n) +"""(?:(?!""").)*"""\n(?= )', re.DOTALL),
    re.compile(r"^ *#.*\n", re.MULTILINE),
    re.compile(r"^\n", re.MULTILINE),
)


def program(name: str) -> str:
    """Return the text of a module of this package, without docstrings and comments."""
    text = files("kimi_linear_operator.server.sglang").joinpath(f"{name}.py").read_text()
    for pattern in _LEFT_OUT:
        text = pattern.sub("", text)
    return text
