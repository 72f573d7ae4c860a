"""Cached text is packed, and reads back as it was."""

import os
import random
import zlib

import pytest

from kimi_linear_operator.reconcile.packed import PackedText

LONGEST = 1000


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'{"name":"sglang"}' * 50, os.urandom(LONGEST), b"x" * (LONGEST + 1)], ids=len
)
def test_a_packed_text_reads_back_as_it_was_and_is_never_longer(text: bytes) -> None:
    packed = PackedText.of(text, LONGEST)
    assert packed.read() == text
    assert packed.size == len(text)
    assert len(packed.content) <= len(text)


def test_a_text_whose_compressed_form_has_its_length_reads_back_as_it_was() -> None:
    chance = random.Random(2)  # noqa: S311 - the text must only be hard to compress
    ranges = (32, 127), (128, 2048), (2048, 0xD800)
    letters = (chr(chance.choice([chance.randrange(*limits) for limits in ranges])) for _ in range(5000))
    text = "".join(letters).encode()
    parts = [text[start : start + length] for length in range(600, 700) for start in range(0, 5000, 500)]
    ties = [part for part in parts if len(zlib.compress(part, 1, -zlib.MAX_WBITS)) == len(part)]
    assert ties
    assert [PackedText.of(part, LONGEST).read() for part in ties] == ties


def test_a_repeated_text_gets_much_shorter() -> None:
    assert len(PackedText.of(b'{"name":"sglang"}' * 50, LONGEST).content) < 100


def test_a_longer_text_stays_as_it_is_because_packing_takes_time() -> None:
    text = b"x" * (LONGEST + 1)
    assert PackedText.of(text, LONGEST).content is text
