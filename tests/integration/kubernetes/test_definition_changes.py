"""The chart is upgraded and rolled back. Fields and rules that stored objects use differ between its versions.

The operator runs all the time, with the fields and rules of today. The definitions of the other chart have a new field
and a new rule, and lack an old field, like the definitions of another version.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import chart
from chart import CHART, DEFINITIONS, RELEASE
from control_plane import LocalCluster
from integration.client import STRICT_DRY_RUN, Client, path_of
from integration.namespace import Namespace, server_manifest
from integration.processes_under_test import Operator, operator_of_release
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import SERVICE, Manifest
from kimi_linear_operator.server.spec import SERVER
from nodes import add_nodes, gpu_node

_NEW_FIELD = {"note": "for the next version"}
_GONE_FIELD = {"service": {"headless": True}}
_NEW_RULE = {"rule": "self <= 2", "message": "use autoscaling for more than two"}
_MANY = {"replicas": 3}


@dataclass(frozen=True)
class Release:
    """The chart in a separate cluster, and its operator as a process."""

    cluster: LocalCluster
    client: Client
    operator: Operator
    other: Path

    @property
    def namespace(self) -> Namespace:
        return Namespace(self.client, "default")

    def upgrade(self) -> None:
        """Upgrade to the other chart. The operator restarts, as in its Deployment."""
        chart.install(self.cluster.kubeconfig, "--set=replicas=0", source=self.other)
        self._wait_for_definition(takes_new_field=True)
        self._restart()

    def take_back(self) -> None:
        chart.helm("rollback", RELEASE, "1", "--wait", *chart.of_release(self.cluster.kubeconfig), timeout=300)
        self._wait_for_definition(takes_new_field=False)
        self._restart()

    def answer(self, spec: Manifest) -> tuple[int, str]:
        """Return the API server's answer to a dry run of a new server with this spec."""
        manifest = server_manifest("probe", "default", spec)
        answer = self.client.send("POST", path_of(SERVER, "default"), manifest, STRICT_DRY_RUN)
        return answer.status, answer.message

    def deployments(self, *names: str) -> dict[str, tuple[str, int]]:
        """Return the Deployments and their generations, which change with every new pod template."""
        metadata = {name: self.namespace.deployment(name)["metadata"] for name in names}
        return {name: (found["uid"], found["generation"]) for name, found in metadata.items()}

    def _restart(self) -> None:
        assert self.operator.stop() == 0
        self.operator.start()

    def _wait_for_definition(self, *, takes_new_field: bool) -> None:
        expected = 201 if takes_new_field else 400
        wait_for(lambda: self.answer(_NEW_FIELD)[0], f"a new field gets {expected}", lambda status: status == expected)


def _other_chart(folder: Path) -> Path:
    """Return a copy of the chart with a new field, a removed field and a new rule."""
    copy = Path(shutil.copytree(CHART, folder / "chart"))
    file = copy / "files/crds/kimilinearservers.yaml"
    definition = yaml.safe_load(file.read_text())
    [version] = definition["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    fields: dict[str, Any] = spec["properties"]
    fields["note"] = {"type": "string", "maxLength": 99}
    fields["replicas"]["x-kubernetes-validations"] = [_NEW_RULE]
    for service in (fields["service"]["default"], fields["service"]["properties"], spec["default"]["service"]):
        del service["headless"]
    file.write_text(yaml.safe_dump(definition))
    return copy


@pytest.fixture
def release(programs: None, tmp_path: Path) -> Iterator[Release]:
    with LocalCluster(tmp_path / "cluster", "definitions") as cluster:
        chart.install(cluster.kubeconfig, "--set=replicas=0")
        cluster.kubectl.wait_until_served(*DEFINITIONS)
        add_nodes(cluster.kubectl, [gpu_node("mi300x", "MI300X", gpus=64)])
        client, operator = Client(cluster.kubeconfig), operator_of_release(cluster, tmp_path / "operator.log")
        operator.start()
        try:
            yield Release(cluster, client, operator, _other_chart(tmp_path))
            assert operator.stop() == 0
        finally:
            operator.kill()
            client.close()


def test_stored_objects_survive_an_upgrade_and_a_rollback_of_the_definitions(release: Release) -> None:
    namespace = release.namespace
    for name, spec in (("plain", {}), ("headless", _GONE_FIELD), ("many", _MANY)):
        namespace.create_server(name, spec)
    for name in ("plain", "headless", "many"):
        namespace.wait_until_ready(name)
    before = release.deployments("plain", "headless", "many")

    release.upgrade()
    # An object that is older than the rule can be labelled and scaled down, and its status is written.
    assert release.answer(_MANY)[0] == 422
    namespace.edit(SERVER, "many", {"metadata": {"labels": {"team": "search"}}})
    namespace.edit(SERVER, "many", {"spec": {"toolCallParser": "enabled"}})
    namespace.wait_until_ready("many")
    # The operator does not know the new field, and ignores it.
    namespace.create_server("newer")
    namespace.wait_until_ready("newer")
    known = release.deployments("newer")
    changed = namespace.change_server("newer", _NEW_FIELD)
    assert changed["spec"]["note"]
    observed = changed["metadata"]["generation"]
    wait_for(
        lambda: namespace.server("newer")["status"]["observedGeneration"],
        "the operator has seen the change",
        observed.__eq__,
    )
    namespace.wait_for_condition("newer", "Accepted", "True")
    namespace.wait_until_ready("newer")
    assert release.deployments("newer") == known
    # A removed field has the same effect as a field that was never set.
    wait_for(lambda: namespace.find(SERVICE, "headless-headless"), "its Service is gone", lambda found: not found)
    namespace.wait_until_ready("headless")
    assert release.deployments("plain", "headless") == {name: before[name] for name in ("plain", "headless")}

    release.take_back()
    assert release.answer(_MANY)[0] == 201
    # A field that is no longer known is dropped.
    namespace.wait_until_ready("newer")
    assert release.deployments("newer") == known
    assert "note" not in namespace.server("newer")["spec"]
    for name in ("plain", "headless", "many"):
        namespace.wait_until_ready(name)
    stays(
        lambda: release.deployments("plain", "headless"),
        "the Deployments do not change",
        lambda found: found == {name: before[name] for name in ("plain", "headless")},
        1.5,
    )
