"""Writes the files that a server and SGLang's clients would download: a tiny Kimi-Linear, conversations, and questions.

    PYTHONPATH=tests python -m cpu_engine.data FOLDER

HF_HOME is the folder then.
"""

import sys
from pathlib import Path

from cpu_engine import checkpoint
from stand_in import data


def write(folder: Path) -> None:
    """Write model and conversations as a cache of the hub, and the questions as a file."""
    checkpoint.write(folder)
    conversations = data.snapshot(folder / "hub", "datasets", data.CONVERSATIONS)
    data.write_conversations(conversations / data.CONVERSATIONS_FILE, count=50)
    data.write_questions(folder / "gsm8k.jsonl", count=50)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
