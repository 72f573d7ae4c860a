"""Writes the pages: `python -m kimi_linear_operator.reference FOLDER`."""

import sys
from pathlib import Path

from kimi_linear_operator.reference import pages

for name, text in pages().items():
    (Path(sys.argv[1]) / name).write_text(text)
