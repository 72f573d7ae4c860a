"""Fetches the model from the Hugging Face hub to a volume, inside the pod of a KimiLinearWeights.

The operator mounts this file from a ConfigMap into a pod with SGLang's image, so it uses only the standard library of
Python 3.10 and the hub's own client, huggingface_hub:

    python3 fetch.py --model moonshotai/Kimi-Linear-48B-A3B-Instruct --revision main --folder /weights --holder POD-UID

The volume has the layout of the hub's own cache: a folder `snapshots/COMMIT` for each commit, with links to the files
in `blobs`. So for a later commit, the program fetches only the files that have changed, and keeps the files of the
earlier commit.

A file counts as fetched when its size and its hash are those that the hub names. A commit is complete when all of its
files are fetched, and every shard that the index names is among them. The program then writes `complete/COMMIT.json`.

While the program works, it prints lines of JSON to standard output. The last line says how far the program is. When it
ends, the container's termination message has the same form:

    {"state": "Complete", "message": "", "commit": "0123...", "bytes": 98230000000, "totalBytes": 98230000000}

The exit code is 0 if the commit is complete, else 1. After exit code 1, the kubelet starts the container again. The
pauses before these starts become longer and longer.
"""

import argparse
import contextlib
import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

TERMINATION_MESSAGE = Path("/dev/termination-log")

# Characters of a message. The operator reads the last few lines of the log, and at most this many bytes.
_LONGEST_MESSAGE = 400
_COMMIT = re.compile("[0-9a-f]{40}")
_INDEX = "model.safetensors.index.json"

# Number of files to fetch at the same time. A single connection to the hub rarely reaches the speed of a network or of
# a volume.
_WORKERS = 4
# Number of bytes that the client writes at once. After a kill, at most this many bytes are fetched again. The client's
# own default is 10 MB.
_PIECE = 2**20
_HASHED_AT_A_TIME = 2**22

# In seconds: the first pause between two attempts, the longest pause, and the sum of the pauses that the hub can ask
# for while there is no progress.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_RETRY_AFTER = 1.0, 60.0, 900.0
_SECONDS_BETWEEN_LINES = 5.0
# Seconds over which the speed is averaged.
_RATE_SECONDS = 30.0
# The program gives up after a file had the wrong content this many times, or after the hub refused a file of its own
# list this many times.
_MOST_CORRUPT, _MOST_REFUSED = 3, 3
# How often to ask the hub which commit a branch names, if the last known commit of the branch is complete.
_FEW_ATTEMPTS = 2

# Network errors of these modules are not an OSError. Later releases of the client use httpx.
_HTTP = ("httpcore", "httpx", "urllib3")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


class FetchError(Exception):
    """Why the model cannot be fetched. The state is a reason of the operator's table."""

    def __init__(self, state: str, message: str, *, is_lasting: bool = True, pause: float | None = None) -> None:
        super().__init__(message)
        self.state = state
        self.message = message
        self.is_lasting = is_lasting
        self.pause = pause
        """For how many seconds the hub asks to wait."""


@dataclass(frozen=True)
class Options:
    """The command line.

    Attributes:
        model: Name of the model on the hub.
        revision: Branch, tag or commit.
        folder: Where the volume is mounted.
        holder: The name under which this program holds the lock. A restarted container of the same pod has the same
            name, so it can take the lock back immediately.
        patience: The program gives up after this many seconds without a new byte.
        stall: Seconds without a byte after which a connection counts as dead.
        lease: Seconds after which the lock of a dead program is free.
    """

    model: str
    revision: str
    folder: Path
    holder: str
    patience: float = 600.0
    stall: float = 60.0
    lease: float = 60.0


@dataclass(frozen=True)
class File:
    """A file of a commit, as the hub describes it.

    Attributes:
        name: Its path.
        size: Its size in bytes.
        digest: Its hash: SHA-256 of a large file, else the SHA-1 that Git gives it.
        is_large: Whether it is kept outside Git.
    """

    name: str
    size: int
    digest: str
    is_large: bool


@dataclass(frozen=True)
class Commit:
    """A commit and its files."""

    name: str
    files: Sequence[File]

    @property
    def size(self) -> int:
        """Return the size of all files in bytes."""
        return sum(file.size for file in self.files)


