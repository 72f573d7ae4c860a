"""Log lines in either format, as a process writes them."""

import json
import subprocess
import sys

import pytest

PROGRAM = r"""
import logging, sys
from kimi_linear_operator.runtime import logs
logs.configure(sys.argv[1], sys.argv[2])
logger = logging.getLogger("kimi_linear_operator.test")
logger.debug("one")
with logs.about("KimiLinearServer", "default", "kimi"):
    logger.info("Applied %s", "Service")
    logger.error("no\x1b[31m\nline of its own: token=abcdef")
    logging.getLogger("kopf.objects").info("kopf talks")
try:
    raise ValueError("no")
except ValueError:
    logger.warning("three", exc_info=True)
"""


def lines(level: str, line_format: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, level, line_format], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr.splitlines()


def test_each_json_line_names_the_object_that_it_is_about() -> None:
    applied, _, failed = map(json.loads, lines("info", "json"))
    assert applied.pop("time")
    assert applied == {
        "level": "INFO",
        "logger": "kimi_linear_operator.test",
        "message": "Applied Service",
        "object": {"kind": "KimiLinearServer", "namespace": "default", "name": "kimi"},
    }
    assert "object" not in failed
    assert failed["exception"].endswith("ValueError: no")


def test_text_lines_name_their_object_too() -> None:
    applied, foreign, failed, *traceback = lines("info", "text")
    assert applied.endswith("INFO kimi_linear_operator.test: KimiLinearServer default/kimi: Applied Service")
    assert foreign.endswith(" KimiLinearServer default/kimi: no | line of its own: token=[redacted]")
    assert failed.endswith("WARNING kimi_linear_operator.test: three")
    assert traceback[-1] == "ValueError: no"


FOREIGN = "no | line of its own: token=[redacted]"


@pytest.mark.parametrize(
    ("level", "messages"),
    [
        ("error", [FOREIGN]),
        ("warning", [FOREIGN, "three"]),
        ("info", ["Applied Service", FOREIGN, "three"]),
        ("debug", ["one", "Applied Service", FOREIGN, "kopf talks", "three"]),
    ],
)
def test_the_level_decides_which_lines_appear_and_kopfs_lines_need_debug(level: str, messages: list[str]) -> None:
    assert [json.loads(line)["message"] for line in lines(level, "json")] == messages
