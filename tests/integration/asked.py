"""The operators' requests to the API server.

They are stored in a folder, because several runs of pytest share the tests.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integration.audit import AuditLog, Request
from integration.processes_under_test import USER_OF_THE_BUNDLE
from integration.sandbox import CURTAILED_ACCOUNTS, user_of
from kimi_linear_operator.kubernetes.metadata import MANAGER

HERE = Path(__file__).parent

Permission = tuple[str, str, str]
"""API group, resource with its subresource, and verb."""


@dataclass(frozen=True)
class Asked:
    """The requests of the operators of one run of pytest.

    Attributes:
        files: The files in this folder whose tests have all run, relative to this folder.
        used: The requests.
        forbidden: The requests that the API server forbade.
    """

    files: frozenset[str] = frozenset()
    used: frozenset[Permission] = frozenset()
    forbidden: frozenset[Permission] = frozenset()

    def __or__(self, other: "Asked") -> "Asked":
        return Asked(self.files | other.files, self.used | other.used, self.forbidden | other.forbidden)


def asked_in(session: pytest.Session, audit_log: AuditLog) -> Asked:
    """Return the requests of this run's operators so far."""
    requests = _of_operators(audit_log)
    # An apply that creates an object needs both verbs.
    made = {(item.group, item.resource, "create") for item in requests if (item.verb, item.status) == ("patch", 201)}
    return Asked(_whole_files(session), _permissions(requests) | made, _permissions(filter(_is_forbidden, requests)))


def _of_operators(audit_log: AuditLog) -> list[Request]:
    """Return the requests of operators with all their roles; the verbs of the command line run as other users."""
    curtailed = {*map(user_of, CURTAILED_ACCOUNTS), USER_OF_THE_BUNDLE}
    accounts = (item for item in audit_log.of_agent(f"{MANAGER}/") if item.user.startswith("system:serviceaccount:"))
    return [item for item in accounts if item.resource and item.user not in curtailed]


def _is_forbidden(request: Request) -> bool:
    return request.is_forbidden


def _permissions(requests: Iterable[Request]) -> frozenset[Permission]:
    return frozenset((item.group, item.resource, item.verb) for item in requests)


def _whole_files(session: pytest.Session) -> frozenset[str]:
    options = session.config.option
    tests = (*session.config.args, *(options.deselect or ()))
    if options.keyword or options.markexpr or any("::" in test for test in tests):
        return frozenset()
    return frozenset(_relative(item.path) for item in session.items if item.path.is_relative_to(HERE))


def all_files() -> frozenset[str]:
    """Return all files with tests here, relative to this folder."""
    return frozenset(map(_relative, HERE.rglob("test_*.py")))


def _relative(file: Path) -> str:
    return file.relative_to(HERE).as_posix()


def keep(folder: Path, asked: Asked) -> None:
    """Store the requests of this run's operators beside those of other runs."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"files": sorted(asked.files), "used": sorted(asked.used), "forbidden": sorted(asked.forbidden)}
    (folder / f"{os.getpid()}.json").write_text(json.dumps(content, indent=1))


def kept(folder: Path) -> list[Asked]:
    """Return the stored requests of each run."""
    return [_read(json.loads(file.read_text())) for file in sorted(folder.glob("*.json"))]


def _read(content: dict[str, Any]) -> Asked:
    return Asked(frozenset(content["files"]), _tuples(content["used"]), _tuples(content["forbidden"]))


def _tuples(lists: list[list[str]]) -> frozenset[Permission]:
    return frozenset((group, resource, verb) for group, resource, verb in lists)
