"""The program that fetches weights, with the hub's own client, and with a hub on loopback that has faults."""

import errno
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import sglang_client
from client.hub import MODEL, Fault, Hub, make_files
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.weights import fetch
from kimi_linear_operator.weights.location import on_claim
from kimi_linear_operator.weights.progress import last_line

FIRST, SECOND = "1" * 40, "2" * 40
SHARD = "model-00002-of-00003.safetensors"
FILES = make_files("first", size=4_000_000)
SIZE = sum(map(len, FILES.values()))
# Bytes that a kill may lose: one piece of each shard, and data that has not arrived yet.
LOST = 3 * (2**20 + 2**17)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Return a hub with one commit, which is the branch main."""
    with Hub({FIRST: dict(FILES)}, {"main": FIRST}) as made:
        yield made


@dataclass
class Pod:
    """The program as a process, with a folder in place of the volume."""

    hub: Hub
    volume: Path
    python: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, revision: str = "main", holder: str = "pod-1", **options: float) -> subprocess.Popen[bytes]:
        settings = {"stall": 2.0, "lease": 3.0, "patience": 30.0, **options}
        flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        where = ["--folder", str(self.volume), "--model", MODEL, "--revision", revision, "--holder", holder]
        env = {**os.environ, "HF_ENDPOINT": self.url, "HF_HOME": f"{self.volume}-home", **self.environment}
        command = [str(self.python), str(fetch.__file__), *where, *flags]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    @property
    def url(self) -> str:
        return self.hub.url if self.hub._server else "http://127.0.0.1:9"

    def run(self, revision: str = "main", holder: str = "pod-1", **options: float) -> Manifest:
        """Return its last message and its exit code."""
        return ended(self.start(revision, holder, **options))

    def holds(self, commit: str, files: dict[str, bytes]) -> bool:
        folder = self.volume / Path(on_claim("", "instruct", commit).folder).relative_to("/weights")
        return {name: (folder / name).read_bytes() for name in files} == files


def ended(process: subprocess.Popen[bytes]) -> Manifest:
    output, _ = process.communicate(timeout=120)
    said = last_line("\n".join(f"2026-11-29T20:00:00Z {line}" for line in output.decode().splitlines()))
    assert said, output.decode()
    return {"exit": process.returncode, **vars(said), "log": output.decode()}


@pytest.fixture
def pod(hub: Hub, tmp_path: Path) -> Pod:
    """Return a pod that uses the hub."""
    environment = sglang_client.environment()
    environment.ensure_made()
    volume = tmp_path / "volume"
    volume.mkdir()
    return Pod(hub, volume, environment.python)


def outcome(said: Manifest) -> tuple[int, str]:
    return said["exit"], said["state"]


def test_a_fetched_branch_has_every_file_as_on_the_hub(pod: Pod) -> None:
    said = pod.run()
    assert outcome(said) == (0, "Complete"), said["log"]
    assert (said["commit"], said["size"], said["total"]) == (FIRST, SIZE, SIZE)
    assert pod.holds(FIRST, FILES)


def test_complete_weights_are_not_fetched_again_and_a_commit_needs_no_request(pod: Pod, hub: Hub) -> None:
    pod.run()
    fetched, asked = hub.sent.total(), hub.questions.total()
    began = time.monotonic()
    assert outcome(pod.run(FIRST)) == (0, "Complete")
    assert time.monotonic() - began < 20
    assert (hub.sent.total(), hub.questions.total()) == (fetched, asked)
    assert outcome(pod.run("main")) == (0, "Complete")
    assert hub.sent.total() == fetched


def test_complete_weights_need_no_hub(pod: Pod, hub: Hub) -> None:
    pod.run()
    hub.close()
    assert outcome(pod.run(FIRST)) == (0, "Complete")
    offline = pod.run("main")
    assert outcome(offline) == (0, "Complete")
    assert "the hub did not answer" in offline["message"]


def test_a_later_commit_fetches_only_changed_files_and_keeps_the_first_commit(pod: Pod, hub: Hub) -> None:
    pod.run()
    later = {**FILES, "config.json": b'{"later": true}'}
    hub.commits[SECOND], hub.branches["main"] = later, SECOND
    hub.sent.clear()
    assert pod.run()["commit"] == SECOND
    assert hub.sent == {"config.json": len(later["config.json"])}
    assert pod.holds(FIRST, FILES)
    assert pod.holds(SECOND, later)


@pytest.mark.parametrize(
    ("fault", "most"),
    [
        (Fault("cut", after=2_000_000), SIZE + LOST),
        (Fault("stall", after=2_000_000), SIZE + LOST),
        (Fault("corrupt"), SIZE + len(FILES[SHARD])),
        (Fault("status", status=429, headers={"Retry-After": "1"}), SIZE),
        (Fault("status", status=503), SIZE),
        (Fault("status", status=403), SIZE),
    ],
    ids=["cut", "stall", "corrupt", "limited", "broken", "expired"],
)
def test_a_failed_download_continues_where_it_stopped(pod: Pod, hub: Hub, fault: Fault, most: int) -> None:
    hub.fail(SHARD, fault)
    said = pod.run()
    assert outcome(said) == (0, "Complete"), said["log"]
    assert pod.holds(FIRST, FILES)
    assert hub.sent.total() <= most


def test_the_program_waits_as_long_as_the_hub_asks(pod: Pod, hub: Hub) -> None:
    hub.fail("api", Fault("status", status=429, headers={"Retry-After": "4"}))
    began = time.monotonic()
    said = pod.run()
    assert outcome(said) == (0, "Complete")
    assert time.monotonic() - began >= 4
    assert "HubLimited" in said["log"]


def test_a_file_that_stays_wrong_is_reported_and_removed(pod: Pod, hub: Hub) -> None:
    hub.fail(SHARD, *[Fault("corrupt")] * 3)
    said = pod.run()
    assert outcome(said) == (1, "WeightsCorrupt")
    assert SHARD in said["message"]
    assert outcome(pod.run()) == (0, "Complete")
    assert pod.holds(FIRST, FILES)


def test_a_commit_that_lacks_a_shard_of_its_index_is_refused(pod: Pod, hub: Hub) -> None:
    del hub.commits[FIRST][SHARD]
    said = pod.run()
    assert outcome(said) == (1, "WeightsCorrupt")
    assert SHARD in said["message"]


def test_a_missing_token_and_a_wrong_token_get_different_messages(pod: Pod, hub: Hub) -> None:
    hub.token = "hf_right"
    asked = pod.run()
    assert (*outcome(asked), asked["message"]) == (1, "TokenRefused", "the hub asks for a token (HTTP 401)")
    pod.environment = {"HF_TOKEN": "hf_wrong"}
    refused = pod.run()
    assert (*outcome(refused), refused["message"]) == (1, "TokenRefused", "the hub refuses the token (HTTP 401)")
    pod.environment = {"HF_TOKEN": "hf_right"}
    assert outcome(pod.run()) == (0, "Complete")


def test_a_gated_model_is_reported(pod: Pod, hub: Hub) -> None:
    hub.gated = True
    said = pod.run()
    assert outcome(said) == (1, "TokenRefused")
    assert "grant access" in said["message"]


def test_an_unknown_revision_is_reported(pod: Pod) -> None:
    said = pod.run("no-such-branch")
    assert (*outcome(said), said["message"]) == (1, "RevisionMissing", "the hub does not have this revision (HTTP 404)")


def test_a_hub_that_does_not_answer_is_reported_after_a_while(pod: Pod, hub: Hub) -> None:
    hub.close()
    said = pod.run(patience=3)
    assert outcome(said) == (1, "HubUnreachable")


def test_a_full_volume_is_reported_before_and_during_the_download(pod: Pod, tmp_path: Path) -> None:
    too_small = mounted(tmp_path / "small", 4)
    try:
        pod.volume = too_small
        said = pod.run()
        assert outcome(said) == (1, "VolumeFull")
        assert "are free on the volume" in said["message"]
    finally:
        subprocess.run(["umount", too_small], check=True)


def mounted(folder: Path, megabytes: int) -> Path:
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("only root can mount a small volume")
    return folder


def test_a_volume_that_others_fill_up_meanwhile_is_reported() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    error = RuntimeError("the client wraps it")
    error.__cause__ = full
    assert fetch.failure_of(error).state == "VolumeFull"


def test_a_read_only_volume_is_reported() -> None:
    refused = PermissionError(errno.EACCES, "Permission denied", "/weights/x")
    assert fetch.failure_of(refused).state == "VolumeNotWritable"


# Shares of all bytes after which the program is killed.
KILLS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 0.97)


def test_a_killed_download_never_starts_over(pod: Pod, hub: Hub) -> None:
    """The program is killed at ten points.

    Each time, the same container starts again, and takes its own lock back at once.

    Data that is on the volume is not sent again, and after a kill only one piece of each connection is lost.
    """
    hub.rate, lost = 1_500_000, 0
    for share in KILLS:
        process, before = pod.start(), hub.sent.total()
        wait_for(lambda least=share * SIZE + lost: hub.sent.total() >= least, "the next share of the bytes is sent")  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        time.sleep(0.3)  # data that the hub still sends to a killed client
        now_lost = hub.sent.total() - on_volume(pod)
        assert now_lost - lost <= LOST
        assert hub.sent.total() > before
        lost = now_lost
    hub.rate = 0
    said = pod.run()
    assert outcome(said) == (0, "Complete")
    assert pod.holds(FIRST, FILES)
    assert hub.sent.total() == SIZE + lost


def on_volume(pod: Pod) -> int:
    return sum(path.stat().st_size for path in pod.volume.glob("models--*/blobs/*"))


def test_two_pods_on_one_volume_fetch_only_once(pod: Pod, hub: Hub) -> None:
    hub.rate = 1_500_000
    pods = [pod.start(holder=f"pod-{number}") for number in (1, 2)]
    assert [outcome(ended(process)) for process in pods] == [(0, "Complete")] * 2
    assert hub.sent.total() == SIZE


# A file system whose locks fail, like NFS without a lock service.
_NO_LOCKS = """
import errno, fcntl, os
lock = fcntl.flock
def flock(fd, operation):
    if os.readlink(f"/proc/self/fd/{fd}").startswith(os.environ["NO_LOCKS"]):
        raise OSError(errno.ENOLCK, "No locks available")
    return lock(fd, operation)