class Volume:
    """The model's folder on the volume."""

    def __init__(self, options: Options) -> None:
        """Choose the name of the folder as the hub's client does."""
        self.root = options.folder
        self.folder = options.folder / f"models--{options.model.replace('/', '--')}"

    def completed(self, commit: str) -> Commit | None:
        """Return a commit if all its files are there with their sizes; None if one is missing."""
        try:
            content = json.loads(self._marker(commit).read_text())
            files = [File(**item) for item in content["files"]]
            is_whole = all(self.path(commit, file).stat().st_size == file.size for file in files)
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return Commit(commit, files) if is_whole else None

    def mark_complete(self, commit: Commit, revision: str) -> None:
        """Record that a commit is complete, and that a branch names this commit."""
        _write(self._marker(commit.name), json.dumps({"files": [vars(file) for file in commit.files]}))
        if not _COMMIT.fullmatch(revision):
            _write(self.folder / "refs" / revision, commit.name)

    def last_of(self, revision: str) -> Commit | None:
        """Return the complete commit that a branch named when it was fetched last."""
        try:
            return self.completed((self.folder / "refs" / revision).read_text().strip())
        except OSError:
            return None

    def path(self, commit: str, file: File) -> Path:
        """Return where a file of a commit is."""
        return self.folder / "snapshots" / commit / file.name

    def incomplete(self, file: File) -> Path:
        """Return where the client keeps the beginning of a file."""
        return self.folder / "blobs" / f"{file.digest}.incomplete"

    def fetched_bytes(self, commit: Commit) -> int:
        """Return how many bytes of a commit are there."""
        return sum(self._fetched(commit.name, file) for file in commit.files)

    def _fetched(self, commit: str, file: File) -> int:
        whole = (self.path(commit, file), self.folder / "blobs" / file.digest)
        if any(path.exists() for path in whole):
            return file.size
        with contextlib.suppress(OSError):
            return min(self.incomplete(file).stat().st_size, file.size)
        return 0

    def is_verified(self, path: Path) -> bool:
        """Return whether a file was verified and has not changed since."""
        with contextlib.suppress(OSError):
            return self._seal(path).read_text() == _identity(path)
        return False

    def mark_verified(self, path: Path) -> None:
        """Record that the hash of a file was right."""
        _write(self._seal(path), _identity(path))

    def remove(self, path: Path) -> None:
        """Remove a file that has the wrong content, and the link to it."""
        for part in (path.resolve(), path):
            part.unlink(missing_ok=True)

    def _marker(self, commit: str) -> Path:
        return self.folder / "complete" / f"{commit}.json"

    def _seal(self, path: Path) -> Path:
        return self.folder / "verified" / path.resolve().name


def _identity(path: Path) -> str:
    state = path.stat()
    return f"{state.st_size} {state.st_mtime_ns}"


