"""Cached text is packed, and reads back as it was."""

import os

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


def test_a_repeated_text_gets_much_shorter() -> None:
    assert len(PackedText.of(b'{"name":"sglang"}' * 50, LONGEST).content) < 100


def test_a_longer_text_stays_as_it_is_because_packing_takes_time() -> None:
    text = b"x" * (LONGEST + 1)
    assert PackedText.of(text, LONGEST).content is text