fcntl.flock = flock
"""


def test_a_volume_without_file_locks_works(pod: Pod, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_NO_LOCKS)
    pod.environment = {"PYTHONPATH": str(site), "NO_LOCKS": str(pod.volume)}
    assert outcome(pod.run()) == (0, "Complete")
    assert not (pod.volume / ".locks").is_symlink()


def test_the_lock_of_a_dead_pod_expires(pod: Pod, hub: Hub) -> None:
    hub.rate = 1_500_000
    dead = pod.start(holder="pod-1")
    wait_for(lambda: hub.sent.total() > 0, "the download has begun")
    dead.kill()
    dead.communicate()
    ended_before = time.monotonic()
    said = pod.run("main", "pod-2")
    assert outcome(said) == (0, "Complete")
    assert "VolumeBusy" in said["log"]
    assert time.monotonic() - ended_before < 60
    assert hub.sent.total() < SIZE + LOST


def test_a_deleted_pod_releases_its_lock(pod: Pod, hub: Hub) -> None:
    hub.rate = 1_500_000
    process = pod.start()
    wait_for(lambda: hub.sent.total() > 0, "the download has begun")
    process.terminate()
    process.communicate(timeout=20)
    assert not (pod.volume / ".kimi-linear.lock").exists()


def test_pauses_grow_until_the_download_makes_progress() -> None:
    slept: deque[float] = deque()
    patience = fetch.Patience(1000, slept.append)
    failure = fetch.FetchError("HubUnreachable", "x", is_lasting=False)
    for mark in (0, 0, 0, 1):
        patience.wait(failure, mark)
    assert [*slept] == [1.0, 2.0, 4.0, 1.0]


def waited(seconds: float, pause: float | None, *, marks: int = 0) -> float:
    """Return how long a program waits for a hub that always fails in this way, before it gives up.

    Args:
        seconds: The patience of the program.
        pause: How many seconds the hub asks the program to wait.
        marks: How many times there is progress before that.
    """
    now = [0.0]

    def sleep(pause: float) -> None:
        now[0] += pause + 1.0  # an attempt takes its time, too

    patience = fetch.Patience(seconds, sleep, lambda: now[0])
    failure = fetch.FetchError("HubLimited", "x", is_lasting=False, pause=pause)
    for attempt in range(10_000):
        try:
            patience.wait(failure, min(attempt, marks))
        except fetch.FetchError:
            return now[0]
    raise AssertionError("it never gives up")


@pytest.mark.parametrize("pause", [None, 0.0, 1.0, 30.0, 600.0, 900.0], ids=str)
def test_a_pod_gives_up_its_lock_in_time_whatever_pause_the_hub_asks_for(pause: float | None) -> None:
    assert waited(600, pause) <= 25 * 60


def test_a_pause_that_the_hub_asks_for_does_not_use_up_patience() -> None:
    assert waited(10, 900.0) >= 900


def test_progress_restores_all_patience() -> None:
    assert waited(600, 600.0, marks=5) >= 5 * 600


def test_an_error_in_the_program_is_not_reported_as_an_error_of_the_hub() -> None:
    with pytest.raises(AttributeError):
        fetch.failure_of(AttributeError("no such thing"))
