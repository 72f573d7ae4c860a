"""Prometheus' own programs, from Debian's package. They check rules, evaluate alerts and answer queries."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

import debian
from binaries import cache_folder
from control_plane import free_ports
from integration.waiting import wait_for

_FOLDER = debian.unpacked("prometheus", cache_folder()) / "usr/bin"
_SECONDS = 60
# On a busy machine, SGLang needs more than a second for its metrics.
_SCRAPE_SECONDS = 3


def ensure_there() -> None:
    """Unpack the package. Skip the test if this machine cannot."""
    if not _FOLDER.exists() and (reason := debian.obstacle({str(_FOLDER): "prometheus"})):
        pytest.skip(reason)
    debian.ensure_unpacked("prometheus", cache_folder())


def check_rules(groups: object, folder: Path) -> None:
    """Let promtool check groups of rules, as Prometheus does when it reads them."""
    _promtool("check", "rules", "--lint-fatal", str(_write(folder / "rules.yaml", {"groups": groups})))


def evaluate(groups: object, tests: object, folder: Path) -> None:
    """Let promtool evaluate groups of rules on given series, and compare."""
    rules = _write(folder / "rules.yaml", {"groups": groups})
    _promtool("test", "rules", str(_write(folder / "tests.yaml", {"rule_files": [str(rules)], "tests": tests})))


def _write(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def _promtool(*arguments: str) -> None:
    done = subprocess.run([_FOLDER / "promtool", *arguments], capture_output=True, text=True, timeout=_SECONDS)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


@dataclass(frozen=True)
class Target:
    """What Prometheus scrapes.

    Attributes:
        address: Host and port.
        labels: The labels that it adds to the metrics.
        honor_labels: Whether a label of the metrics wins against an added label with the same name.
    """

    address: str
    labels: Mapping[str, str]
    honor_labels: bool = False

    def job(self, name: str) -> dict[str, Any]:
        """Return its part of Prometheus' configuration."""
        targets = [{"targets": [self.address], "labels": dict(self.labels)}]
        interval = {"scrape_interval": f"{_SCRAPE_SECONDS}s", "scrape_timeout": f"{_SCRAPE_SECONDS}s"}
        return {"job_name": name, "honor_labels": self.honor_labels, **interval, "static_configs": targets}


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self.port = port

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the current result of an expression."""
        with urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{urlencode({'query': expression})}") as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found

    def is_ready(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/-/ready") as answer:
                return bool(answer.status == 200)
        except URLError:
            return False


@contextmanager
def scraping(folder: Path, *targets: Target) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes targets."""
    [port] = free_ports(1)
    jobs = [target.job(f"target-{number}") for number, target in enumerate(targets)]
    config = _write(folder / "prometheus.yaml", {"scrape_configs": jobs})
    options = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    address = f"--web.listen-address=127.0.0.1:{port}"
    with (folder / "prometheus.log").open("wb") as log:
        command = [str(_FOLDER / "prometheus"), *options, address]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        running = Prometheus(port)
        wait_for(running.is_ready, "Prometheus answers")
        yield running
    finally:
        process.terminate()
        process.wait(timeout=_SECONDS)
