"""The operator has exactly the permissions that it uses.

All other tests run before this one, and use all permissions.
"""

import os
from functools import reduce
from operator import or_
from pathlib import Path

import pytest
import yaml

from chart import render
from integration.asked import Asked, Permission, all_files, asked_in, kept
from integration.permissions import EVERY_PERMISSION

pytestmark = pytest.mark.usefixtures("programs")

# With this environment, no test is skipped.
_IS_CI = bool(os.environ.get("CI"))
# The audit log does not show that the API server checks these. test_owners shows it.
UNSEEN = {
    ("kimi-linear.io", f"{plural}/finalizers", "update")
    for plural in ("kimilinearbenchmarks", "kimilinearservers", "kimilinearweights")
}


def granted() -> set[Permission]:
    """Return all permissions that the chart can give to the operator."""
    manifests = yaml.safe_load_all(render("--show-only=templates/rbac.yaml", *EVERY_PERMISSION))
    rules = [rule for manifest in manifests for rule in manifest.get("rules", ())]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.fixture(scope="module")
def asked(request: pytest.FixtureRequest) -> Asked:
    """The requests of all operators, in this run and in runs that stored theirs in the folder of --asked."""
    folder = request.config.getoption("asked")
    runs = kept(folder) if folder else []
    if {item.path for item in request.session.items} - {Path(__file__)}:
        runs.append(asked_in(request.session, request.getfixturevalue("audit_log")))
    if not runs and not _IS_CI:
        pytest.skip("no operator ran: this comes after all other integration tests (make test-integration)")
    return reduce(or_, runs, Asked())


@pytest.fixture
def everything(asked: Asked) -> Asked:
    """All requests; skip if not all tests ran."""
    left_out = all_files() - asked.files - {"project/test_permissions.py"}
    if left_out and not _IS_CI:
        pytest.skip(f"only all integration tests together use all permissions: {len(left_out)} files did not run")
    assert left_out == set(), "these files did not run"
    return asked


def test_no_request_of_an_operator_was_forbidden(asked: Asked) -> None:
    assert asked.forbidden == set(), "templates/_rules.tpl of the chart lacks these"


def test_every_permission_is_used(everything: Asked) -> None:
    unused = granted() - everything.used - UNSEEN
    assert unused == set(), "templates/_rules.tpl of the chart has these, and no test uses them"
