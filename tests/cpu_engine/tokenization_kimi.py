"""A tokenizer like Kimi's: tiktoken, and code that is loaded from the model's folder (--trust-remote-code)."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tiktoken
from tiktoken.load import load_tiktoken_bpe

try:
    from transformers.tokenization_python import PreTrainedTokenizer
except ImportError:
    from transformers import PreTrainedTokenizer

_PATTERN = r"""\p{N}{1,3}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+"""


class TikTokenTokenizer(PreTrainedTokenizer):  # type: ignore[misc]
    """A base vocabulary from a file of tiktoken, and special tokens above it. Some special tokens have names."""

    vocab_files_names = {"vocab_file": "tiktoken.model"}  # noqa: RUF012 - as transformers declares it
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(self, vocab_file: str, special_places: Mapping[str, str], special_count: int, **options: Any) -> None:
        ranks = load_tiktoken_bpe(vocab_file)
        base = len(ranks)
        names = {base + int(place): name for place, name in special_places.items()}
        special = {
            names.get(number, f"<|reserved_token_{number}|>"): number for number in range(base, base + special_count)
        }
        self.vocab_file = vocab_file
        self.model = tiktoken.Encoding(name="kimi", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens=special)
        self.decoder = {
            number: self.model.decode_single_token_bytes(number).decode("latin-1") for number in range(self.vocab_size)
        }
        self.encoder = {text: number for number, text in self.decoder.items()}
        super().__init__(special_places=special_places, special_count=special_count, **options)

    @property
    def vocab_size(self) -> int:
        """Return the number of all tokens."""
        return int(self.model.n_vocab)

    def get_vocab(self) -> dict[str, int]:
        """Return the numbers of all tokens."""
        return dict(self.encoder)

    def _tokenize(self, text: str, **_options: Any) -> list[str]:
        return [self.decoder[number] for number in self.model.encode(text, allowed_special="all")]

    def _convert_token_to_id(self, token: str) -> int:
        return self.encoder.get(token, self.encoder["[UNK]"])

    def _convert_id_to_token(self, index: int) -> str:
        return str(self.decoder.get(index, ""))

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens."""
        return "".join(tokens).encode("latin-1", "replace").decode("utf-8", "replace")

    def encode(self, text: str, allow_special_tokens: bool = True, **options: Any) -> list[int]:
        """Return the numbers of a text's tokens.

        Like Kimi's tokenizer, use tiktoken unless there are more arguments.
        """
        if options:
            encoded: list[int] = super().encode(text, **options)
            return encoded
        allowed = "all" if allow_special_tokens else set()
        return list(self.model.encode(text, allowed_special=allowed, disallowed_special=()))

    def decode(self, token_ids: int | Sequence[int], **options: Any) -> str:
        """Return the text of tokens by their numbers."""
        if options:
            return str(super().decode(token_ids, **options))
        numbers = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        return str(self.model.decode(numbers))

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        """Copy the vocabulary's file."""
        name = "tiktoken.model" if filename_prefix is None else f"{filename_prefix}-tiktoken.model"
        target = Path(save_directory, name)
        if target.absolute() != Path(self.vocab_file).absolute():
            shutil.copyfile(self.vocab_file, target)
        return (str(target),)
