"""Conditions show the message of their reason, cut and without secrets."""

import pytest

from kimi_linear_operator import foreigntext
from kimi_linear_operator.kubernetes.conditions import LONGEST_MESSAGE, Reason, condition


def test_a_long_message_with_secrets_is_searched_once_for_all_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server can quote 32 KiB in an error, and a failed pass has the same reason in several conditions."""
    searched: list[str] = []
    original = foreigntext.cleaned

    def counting(text: str) -> str:
        searched.append(text)
        return original(text)

    monkeypatch.setattr(foreigntext, "cleaned", counting)
    reason = Reason("ApplyFailed", "password=abcdefgh " + "x " * 16_000)
    messages = {condition(kind, False, reason).message for kind in ("Accepted", "Ready", "Stalled")}
    [message] = messages
    assert message.startswith("password=[redacted] x x")
    assert message.endswith(" ...")
    assert len(message) == LONGEST_MESSAGE
    assert searched == [reason.message]
