"""Writes the files that SGLang's client needs without internet: a tokenizer, conversations, and questions.

python3 -m stand_in.data FOLDER
"""

import json
import sys
from pathlib import Path

MODEL = "moonshotai/Kimi-Linear-48B-A3B-Instruct"
# The text from which bench_serving's dataset `random` cuts its prompts.
CONVERSATIONS = "anon8231489123/ShareGPT_Vicuna_unfiltered"
CONVERSATIONS_FILE = "ShareGPT_V3_unfiltered_cleaned_split.json"
_REVISION = "0" * 40
_MORE = 7


def write(folder: Path, questions: int = 200, conversations: int = 600) -> None:
    """Write everything as files, and as a cache of the Hugging Face hub."""
    write_tokenizer(folder / "tokenizer")
    write_conversations(folder / "sharegpt.json", conversations)
    write_questions(folder / "gsm8k.jsonl", questions)
    hub = folder / "huggingface/hub"
    write_tokenizer(snapshot(hub, "models", MODEL))
    write_conversations(snapshot(hub, "datasets", CONVERSATIONS) / CONVERSATIONS_FILE, conversations)


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of 256 tokens, one for each byte, in the format of PreTrainedTokenizerFast."""
    folder.mkdir(parents=True, exist_ok=True)
    bytes_as_text = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer: dict[str, object] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": bytes_as_text,
        "post_processor": None,
        "decoder": bytes_as_text,
        "model": {"type": "BPE", "vocab": {symbol: number for number, symbol in enumerate(_alphabet())}, "merges": []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": "{{ messages }}"}))


def write_conversations(file: Path, count: int) -> None:
    """Write conversations of two turns in ShareGPT's format."""
    text = "The stand-in asks about conversation {number}, and waits for an answer. "
    turns = [
        [{"from": "human", "value": text.format(number=number) * 3}, {"from": "gpt", "value": "It repeats itself."}]
        for number in range(count)
    ]
    file.write_text(json.dumps([{"id": str(number), "conversations": turn} for number, turn in enumerate(turns)]))


def write_questions(file: Path, count: int) -> None:
    """Write questions in GSM8K's format. `answers.py` can answer them."""
    lines = []
    for apples in range(count):
        question = f"Ann has {apples} apples and gets {_MORE} more. How many apples has Ann?"
        lines.append(json.dumps({"question": question, "answer": f"The sum.\n#### {apples + _MORE}"}) + "\n")
    file.write_text("".join(lines))


def snapshot(hub: Path, kind: str, name: str) -> Path:
    """Return the folder of the only version of a repository in a hub's cache. Create it if it does not exist."""
    repository = hub / f"{kind}--{name.replace('/', '--')}"
    version = repository / "snapshots" / _REVISION
    for folder in (repository / "refs", version):
        folder.mkdir(parents=True, exist_ok=True)
    (repository / "refs/main").write_text(_REVISION)
    return version


def _alphabet() -> list[str]:
    """Return the printable symbol of each byte, in the order of the bytes, as byte-level tokenizers write them."""
    shown = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) if byte in shown else chr(256 + hidden.index(byte)) for byte in range(256)]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
