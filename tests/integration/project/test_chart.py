"""Helm installs, upgrades, rolls back and removes a release on a real API server.

kubectl without Helm can do the same.
"""

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chart
from binaries import binary
from chart import CHART, DEFINITIONS, INSTALL, NAMESPACE, RELEASE, ROOT
from commands import LocalClusterError, run
from control_plane import LocalCluster
from integration.waiting import wait_for
from nodes import add_local_nodes

OURS = [f"customresourcedefinition/{name}" for name in DEFINITIONS]
SERVERS = OURS[0]
MARK = "Marked by a test."
# No test of this module waits for a server, because no operator runs. A pod on a simulated node counts as ready.
SERVER = json.dumps(
    {
        "apiVersion": "kimi-linear.io/v1alpha1",
        "kind": "KimiLinearServer",
        "metadata": {"name": "kimi", "namespace": "default"},
        "spec": {},
    }
)


@pytest.fixture(scope="module")
def own_cluster(programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster without our objects. The operator's namespace admits only restricted pods."""
    with LocalCluster(tmp_path_factory.mktemp("cluster"), "chart") as started:
        add_local_nodes(started.kubectl)
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": NAMESPACE, "labels": labels}
        started.kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}])
        yield started


@pytest.fixture
def release(own_cluster: LocalCluster) -> Iterator[LocalCluster]:
    """The cluster. After a test, everything that it installed is removed."""
    yield own_cluster
    read_all(own_cluster)
    uninstall(own_cluster, "--ignore-not-found")
    own_cluster.kubectl("delete", "--ignore-not-found", *OURS)


def read_all(cluster: LocalCluster) -> None:
    """Read servers and benchmarks like the operator, because no operator runs.

    The API server has no cache of a kind that was never read. So when the definition is deleted, it fails to look for
    the kind's objects, and may not retry for minutes:
    https://github.com/operator-framework/operator-controller/issues/1437.
    """
    cluster.kubectl.wait_until_served(*(name.split("/")[1] for name in there(cluster, *OURS)))


def uninstall(cluster: LocalCluster, *options: str) -> None:
    """Uninstall the release and wait.

    Helm's newer way of waiting misses objects that are deleted quickly (its issue 31766).
    """
    chart.helm("uninstall", RELEASE, "--wait=legacy", *chart.of_release(cluster.kubeconfig), *options)


def helm_3(cluster: LocalCluster, verb: str, *arguments: str | Path) -> None:
    where = chart.of_release(cluster.kubeconfig)
    run([binary("helm-3"), verb, RELEASE, *arguments, *where, "--wait"], timeout=300)


def ask(cluster: LocalCluster, *arguments: str) -> Any:
    return json.loads(cluster.kubectl("get", *arguments, "--output=json"))


def description(cluster: LocalCluster) -> str:
    """Return the API server's description of servers, for `kubectl explain`."""
    [version] = ask(cluster, SERVERS)["spec"]["versions"]
    return str(version["schema"]["openAPIV3Schema"]["description"])


def there(cluster: LocalCluster, *objects: str) -> list[str]:
    """Return the objects that exist."""
    return cluster.kubectl("get", *objects, "--output=name", "--ignore-not-found").split()


def marked_chart(folder: Path) -> Path:
    """Return a copy of the chart with another description in a definition."""
    copy = Path(shutil.copytree(CHART, folder / "chart"))
    file = copy / "files/crds/kimilinearservers.yaml"
    text = file.read_text()
    assert text.count("A server of Kimi-Linear. SGLang") == 1
    file.write_text(text.replace("A server of Kimi-Linear. SGLang", f"{MARK} SGLang"))
    return copy


