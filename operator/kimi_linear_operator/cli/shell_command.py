"""Cleans shell commands that come from the cluster, because somebody may paste them into a terminal."""

import shlex
from collections.abc import Sequence

from kimi_linear_operator.foreigntext import HIDDEN, cleaned
from kimi_linear_operator.server.sglang.by_hand import LINE_BREAK


def cleaned_command(text: str) -> str:
    """Return a command without secrets and escapes. It has the same words as before, and each is quoted.

    Cleaning only the text could remove a quote together with a secret. A shell would then execute the quoted part.
    """
    try:
        return LINE_BREAK.join(shlex.join(_cleaned_words(shlex.split(line))) for line in text.split(LINE_BREAK))
    except ValueError:  # a quote without its other half
        return shlex.quote(cleaned(text))


def _cleaned_words(words: Sequence[str]) -> list[str]:
    """Clean each word. If only the words together show a secret, such as a flag and its value, keep the first word."""
    each = [cleaned(word) for word in words]
    together = " ".join(each)
    return each if cleaned(together) == together else [each[0], HIDDEN]
