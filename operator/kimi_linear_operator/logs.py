"""Log lines: text for people, JSON for machines, and in either the object that they are about."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pythonjsonlogger.json import JsonFormatter

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
    handler.setFormatter(_json() if line_format == "json" else _text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        # kopf tells at length what it does to every object; what goes wrong is enough.
        logging.getLogger("kopf").setLevel(logging.WARNING)
        # It warns that signals are ignored in a thread; they are ours to handle.
        logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)


@contextmanager
def about(kind: str, namespace: str, name: str) -> Iterator[None]:
    """Let every line that is logged meanwhile, in this task, refer to an object."""
    token = _object.set({"kind": kind, "namespace": namespace, "name": name})
    try:
        yield
    finally:
        _object.reset(token)


def _add_object(record: logging.LogRecord) -> bool:
    if reference := _object.get():
        record.object = reference
    return True


def _text() -> logging.Formatter:
    return logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


def _json() -> logging.Formatter:
    names = {"asctime": "time", "levelname": "level", "name": "logger"}
    fields = "%(asctime)s %(levelname)s %(name)s %(message)s"
    return JsonFormatter(fields, rename_fields=names, datefmt="%Y-%m-%dT%H:%M:%S%z")