def _write(path: Path, text: str) -> None:
    """Write a small file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The file name contains the host name, because the program is process 1 in every pod.
    partial = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


class Report:
    """What the log and the termination message say."""

    def __init__(self) -> None:
        """Begin without a commit and numbers."""
        self.content: dict[str, Any] = {"state": "Starting", "message": ""}
        self._lock = threading.Lock()

    def say(self, **changes: Any) -> None:
        """Change the report, and print it."""
        with self._lock:
            self.content.update(changes)
            self.content["message"] = _one_line(self.content["message"])
            print(json.dumps(self.content), flush=True)

    def end(self, **changes: Any) -> None:
        """Print the report for the last time."""
        for name in ("rate", "secondsLeft"):
            self.content.pop(name, None)
        self.say(**changes)
        # The kubelet creates this file.
        if TERMINATION_MESSAGE.exists():
            TERMINATION_MESSAGE.write_text(json.dumps(self.content))


def _one_line(text: str) -> str:
    return " ".join(str(text).split())[:_LONGEST_MESSAGE]


class Progress(threading.Thread):
    """Reports every few seconds how many bytes are on the volume."""

    def __init__(self, volume: Volume, commit: Commit, report: Report) -> None:
        """Watch the files of a commit."""
        super().__init__(daemon=True)
        self._volume, self._commit, self._report = volume, commit, report
        self._seen: deque[tuple[float, int]] = deque()
        self._over = threading.Event()

    def run(self) -> None:
        """Report until it is stopped."""
        while True:
            self._look()
            if self._over.wait(_SECONDS_BETWEEN_LINES):
                return

    def stop(self) -> None:
        """End the reports."""
        self._over.set()
        self.join()

    def _look(self) -> None:
        size, total, now = self._volume.fetched_bytes(self._commit), self._commit.size, time.monotonic()
        while self._seen and now - self._seen[0][0] > _RATE_SECONDS:
            self._seen.popleft()
        self._seen.append((now, size))
        (since, before), seconds = self._seen[0], now - self._seen[0][0]
        rate = max(0, round((size - before) / seconds)) if since < now else 0
        left = {"secondsLeft": round((total - size) / rate)} if rate else {"secondsLeft": None}
        self._report.say(bytes=size, totalBytes=total, rate=rate, **left)


class Lock:
    """Lets one pod at a time write to the model's folder.

    The lock is a file with the name of its holder and a number that the holder raises. If the number has not changed
    for the time of a lease, the holder counts as dead, and a waiting pod takes the lock. Each pod measures this time
    with its own clock. Locks of the operating system are not used: on many network file systems they fail, or work only
    within one node.

    If the holder was only paused for this time, two pods may write for a moment. So every file is verified at the end.

    A living holder gives the lock back and ends if a file makes no progress for too long. The limit is
    `Options.patience` plus the pauses that the hub asks for (see `Patience`), at most 25 minutes.
    """

    def __init__(self, options: Options, report: Report) -> None:
        """Name the file."""
        self._path = options.folder / ".kimi-linear.lock"
        self._holder, self._lease, self._report = options.holder, options.lease, report
        self._count = 0
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> "Lock":
        """Wait until the lock is free, and take it."""
        while not self._try():
            self._wait_while_held()
        self._renewing.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self._over.set()
        self._renewing.join()
        self.release()

    def release(self) -> None:
        """Remove the file, if it is still ours."""
        with contextlib.suppress(OSError):
            if self._read()[0] == self._holder:
                self._path.unlink()

    def _try(self) -> bool:
        """Take the lock if it is free or ours."""
        if self._read()[0] not in ("", self._holder):
            return False
        self._write()
        # If two pods took the lock at the same time, the file contains the name of the later one.
        time.sleep(min(2.0, self._lease / 10) * (1 + random.random()))  # noqa: S311 - no secret
        return self._read()[0] == self._holder

    def _wait_while_held(self) -> None:
        """Wait until the file is gone, or has not changed for the time of a lease."""
        seen, since = self._read(), time.monotonic()
        while seen[0] and time.monotonic() - since < self._lease:
            self._report.say(state="VolumeBusy", message=f"another pod writes to this volume: {seen[0]}")
            time.sleep(min(5.0, self._lease / 10))
            now = self._read()
            if now != seen:
                seen, since = now, time.monotonic()
        if seen[0] and self._read() == seen:
            self._path.unlink(missing_ok=True)

    def _renew(self) -> None:
        """Raise the number while this pod holds the lock. If another pod has taken the lock, end immediately."""
        renewed = time.monotonic()
        while not self._over.wait(self._lease / 6):
            try:
                is_ours = self._read()[0] == self._holder
                if is_ours:
                    self._write()
                    renewed = time.monotonic()
            except OSError:
                is_ours = time.monotonic() - renewed < self._lease / 2
            if not is_ours:
                self._report.end(state="VolumeBusy", message="another pod has taken the lock of this volume")
                os._exit(1)

    def _read(self) -> tuple[str, str]:
        """Return the holder and its number; empty texts if nobody holds the lock."""
        try:
            holder, _, count = self._path.read_text().partition(" ")
        except FileNotFoundError:
            return "", ""
        return holder or "unknown", count

    def _write(self) -> None:
        self._count += 1
        _write(self._path, f"{self._holder} {self._count}.{time.time_ns()}")


class Hub:
    """The hub's own client."""

    def __init__(self, options: Options) -> None:
        """Import the client. During the import, it reads its settings from the environment."""
        settings = {
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            # The client has other ways to download a file. After a kill, those start from the beginning.
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_ENABLE_HF_TRANSFER": "0",
            "HF_HUB_DOWNLOAD_TIMEOUT": str(max(1, round(options.stall))),
            "HF_HUB_ETAG_TIMEOUT": str(max(1, round(options.stall))),
            "HF_HUB_OFFLINE": "0",
        }
        os.environ.update(settings)
        import huggingface_hub
        from huggingface_hub import constants
        from huggingface_hub.utils import logging

        logging.set_verbosity_error()
        if hasattr(constants, "DOWNLOAD_CHUNK_SIZE"):
            constants.DOWNLOAD_CHUNK_SIZE = _PIECE
        self._client: types.ModuleType = huggingface_hub
        self._options = options

    def commit(self, revision: str) -> Commit:
        """Return the commit that a revision names now."""
        api, timeout = self._client.HfApi(), self._options.stall
        info = api.model_info(self._options.model, revision=revision, files_metadata=True, timeout=timeout)
        return Commit(info.sha, [_file(item) for item in info.siblings])

    def fetch(self, commit: str, file: File) -> Path:
        """Fetch a file, beginning where an earlier attempt stopped; return the file's path."""
        path: str = self._client.hf_hub_download(
            self._options.model, file.name, revision=commit, cache_dir=self._options.folder
        )
        return Path(path)


