"""The operator may do what it does and nothing else: compared after all other tests, whose operators did everything."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from chart import RELEASE, render
from commands import LocalClusterError
from control_plane import LocalCluster
from integration.audit import AuditLog, Request
from integration.namespace import Namespace
from integration.permissions import KINDS, grant
from integration.sandbox import CURTAILED_ACCOUNTS, user_of
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER

Permission = tuple[str, str, str]
"""API group, resource with its subresource, and verb."""

# The audit log does not show that the API server looks for these: the last test here does.
UNSEEN = {
    ("kimi-linear.io", f"{plural}/finalizers", "update") for plural in ("kimilinearbenchmarks", "kimilinearservers")
}


def granted() -> set[Permission]:
    """Return all that the chart lets the operator do."""
    manifests = yaml.safe_load_all(render("--show-only=templates/rbac.yaml"))
    rules = [rule for manifest in manifests for rule in manifest.get("rules", ())]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.fixture
def requests(audit_log: AuditLog) -> list[Request]:
    """All that operators with all their roles asked for; verbs of the command line are asked by other users."""
    told = audit_log.of_agent(f"{MANAGER}/")
    curtailed = {user_of(account) for account in CURTAILED_ACCOUNTS}
    operators = [item for item in told if item.user.startswith("system:serviceaccount:") and item.resource]
    return [item for item in operators if item.user not in curtailed]


@pytest.fixture
def whole_suite(request: pytest.FixtureRequest) -> None:
    """Skip where not all tests run, which use all permissions only together."""
    options = request.config.option
    run = {item.path for item in request.session.items}
    is_part = options.keyword or options.markexpr or any("::" in argument for argument in request.config.args)
    if is_part or set(Path(__file__).parent.glob("test_*.py")) - run:
        pytest.skip("only all integration tests together use all permissions")


def test_no_operator_was_forbidden_anything(requests: list[Request]) -> None:
    refused = {(item.group, item.resource, item.verb) for item in requests if item.is_forbidden}
    assert refused == set(), "templates/_rules.tpl of the chart lacks these"


def test_every_permission_is_used(requests: list[Request], whole_suite: None) -> None:
    used = {(item.group, item.resource, item.verb) for item in requests}
    # An apply that makes an object needs both.
    used |= {(item.group, item.resource, "create") for item in requests if (item.verb, item.status) == ("patch", 201)}
    assert granted() - used - UNSEEN == set(), "templates/_rules.tpl of the chart has these, and no test uses them"


def owned_service(owner: Manifest) -> Manifest:
    """Return a Service whose owner's deletion is to wait for it."""
    reference = {
        **{key: owner[key] for key in ("apiVersion", "kind")},
        **{key: owner["metadata"][key] for key in ("name", "uid")},
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {"name": "owned", "namespace": owner["metadata"]["namespace"], "ownerReferences": [reference]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}


def test_naming_an_owner_that_waits_needs_the_permission_for_finalizers(
    cluster: LocalCluster, namespace: Namespace, no_operator: None
) -> None:
    grant(namespace.client, namespace.name, "of-owners")
    role = namespace.existing(KINDS["Role"], RELEASE)
    text = json.dumps(owned_service(namespace.create_server("kimi")))

    def refusal() -> str:
        as_operator = "--as=system:serviceaccount:kube-system:of-owners"
        try:
            cluster.kubectl("apply", "--server-side", "--dry-run=server", as_operator, "--filename=-", stdin=text)
        except LocalClusterError as error:
            return str(error)
        return ""

    wait_for(refusal, "the chart's rules suffice", lambda told: not told)
    rules = [rule for rule in copy.deepcopy(role["rules"]) if not rule["resources"][0].endswith("/finalizers")]
    namespace.edit(KINDS["Role"], RELEASE, {"rules": rules})
    wait_for(refusal, "the rule is missed", lambda told: "cannot set blockOwnerDeletion" in told)