def previous_chart(folder: Path) -> Path:
    """Return the chart before its last change in git."""
    path = str(CHART.relative_to(ROOT))
    git = ["git", f"--git-dir={ROOT / '.git'}"] if (ROOT / ".git").is_dir() else ["git", "-C", str(ROOT)]
    listed = subprocess.run(
        [*git, "rev-list", "--max-count=2", "HEAD", "--", path], capture_output=True, text=True, check=True
    )
    archive = [*git, "archive", listed.stdout.split()[-1], path]
    packed = subprocess.run(archive, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(folder, filter="data")
    return folder / path


def test_a_restricted_namespace_admits_the_release(release: LocalCluster) -> None:
    chart.install(release.kubeconfig)
    deployment = ask(release, f"--namespace={NAMESPACE}", "deployment", RELEASE)
    assert deployment["status"]["readyReplicas"] == 2
    [warnings] = [ask(release, "validatingadmissionpolicybindings")["items"]]
    assert {item["spec"]["validationActions"][0] for item in warnings} == {"Warn"}


def test_a_restricted_namespace_admits_the_test_pod_of_the_release(release: LocalCluster) -> None:
    text = chart.render("--show-only=templates/tests/ready.yaml")
    release.kubectl("apply", "--dry-run=server", f"--namespace={NAMESPACE}", "--filename=-", stdin=text)


def test_the_previous_chart_can_be_upgraded_and_rolled_back(release: LocalCluster, tmp_path: Path) -> None:
    chart.install(release.kubeconfig, source=previous_chart(tmp_path))
    release.kubectl("apply", "--filename=-", stdin=SERVER)
    before = ask(release, "kimilinearserver/kimi")

    chart.install(release.kubeconfig, source=marked_chart(tmp_path))
    assert MARK in description(release)
    chart.helm("rollback", RELEASE, "1", "--wait", *chart.of_release(release.kubeconfig), timeout=300)
    assert MARK not in description(release)
    assert ask(release, f"--namespace={NAMESPACE}", "deployment", RELEASE)["status"]["readyReplicas"] == 2
    after = ask(release, "kimilinearserver/kimi")
    assert (before["metadata"]["uid"], before["spec"]) == (after["metadata"]["uid"], after["spec"])


def test_helm_3_upgrades_and_rolls_back_and_helm_4_continues_its_release(release: LocalCluster, tmp_path: Path) -> None:
    marked = marked_chart(tmp_path)
    helm_3(release, "install", previous_chart(tmp_path))
    helm_3(release, "upgrade", marked)
    assert MARK in description(release)
    helm_3(release, "rollback", "1")
    assert MARK not in description(release)

    chart.install(release.kubeconfig, source=marked)
    assert MARK in description(release)
    assert ask(release, f"--namespace={NAMESPACE}", "deployment", RELEASE)["status"]["readyReplicas"] == 2
    helm_3(release, "uninstall")
    assert len(there(release, *OURS)) == len(OURS)


def test_definitions_and_servers_survive_an_uninstall_and_the_next_release_adopts_them(release: LocalCluster) -> None:
    chart.install(release.kubeconfig)
    release.kubectl("apply", "--filename=-", stdin=SERVER)
    uninstall(release)
    assert there(release, *OURS) == [f"customresourcedefinition.apiextensions.k8s.io/{name}" for name in DEFINITIONS]
    assert there(release, "kimilinearserver/kimi")
    wait_for(lambda: _of_release(release), "nothing of the release is left", lambda left: not left)
    assert [name for name in there(release, "clusterroles") if RELEASE in name] == []
    chart.install(release.kubeconfig)
    assert there(release, "kimilinearserver/kimi")


def test_a_release_takes_back_the_definitions_that_it_gave_up(release: LocalCluster, tmp_path: Path) -> None:
    """`crds.enabled=false` rolls back only the operator. The definitions stay, and are then in no release."""
    marked, idle = marked_chart(tmp_path), "--set=replicas=0"
    chart.install(release.kubeconfig, idle, source=marked)
    release.kubectl("apply", "--filename=-", stdin=SERVER)
    chart.install(release.kubeconfig, f"{idle},crds.enabled=false")
    assert MARK in description(release)
    chart.helm("rollback", RELEASE, "1", "--wait", *chart.of_release(release.kubeconfig), timeout=300)
    chart.install(release.kubeconfig, idle)
    assert MARK not in description(release)
    chart.install(release.kubeconfig, f"{idle},crds.enabled=false")
    # Helm 3 does not look for objects that are not in the current release.
    with pytest.raises(LocalClusterError, match="cannot patch"):
        helm_3(release, "rollback", "1")
    chart.install(release.kubeconfig, idle, source=marked)
    assert MARK in description(release)
    assert there(release, "kimilinearserver/kimi")


def _of_release(cluster: LocalCluster) -> list[str]:
    """Return the existing objects of the release.

    Pods are left out, because pods on simulated nodes need longer to end.
    """
    names = cluster.kubectl("get", f"--namespace={NAMESPACE}", "all,serviceaccounts,roles,pdb", "--output=name").split()
    return [name for name in names if RELEASE in name and not name.startswith("pod/")]


def test_definitions_are_deleted_with_the_release_if_the_values_say_so(release: LocalCluster) -> None:
    chart.install(release.kubeconfig, "--set=crds.keep=false", "--set=replicas=0")
    read_all(release)
    uninstall(release)
    assert there(release, *OURS) == []


def test_a_release_adopts_definitions_that_kubectl_applied(release: LocalCluster) -> None:
    release.kubectl("apply", "--server-side", f"--filename={ROOT / 'crds'}")
    chart.install(release.kubeconfig, "--take-ownership", "--force-conflicts", "--set=replicas=0")
    assert ask(release, SERVERS)["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


def test_editors_of_a_namespace_may_edit_servers_and_viewers_may_read_them(release: LocalCluster) -> None:
    chart.install(release.kubeconfig, "--set=replicas=0")
    for role, user in (("edit", "editor"), ("view", "viewer")):
        binding = ("create", "rolebinding", f"{role}-of-a-test", f"--clusterrole={role}", f"--user={user}")
        release.kubectl(*binding, "--namespace=default")
    # A controller of Kubernetes adds our rules to its roles.
    reading = {"get", "list", "watch"}
    wait_for(lambda: _allowed(release, "viewer"), "a viewer may read", lambda told: told == reading)
    writing = {"create", "delete", "deletecollection", "patch", "update"}
    wait_for(lambda: _allowed(release, "editor"), "an editor may write", lambda told: told == reading | writing)


def _allowed(cluster: LocalCluster, user: str) -> set[str]:
    """Return a user's permissions for servers in the namespace default."""
    listed = cluster.kubectl("auth", "can-i", "--list", f"--as={user}", "--namespace=default")
    lines = [line for line in listed.splitlines() if line.startswith("kimilinearservers.kimi-linear.io ")]
    return {verb for line in lines for verb in line[line.rindex("[") + 1 : -1].split()}


def test_one_file_installs_the_operator_without_helm(release: LocalCluster) -> None:
    release.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={INSTALL}")
    release.kubectl("rollout", "status", f"deployment/{RELEASE}", f"--namespace={NAMESPACE}", timeout=180)
    release.kubectl("create", "namespace", "team-a")
    for overlay in ("one-namespace", "private-registry"):
        folder = f"--kustomize={ROOT / 'deploy/kustomize/overlays' / overlay}"
        release.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", folder)
    kept = "--selector=app.kubernetes.io/instance=kimi-linear-operator"
    kinds = "deployments,services,serviceaccounts,roles,rolebindings,poddisruptionbudgets"
    release.kubectl("delete", kinds, kept, f"--namespace={NAMESPACE}")
    policies = "validatingadmissionpolicies,validatingadmissionpolicybindings"
    release.kubectl("delete", f"clusterroles,clusterrolebindings,{policies}", kept)