def _file(item: Any) -> File:
    if item.lfs:
        return File(item.rfilename, item.lfs["size"], item.lfs["sha256"], True)
    return File(item.rfilename, item.size, item.blob_id, False)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that caused it."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        yield current
        seen.append(current)
        current = current.__cause__ or current.__context__


def failure_of(error: Exception) -> FetchError:
    """Return what an error of the client or of the file system means.

    Raises:
        Exception: The error has another cause, in the program or in the image. The log shows it.
    """
    if isinstance(error, FetchError):
        return error
    causes = [*_causes(error)]
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return FetchError("VolumeFull", "the volume is full: make it larger")
        if isinstance(cause, OSError) and cause.errno in _NOT_WRITABLE and cause.filename:
            return FetchError("VolumeNotWritable", f"{cause.strerror}: {cause.filename}")
    responses = (getattr(cause, "response", None) for cause in causes)
    response = next((item for item in responses if item is not None), None)
    if response is not None:
        return _refusal(response)
    if not any(isinstance(cause, OSError) or type(cause).__module__.startswith(_HTTP) for cause in causes):
        raise error
    deepest = causes[-1]
    return FetchError("HubUnreachable", f"{type(deepest).__name__}: {deepest}", is_lasting=False)


def _refusal(response: Any) -> FetchError:
    """Return what an HTTP status of the hub means."""
    status, code = response.status_code, response.headers.get("X-Error-Code", "")
    has_token = bool(os.environ.get("HF_TOKEN"))
    if status == 401:
        cause = "the hub refuses the token (HTTP 401)" if has_token else "the hub asks for a token (HTTP 401)"
        return FetchError("TokenRefused", cause)
    if status == 403:
        return FetchError(
            "TokenRefused",
            "the token has no permission to read this model (HTTP 403): the model's owner must grant access",
        )
    if status == 404:
        what = "this revision" if code == "RevisionNotFound" else "this model"
        return FetchError("RevisionMissing", f"the hub does not have {what} (HTTP 404)")
    if status == 429:
        pause = _retry_after(response.headers.get("Retry-After", ""))
        return FetchError("HubLimited", "the hub limits requests (HTTP 429)", is_lasting=False, pause=pause)
    return FetchError("HubUnreachable", f"the hub answers with HTTP {status}", is_lasting=False)


def _retry_after(header: str) -> float | None:
    """Return the seconds of a `Retry-After` header, None for a date or an empty one."""
    return min(float(header), _LONGEST_RETRY_AFTER) if header.strip().isdecimal() else None


