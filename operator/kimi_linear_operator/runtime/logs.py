"""Log lines, as text for people or as JSON for machines. Both contain the object that the line is about."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from kimi_linear_operator import foreigntext

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")

_object: ContextVar[dict[str, str] | None] = ContextVar("object", default=None)


def configure(level: str, line_format: str) -> None:
    """Send all log lines of at least this level to standard error.

    Args:
        level: One of LEVELS.
        line_format: One of FORMATS.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_object)
    handler.setFormatter(_Json() if line_format == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        # kopf logs everything that it does with each object. Its warnings are enough.
        logging.getLogger("kopf").setLevel(logging.WARNING)
        # kopf logs every failed list or watch. If a kind or namespace does not exist, these logs never end. We log this
        # once.
        logging.getLogger("kopf._cogs.clients.watching").setLevel(logging.CRITICAL)
        # kopf warns that it ignores signals in a thread. We handle signals ourselves.
        logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)


@contextmanager
def about(kind: str, namespace: str, name: str) -> Iterator[None]:
    """Within this context, every log line of the task names the object."""
    token = _object.set({"kind": kind, "namespace": namespace, "name": name})
    try:
        yield
    finally:
        _object.reset(token)


def _add_object(record: logging.LogRecord) -> bool:
    record.object = _object.get()
    return True


class _Text(logging.Formatter):
    """A line of text, with the object before the message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        about: dict[str, str] | None = getattr(record, "object", None)
        subject = "{kind} {namespace}/{name}: ".format(**about) if about else ""
        record.message = subject + foreigntext.one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        return foreigntext.cleaned(super().formatException(ei))


class _Json(logging.Formatter):
    """A JSON object per line, with only these fields. Fields that libraries add can be large or secret."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": foreigntext.one_line(record.getMessage()),
            "object": getattr(record, "object", None),
            "exception": foreigntext.cleaned(self.formatException(record.exc_info)) if record.exc_info else None,
        }
        return json.dumps({name: value for name, value in line.items() if value is not None})
