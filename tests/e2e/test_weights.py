"""The model from a hub to a verdict in real pods, with the hub's own client. The order of the tests matters.

The hub is on this machine. In the namespace `others`, downloads are killed, stall and lack room meanwhile.
"""

import base64
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

import chart
from client.hub import Fault, Hub, make_files
from e2e import recording, volumes
from e2e.containers import python
from integration.client import NAMESPACE, Client, path_of
from integration.namespace import Namespace, condition_of, server_manifest
from integration.waiting import wait_for
from integration.weights_pods import OF_WEIGHTS, weights_manifest
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import CLAIM, POD, Manifest
from kimi_linear_operator.reconcile.log_reads import READ_SECONDS
from kimi_linear_operator.server.sglang import environment
from kimi_linear_operator.server.spec import SERVER
from kimi_linear_operator.weights.location import on_claim
from kimi_linear_operator.weights.spec import WEIGHTS
from pod_cluster import PodCluster
from stand_in import data

_FILE = Path(__file__).with_name("weights.yaml")
_DOCUMENTS = {item["kind"]: item for item in yaml.safe_load_all(_FILE.read_text())}
_SECRETS = [item["stringData"]["token"] for item in yaml.safe_load_all(_FILE.read_text()) if item["kind"] == "Secret"]
WEIGHTS_NAME, SERVER_NAME = "kimi-linear", "kimi-from-volume"
COMMIT = "1" * 40
SHARDS = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
_SHARD_BYTES = 8_000_000
# Speed of each connection. It is low, so that a download can be killed.
_BYTES_PER_SECOND = 1_000_000
# Bytes that a kill or a lost connection may lose: a piece for each connection, and data in transit.
LOST = len(SHARDS) * (2**20 + 2**17)
# Size of each shard of the download that is killed: between two kills, more bytes arrive than a kill may lose.
_KILLED_SHARD_BYTES = 20_000_000
# Shares of all bytes after which the container that fetches is killed.
KILLS = tuple(number / 11 for number in range(1, 11))
_SECONDS_TO_SERVE = 120
_SECONDS_TO_FETCH = 240
# 15 s until no more requests come, and some seconds for the end of the stand-in.
_SECONDS_TO_END = 60
_SECONDS_AT_REST = 60
_KERNEL = f"{environment.TRITON_PATH}/kernel-of-the-first-pod"
_CHEAP = {"spec": {"containers": [{"name": "fetch", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]}}


def model(folder: Path) -> dict[str, bytes]:
    """Return the files of a small model with a tokenizer."""
    data.write_tokenizer(folder)
    tokenizer = {file.name: file.read_bytes() for file in folder.iterdir()}
    return make_files("first", size=_SHARD_BYTES) | tokenizer


@pytest.fixture(scope="module")
def hub(cluster: PodCluster, models: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The hub of the file. It asks for a token, interrupts a download, then limits it, and damages another download."""
    files = model(tmp_path_factory.mktemp("tokenizer"))
    with _hub_of(cluster, files, token=_SECRETS[0]) as opened:
        # Speed of each connection. It is low, so that the operator reads the log several times, and a terminal shows
        # the progress.
        opened.rate = 500_000
        opened.fail(SHARDS[0], Fault("cut", after=3_000_000), Fault("status", status=429, headers={"Retry-After": "1"}))
        opened.fail(SHARDS[1], Fault("corrupt"))
        cluster.kubectl.apply(_service_of(opened))
        for claim in (WEIGHTS_NAME, "kernels"):
            volumes.provide(cluster, models.name, claim)
        yield opened


def _hub_of(cluster: PodCluster, files: dict[str, bytes], **more: Any) -> Hub:
    return Hub({COMMIT: files}, {"main": COMMIT}, rate=_BYTES_PER_SECOND, address=cluster.machine_address, **more)


def _service_of(opened: Hub) -> list[Manifest]:
    """Return the Service that gives a hub its name in the file."""
    metadata = {"name": "hub", "namespace": "default"}
    labels = {"labels": {"kubernetes.io/service-name": "hub"}}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 8000}]}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata | labels,
            "addressType": "IPv4",
            "endpoints": [{"addresses": [opened.address]}],
            "ports": [{"port": opened.port}],
        },
    ]


@dataclass
class Others:
    """Downloads to separate volumes.

    Attributes:
        cluster: The cluster of the downloads.
        namespace: The namespace of the downloads.
        hub: A hub that limits and stalls downloads.
        plain: A hub without faults.
        late: A hub that does not answer at first.
        full: The condition Stalled of the weights whose volume had no room at first.
    """

    cluster: PodCluster
    namespace: Namespace
    hub: Hub
    plain: Hub
    late: Hub
    full: Manifest = field(default_factory=dict)

    def fetch(self, name: str, claim: str, hub: Hub) -> None:
        spec = {"source": {"endpoint": hub.url}, "volume": {"existingClaim": claim}, "podTemplate": _CHEAP}
        self.namespace.client.create(WEIGHTS, weights_manifest(name, self.namespace.name, **spec))

    def wait_for_reason(self, name: str, reason: str, kind: str = "Ready") -> Manifest:
        return condition_of(wait_for_reason(self.namespace, name, reason, kind), kind)


@pytest.fixture(scope="module")
def others(cluster: PodCluster, client: Client) -> Iterator[Others]:
    """Two resources on the same claim, one on a volume that is too small, and one whose hub does not answer."""
    chart.install(cluster.kubeconfig)
    client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "others"}})
    for claim, mebibytes in (("twins", None), ("small", 8), ("late", None)):
        volumes.provide(cluster, "others", claim, mebibytes=mebibytes)
        client.create(CLAIM, volumes.claim_of("others", claim))
    files, more = (make_files("others", size=size) for size in (_SHARD_BYTES, _KILLED_SHARD_BYTES))
    with _hub_of(cluster, more) as opened, _hub_of(cluster, files) as plain, _hub_of(cluster, files) as late:
        late.close()
        made = Others(cluster, Namespace(client, "others"), opened, plain, late)
        made.fetch("full", "small", plain)
        made.full = made.wait_for_reason("full", "VolumeFull", "Stalled")
        # The volume grows immediately, so that the next attempt has room.
        volumes.enlarge(cluster, "others", "small", 64)
        opened.fail("api", Fault("status", status=429, headers={"Retry-After": "3"}))
        made.fetch("first", "twins", opened)
        wait_for(opened.sent.total, "the first of the two downloads has begun")
        for name, claim, of in (("second", "twins", opened), ("unreachable", "late", late)):
            made.fetch(name, claim, of)
        yield made


@pytest.fixture(scope="module")
def killed(others: Others) -> Iterator[Future[None]]:
    """The end of the kills, which run concurrently with the tests."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(_kill, others)


def _kill(others: Others) -> None:
    """Kill the container that fetches at several points; let the hub stall after the last one."""
    client = Client(others.cluster.kubeconfig)
    namespace = Namespace(client, others.namespace.name)
    for number, share in enumerate(KILLS, 1):
        least = share * size_of(others.hub)
        wait_for(others.hub.sent.total, "the next share of the bytes is sent", lambda sent, least=least: sent >= least)  # type: ignore[misc]
        [container] = _pod_of(namespace, "first")["status"]["containerStatuses"]
        identity = container["containerID"].removeprefix("containerd://")
        others.cluster.containerd("tasks", "kill", "--signal=SIGKILL", identity)
        if share == KILLS[-1]:
            others.hub.fail(SHARDS[2], Fault("stall", after=1_000_000))
        wait_for(
            lambda: _pod_of(namespace, "first")["status"]["containerStatuses"][0],
            "the container runs again",
            lambda found, number=number: found["restartCount"] == number and "running" in found["state"],  # type: ignore[misc]
        )
    wait_for_reason(namespace, "second", "VolumeBusy")
    client.close()


def _pod_of(namespace: Namespace, weights: str) -> Manifest:
    pods = namespace.client.list(POD, namespace.name, OF_WEIGHTS)
    [pod] = [pod for pod in pods if pod["metadata"]["name"].startswith(f"{weights}-fetch-")]
    return dict(pod)


def wait_for_reason(
    namespace: Namespace, name: str, reason: str, kind: str = "Ready", seconds: float = _SECONDS_TO_FETCH
) -> Manifest:
    return wait_for(
        lambda: namespace.existing(WEIGHTS, name),
        f"{kind} of the weights {name} says {reason}",
        lambda manifest: condition_of(manifest, kind).get("reason") == reason,
        seconds,
    )


@dataclass(eq=False)
class Looks(threading.Thread):
    """Reads weights again and again. Records when the number of their bytes changed, and the reasons of Ready."""

    kubeconfig: Path
    changes: list[tuple[float, int]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        client = Client(self.kubeconfig)
        while not self.over.wait(0.2):
            manifest = client.get(WEIGHTS, "default", WEIGHTS_NAME) or {}
            size, reason = manifest.get("status", {}).get("bytes"), condition_of(manifest, "Ready").get("reason")
            if size is not None and size not in [known for _, known in self.changes[-1:]]:
                self.changes.append((time.monotonic(), size))
            if reason and reason not in self.reasons[-1:]:
                self.reasons.append(reason)
        client.close()


@dataclass(frozen=True)
class Session:
    """The terminal's output for the file, and the statuses of the weights during that time."""

    shown: str
    looks: Looks


@pytest.fixture(scope="module")
def session(cluster: PodCluster, killed: Future[None], hub: Hub, models: Namespace) -> Iterator[Session]:
    """The walkthrough's commands for one file, from an empty namespace to a verdict."""
    looks = Looks(cluster.kubeconfig)
    looks.start()
    shown = recording.record(cluster, "weights")
    looks.over.set()
    looks.join()
    yield Session(shown, looks)
    # The servers have all GPUs of the node, and other modules share the node.
    for name in (SERVER_NAME, "second"):
        models.delete(SERVER, name)
        wait_for(lambda name=name: models.pods(name), "the pods are gone", lambda pods: not pods, _SECONDS_TO_END)  # type: ignore[misc]


def size_of(hub: Hub) -> int:
    return sum(map(len, hub.commits[COMMIT].values()))


def test_the_walkthrough_shows_the_output_of_a_terminal(session: Session, pytestconfig: pytest.Config) -> None:
    recording.compare("weights", session.shown, update=pytestconfig.getoption("--update-golden"))


def test_one_file_leads_from_nothing_to_a_verdict_although_the_hub_fails(
    session: Session, hub: Hub, models: Namespace
) -> None:
    status = models.existing(BENCHMARK, SERVER_NAME)["status"]
    assert status["verdict"] == "Passed"
    results = [(result["name"], result["outcome"], result["completed"]) for result in status["results"]]
    assert results == [("speed", "Succeeded", 20), ("questions", "Succeeded", 100)]
    assert not any(hub.faults.values()), "all faults have happened"
    assert hub.sent.total() <= size_of(hub) + LOST + _SHARD_BYTES
    claim = models.existing(CLAIM, WEIGHTS_NAME)
    assert "ownerReferences" not in claim["metadata"]


def test_the_progress_of_a_download_is_written_every_ten_seconds_at_most(session: Session, hub: Hub) -> None:
    *meanwhile, (_, last) = session.looks.changes
    assert last == size_of(hub), "the end of the download is written at once"
    pauses = [later - earlier for (earlier, _), (later, _) in pairwise(meanwhile)]
    assert min(pauses) > READ_SECONDS - 1
    reasons = session.looks.reasons
    assert reasons[reasons.index("WeightsDownloading") :] == ["WeightsDownloading", "WeightsComplete"]


def test_a_full_volume_and_an_unreachable_hub_are_reported_with_remedies(session: Session, others: Others) -> None:
    assert others.full["message"].startswith("24.0 MB are not fetched yet, but only 8.")
    assert "spec.volume.size" in others.full["message"]
    unreachable = others.wait_for_reason("unreachable", "HubUnreachable")
    assert "Connection refused" in unreachable["message"]
    assert "spec.source.endpoint" in unreachable["message"]
    others.late.open()


def test_secrets_are_in_no_other_object_log_report_or_process(
    cluster: PodCluster, session: Session, models: Namespace
) -> None:
    kinds = cluster.kubectl("api-resources", "--verbs=list", "--output=name").split()
    seen = cluster.kubectl("get", ",".join({*kinds} - {"secrets"}), "--all-namespaces", "--output=json", timeout=60)
    for pod in models.client.list(POD):
        names = [f"--namespace={pod['metadata']['namespace']}", pod["metadata"]["name"]]
        seen += cluster.kubectl("logs", *names, "--all-containers", "--ignore-errors")
    for kind in ("json", "html"):
        seen += recording.output_of(cluster, f"kimi-linear report {SERVER_NAME} --output={kind}")
    # Every process of every container. The clients, which had the key in their environment, have ended.
    seen += cluster.on_node("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; true")
    assert "sglang.launch_server" in seen
    for secret in _SECRETS:
        assert secret not in seen
        assert base64.b64encode(secret.encode()).decode() not in seen


def engine(models: Namespace, server: str) -> Manifest:
    [pod] = models.pods(server)
    return pod


def test_servers_start_and_roll_out_without_the_hub_once_weights_are_complete(
    cluster: PodCluster, session: Session, hub: Hub, models: Namespace
) -> None:
    first = engine(models, SERVER_NAME)
    python(cluster, first, f"open('{_KERNEL}', 'w').write('compiled')")
    hub.close()
    sent, asked = hub.sent.total(), hub.questions.total()
    spec = _DOCUMENTS["KimiLinearServer"]["spec"]
    models.client.create(SERVER, server_manifest("second", models.name, spec))
    models.change_server(SERVER_NAME, {"engine": {"contextLength": 131072}})
    for name in (SERVER_NAME, "second"):
        models.wait_until_ready(name, _SECONDS_TO_SERVE)
        wait_for(lambda name=name: models.pods(name), "one pod is left", lambda pods: len(pods) == 1)  # type: ignore[misc]
        pod = engine(models, name)
        assert pod["metadata"]["uid"] != first["metadata"]["uid"]
        folder = on_claim(WEIGHTS_NAME, "instruct", COMMIT).folder
        assert python(cluster, pod, f"import os; print(os.path.getsize('{folder}/{SHARDS[0]}'))") == str(_SHARD_BYTES)
    assert (hub.sent.total(), hub.questions.total()) == (sent, asked)


def test_kernels_in_a_claim_are_shared_by_later_pods_and_another_server(
    cluster: PodCluster, session: Session, models: Namespace
) -> None:
    for name in (SERVER_NAME, "second"):
        assert python(cluster, engine(models, name), f"print(open('{_KERNEL}').read())") == "compiled"


def test_a_claim_outlives_its_weights_and_new_weights_of_that_name_need_no_hub(
    session: Session, hub: Hub, models: Namespace
) -> None:
    before = models.existing(CLAIM, WEIGHTS_NAME)
    models.delete(WEIGHTS, WEIGHTS_NAME)
    wait_for(lambda: models.find(WEIGHTS, WEIGHTS_NAME), "the weights are gone", lambda found: found is None)
    manifest = _DOCUMENTS["KimiLinearWeights"]
    models.client.request("POST", path_of(WEIGHTS, models.name), manifest)
    again = wait_for_reason(models, WEIGHTS_NAME, "WeightsComplete")
    assert "the hub did not answer" in condition_of(again, "Ready")["message"]
    assert models.existing(CLAIM, WEIGHTS_NAME)["metadata"]["uid"] == before["metadata"]["uid"]
    assert models.condition(SERVER_NAME, "Ready")["status"] == "True"


def test_nothing_is_written_at_rest(cluster: PodCluster, session: Session, models: Namespace) -> None:
    def versions() -> dict[str, str]:
        """Return the versions of all objects except pods, because the kubelet writes to pods at any time."""
        found = volumes.versions(cluster, models.name)
        return {key: version for key, version in found.items() if not key.startswith("Pod/")}

    def has_settled() -> bool:
        before = versions()
        time.sleep(5)
        return versions() == before

    wait_for(has_settled, "nothing changes for some seconds")
    before = versions()
    assert {key.partition("/")[0] for key in before} >= {"KimiLinearServer", "KimiLinearWeights", "KimiLinearBenchmark"}
    time.sleep(_SECONDS_AT_REST)
    assert versions() == before


def test_two_resources_share_a_killed_and_stalled_download_that_never_starts_over(
    killed: Future[None], others: Others
) -> None:
    killed.result(timeout=_SECONDS_TO_FETCH)
    for name in ("first", "second"):
        others.wait_for_reason(name, "WeightsComplete")
    [container] = _pod_of(others.namespace, "first")["status"]["containerStatuses"]
    assert container["restartCount"] == len(KILLS)
    assert not any(others.hub.faults.values()), "all faults have happened"
    assert others.hub.sent.total() <= size_of(others.hub) + (len(KILLS) + 1) * LOST


def test_downloads_continue_by_themselves_once_there_is_room_and_the_hub_answers(others: Others) -> None:
    for name, hub in (("full", others.plain), ("unreachable", others.late)):
        others.wait_for_reason(name, "WeightsComplete")
        assert hub.sent.total() == size_of(hub)