class Patience:
    """Makes pauses between attempts. They become longer and longer. After too long without progress, it gives up.

    A pause that the hub asks for does not count as time without progress. But the sum of these pauses since the last
    progress is limited to _LONGEST_RETRY_AFTER, because other pods may wait for the lock.
    """

    def __init__(
        self,
        seconds: float,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with short pauses."""
        self._seconds, self._sleep, self._clock = seconds, sleep, clock
        self._mark = -1
        self._begin()

    def _begin(self) -> None:
        self._since, self._pause, self._asked = self._clock(), _FIRST_PAUSE, 0.0

    def wait(self, failure: FetchError, mark: int) -> None:
        """Pause before the next attempt.

        Args:
            failure: Why the last attempt failed.
            mark: A number that grows with progress.

        Raises:
            FetchError: There was no progress for too long.
        """
        if mark > self._mark:
            self._begin()
            self._mark = mark
        asked = failure.pause or 0.0
        pause = self._pause if failure.pause is None else asked
        if self._asked + asked > _LONGEST_RETRY_AFTER:
            raise failure
        if self._clock() - self._since - self._asked + pause - asked > self._seconds:
            raise failure
        self._sleep(pause)
        self._asked += asked
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


class Fetcher:
    """Fetches one revision."""

    def __init__(self, options: Options, report: Report) -> None:
        """Store the arguments, without any request to the hub."""
        self._options, self._report = options, report
        self._volume = Volume(options)
        self._hub = Hub(options)

    def run(self) -> None:
        """Make the wanted commit complete.

        Raises:
            FetchError: A file is missing or damaged, or the hub cannot be used.
        """
        commit, note = self._wanted()
        self._report.say(commit=commit.name, totalBytes=commit.size)
        if not self._volume.completed(commit.name):
            with _lock(self._options, self._report):
                # Another pod may have fetched the commit while this pod waited for the lock.
                if not self._volume.completed(commit.name):
                    self._download(commit)
                self._volume.mark_complete(commit, self._options.revision)
        self._report.end(state="Complete", message=note, bytes=commit.size)

    def _wanted(self) -> tuple[Commit, str]:
        """Return the wanted commit, and a remark. Ask the hub only if the answer is not on the volume."""
        revision = self._options.revision
        known = self._volume.completed(revision) if _COMMIT.fullmatch(revision) else None
        if known:
            return known, ""
        last, patience, attempts = self._volume.last_of(revision), Patience(self._options.patience), 0
        while True:
            attempts += 1
            try:
                return self._hub.commit(revision), ""
            except Exception as error:
                failure = failure_of(error)
            if failure.is_lasting:
                raise failure
            if last and attempts >= _FEW_ATTEMPTS:
                return last, f"the hub did not answer ({failure.message}): this is the last known commit of {revision}"
            self._report.say(state=failure.state, message=failure.message)
            patience.wait(failure, 0)

    def _download(self, commit: Commit) -> None:
        """Fetch and verify all files of a commit."""
        self._check_room(commit)
        self._report.say(state="Downloading", message="")
        progress = Progress(self._volume, commit, self._report)
        progress.start()
        try:
            with _local_locks(self._options.folder / ".locks"):
                self._fetch_all(commit)
        finally:
            progress.stop()
        self._check_shards(commit)

    def _fetch_all(self, commit: Commit) -> None:
        """Fetch and verify a few files at the same time, until all files are done or one file cannot be fetched."""
        pool = ThreadPoolExecutor(_WORKERS)
        try:
            for done in [pool.submit(self._fetch, commit.name, file) for file in commit.files]:
                done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _check_room(self, commit: Commit) -> None:
        """Refuse a commit that does not fit on the volume.

        Raises:
            FetchError: Too few bytes are free.
        """
        missing = commit.size - self._volume.fetched_bytes(commit)
        free = shutil.disk_usage(self._options.folder).free
        if missing > free:
            message = f"{_amount(missing)} are not fetched yet, but only {_amount(free)} are free on the volume"
            raise FetchError("VolumeFull", message)

    def _fetch(self, commit: str, file: File) -> None:
        """Fetch and verify one file. After a failure, try again as long as there is progress."""
        patience, corrupt, refused = Patience(self._options.patience), 0, 0
        while True:
            try:
                self._discard_overlong(file)
                self._verify(self._hub.fetch(commit, file), file)
            except Exception as error:
                failure = failure_of(error)
            else:
                return
            corrupt += failure.state == "WeightsCorrupt"
            refused += failure.state in ("TokenRefused", "RevisionMissing")
            # The hub's store refuses a signed address that has expired. The next attempt gets a new address.
            is_over = refused >= _MOST_REFUSED if refused else failure.is_lasting
            if is_over or corrupt >= _MOST_CORRUPT:
                raise failure
            self._report.say(message=_about(file, failure))
            patience.wait(failure, self._size(file))
            self._report.say(message="")

    def _size(self, file: File) -> int:
        with contextlib.suppress(OSError):
            return self._volume.incomplete(file).stat().st_size
        return 0

    def _discard_overlong(self, file: File) -> None:
        """Remove a partial download that is longer than the whole file."""
        if self._size(file) > file.size:
            self._volume.incomplete(file).unlink()

    def _verify(self, path: Path, file: File) -> None:
        """Compare a file with the size and the hash that the hub names. Remove the file if it differs.

        Raises:
            FetchError: The file differs.
        """
        if self._volume.is_verified(path):
            return
        if path.stat().st_size != file.size or _digest(path, file) != file.digest:
            self._volume.remove(path)
            message = f"{file.name} does not have the hash that the hub names: the download damaged its content"
            raise FetchError("WeightsCorrupt", message, is_lasting=False)
        self._volume.mark_verified(path)

    def _check_shards(self, commit: Commit) -> None:
        """Check that every shard of the index is among the files.

        Raises:
            FetchError: A shard is missing.
        """
        names = {file.name for file in commit.files}
        index = next((file for file in commit.files if file.name == _INDEX), None)
        shards = set(names)
        if index:
            content = json.loads(self._volume.path(commit.name, index).read_text())
            shards = set(content["weight_map"].values())
        missing = sorted(shards - names)
        if missing or not any(name.endswith(".safetensors") for name in shards):
            what = ", ".join(missing[:3]) or "files *.safetensors"
            raise FetchError("WeightsCorrupt", f"the hub's commit {commit.name} has no {what}")


def _about(file: File, failure: FetchError) -> str:
    return failure.message if file.name in failure.message else f"{file.name}: {failure.message}"


def _digest(path: Path, file: File) -> str:
    """Return the hash of a file, by the algorithm that the hub uses for this file."""
    digest = hashlib.sha256() if file.is_large else hashlib.sha1(f"blob {file.size}\0".encode())  # noqa: S324 - Git's
    with path.open("rb") as content:
        while piece := content.read(_HASHED_AT_A_TIME):
            digest.update(piece)
    return digest.hexdigest()


def _amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


@contextlib.contextmanager
def _local_locks(link: Path) -> Iterator[None]:
    """Keep the client's lock files outside the volume. Only threads of this program need them.

    On a file system without working locks, the client would wait without end. A link that a killed pod has left is
    replaced.
    """
    with tempfile.TemporaryDirectory() as local:
        _remove_locks(link)
        link.symlink_to(local)
        try:
            yield
        finally:
            _remove_locks(link)


def _remove_locks(link: Path) -> None:
    if link.is_symlink():
        link.unlink()
    else:
        shutil.rmtree(link, ignore_errors=True)


@contextlib.contextmanager
def _lock(options: Options, report: Report) -> Iterator[None]:
    """Hold the lock of the volume. Give the lock back even when the pod is deleted."""
    with Lock(options, report) as lock:

        def end(_number: int, _frame: types.FrameType | None) -> NoReturn:
            lock.release()
            os._exit(143)

        signal.signal(signal.SIGTERM, end)
        yield


def main(arguments: Sequence[str]) -> int:
    """Fetch the model; return the exit code."""
    # Without a handler, process 1 of a container ignores SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    report, options = Report(), _options(arguments)
    try:
        Fetcher(options, report).run()
    except (FetchError, OSError) as error:
        failure = failure_of(error)
        report.end(state=failure.state, message=failure.message)
        return 1
    return 0


def _options(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(description="Fetches a model from the Hugging Face hub to a volume.")
    for name in ("model", "revision", "holder"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    for name in ("patience", "stall", "lease"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Options, name))
    return Options(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    # A container with a failed program must end, even if threads still wait for the hub.
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
