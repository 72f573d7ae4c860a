"""SGLang's router as a process. The launcher of its container starts it, and a file takes the place of DNS."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import aiohttp

import packages
from binaries import cache_folder
from client.processes import StandIn
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server import manifests
from kimi_linear_operator.server.sglang.command_line import PORT
from kimi_linear_operator.server.sglang.router_flags import METRICS_PORT
from kimi_linear_operator.server.spec import KimiLinearServer
from make import make_server

_REQUIREMENTS = Path(__file__).parents[2] / "requirements"
RELEASES = ("0.3.0", "0.3.2")
"""The last release before SGLang 0.5.7, and the newest one.

The image of 0.5.7 contains a router from its own sources.
"""

KEY = "k-e-y"
HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
_READY_SECONDS = 30
# For the name of the headless Service, answers with the addresses in a file. All other names are resolved as usual.
_DNS = """
import pathlib, socket
look_up = socket.getaddrinfo
def answer(name, port, family=0, *rest, **more):
    if name != "kimi-headless":
        return look_up(name, port, family, *rest, **more)
    hosts = pathlib.Path({file!r}).read_text().split() if family == socket.AF_INET else []
    if not hosts:
        raise socket.gaierror(socket.EAI_NONAME, "no address")
    return [(family, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]
socket.getaddrinfo = answer
"""


def package(release: str) -> Path:
    """Return the folder with a release of the router and its imports."""
    requirements = [_REQUIREMENTS / f"sglang-router-{release}.txt"]
    return packages.installed(cache_folder(), f"sglang-router-{release}", f"SGLang's router {release}", requirements)


def container(**spec: Any) -> Manifest:
    """Return the container of a router as the operator builds it."""
    server = KimiLinearServer.model_validate(make_server(**{"router": {}, **spec}))
    [router] = [child for child in manifests.build(server) if _is_router(child)]
    [found] = router["spec"]["template"]["spec"]["containers"]
    return dict(found)


def _is_router(child: Manifest) -> bool:
    return (child["kind"], child["metadata"]["name"]) == ("Deployment", "kimi-router")


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@dataclass
class Router:
    """A running router, and the addresses in DNS for it."""

    release: str
    folder: Path
    replicas_port: int
    port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        found = container(auth={"apiKeySecretRef": {"name": "key"}}, drain={"timeoutSeconds": 60})
        (self.folder / "key").write_text(f"{KEY}\n")
        own = {
            str(PORT): str(self.replicas_port),
            "/etc/kimi-linear/api-key": str(self.folder / "key"),
            f"--port={PORT}": f"--port={self.port}",
            f"--prometheus-port={METRICS_PORT}": f"--prometheus-port={self.metrics_port}",
        }
        program = _DNS.format(file=str(self.folder / "dns")) + found["command"][2]
        words = [own.get(word, word) for word in found["args"]]
        variables = {item["name"]: item["value"] for item in found["env"]} | {"HOME": str(self.folder)}
        path = {"PYTHONPATH": str(package(self.release)), "PATH": os.environ["PATH"]}
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, *words], env=path | variables, stdout=log, stderr=log
            )

    def publish(self, hosts: Iterable[str]) -> None:
        """Set the addresses in DNS."""
        partial = self.folder / "partial"
        partial.write_text(" ".join(hosts))
        partial.rename(self.folder / "dns")

    def ask(self, path: str, body: Any = None, key: str | None = KEY) -> tuple[int, Any]:
        """Return the status and the answer to a request; status 0 without an answer."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - http
                return answer.status, _decoded(answer.read())
        except HTTPError as error:
            return error.code, _decoded(error.read())
        except OSError:
            return 0, None

    @property
    def listed(self) -> set[str]:
        """The hosts of the router's replicas."""
        _, answer = self.ask("/workers")
        return {worker["url"].split("/")[2].split(":")[0] for worker in (answer or {}).get("workers", ())}

    def wait_until_listed(self, *hosts: str) -> None:
        wait_for(lambda: self.listed, f"the router has {hosts}", lambda seen: seen == set(hosts), _READY_SECONDS)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def command_lines(self) -> str:
        """Return the command lines of the launcher and of the router."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in (str(self.process.pid), *children))

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)


def _decoded(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode(errors="replace")


@contextmanager
def running(release: str, folder: Path, replicas_port: int) -> Iterator[Router]:
    """Run a router of a release with the three replicas, until the block ends."""
    router = Router(release, folder, replicas_port)
    router.publish(HOSTS)
    router.start()
    try:
        router.wait_until_listed(*HOSTS)
        yield router
    finally:
        router.process.kill()
        router.process.wait()


def start_replica(host: str, port: int, log: Path, **behaviour: float) -> StandIn:
    """Return a replica, not started yet. It needs a hundredth of a second for each letter that it repeats."""
    arguments = ["--host", host, "--port", str(port), "--api-key", KEY]
    return StandIn(arguments, {"seconds_per_token": 0.01, **behaviour}, log)


async def load(router: Router, users: int, seconds: float, tokens: int = 50) -> Counter[str]:
    """Send requests for some seconds. Return the number of answers by status, or by the name of an error."""
    tally: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{router.port}", headers=headers) as session:

        async def ask() -> None:
            while loop.time() < deadline:
                try:
                    async with session.post("/v1/chat/completions", json=question(tokens)) as answer:
                        await answer.read()
                        tally[str(answer.status)] += 1
                except aiohttp.ClientError as error:
                    tally[type(error).__name__] += 1

        await asyncio.gather(*(ask() for _ in range(users)))
    return tally


def question(tokens: int, **more: Any) -> Manifest:
    """Return a question whose answer takes this number of hundredths of a second."""
    return {"model": "kimi", "messages": [{"role": "user", "content": "x" * tokens}], "max_tokens": 4096, **more}


def parsed(release: str, commands: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Return the results of the router's own parser for command lines `python3 -m sglang_router.launch_router ...`."""
    program = (
        "import json, sys; from sglang_router.launch_router import parse_router_args as parse; "
        "json.dump([vars(parse(words)) for words in json.load(sys.stdin)], sys.stdout, default=repr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([list(command[3:]) for command in commands]),
        env={"PYTHONPATH": str(package(release)), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers
