"""Starts SGLang's router and keeps its list of replicas, in the container of a router.

    python3 -c TEXT-OF-THIS-FILE NAME PORT KEY-FILE python3 -m sglang_router.launch_router --port=30000 ...

The replicas are the addresses of NAME in DNS. These are the addresses of pods that are ready and not about to end.
KEY-FILE is empty if SGLang asks for no API key. The router takes the key only as an argument. Every process of the pod
can read a command line in /proc, so this program adds the argument inside the process. The program uses only the
standard library of Python 3.10. It contains no single quotes and no dollar signs, because the shell and Kubernetes
would make them hard to read.
"""

import json
import os
import re
import runpy
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Seconds between two requests to DNS.
PERIOD = 1.0
# The list of replicas becomes empty only after this many seconds without any address in DNS. When the router is
# switched off, the Service behind the name is deleted, and this router still gets requests for 15 s.
EMPTY = 30.0
# Seconds after which a replica is added again if the router has not listed it.
PATIENCE = 10.0
# What getaddrinfo raises if the name has no address. Any other error means that DNS does not answer.
NO_ADDRESS = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


def main(name: str, port: str, key_file: str, *command: str) -> None:
    """Run the router in its own process, and end with its exit code."""
    key = read_key(Path(key_file)) if key_file else None
    router = os.fork()
    if not router:
        become_router(command, key)
        return
    signal.signal(signal.SIGTERM, lambda *_: os.kill(router, signal.SIGTERM))
    replicas = Replicas(lambda: addresses(name, int(port)), Router(router_port(command), key).ask, key)
    threading.Thread(target=replicas.follow, daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(router, 0)[1])
    sys.exit(code if code >= 0 else 128 - code)


def read_key(file: Path) -> str:
    """Return the key in a file, without the line break that editors and `echo` add."""
    try:
        key = file.read_text().strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        sys.exit(f"Error: the API key cannot be read ({reason}): see spec.auth.apiKeySecretRef of the server")
    if not re.fullmatch("[!-~]+", key):
        sys.exit("Error: the API key is empty, or has a space or a letter beyond ASCII: correct its Secret")
    return key


def become_router(command: tuple[str, ...], key: str | None) -> None:
    """Run the module of a command `python3 -m MODULE ARGUMENT ...`, on all addresses and with the key."""
    module, *arguments = command[2:]
    host = all_addresses()
    secret = [f"--api-key={key}"] if key else []
    sys.argv = [module, f"--host={host}", f"--prometheus-host={host}", *secret, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def all_addresses() -> str:
    """Return the address that stands for all addresses.

    If the kernel has IPv6, these are the addresses of both families.
    """
    try:
        socket.socket(socket.AF_INET6).close()
    except OSError:
        return "0.0.0.0"  # noqa: S104 - a router serves its Service on all of its own addresses
    return "[::]"


def router_port(command: tuple[str, ...]) -> int:
    """Return the port on which the router listens."""
    return next(int(word.partition("=")[2]) for word in command if word.startswith("--port="))


def addresses(name: str, port: int) -> set[str]:
    """Return the URLs of the replicas.

    If there are IPv4 addresses, only these count, so that a replica with two addresses counts once.

    Raises:
        OSError: DNS does not answer.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            found = socket.getaddrinfo(name, port, family, socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno not in NO_ADDRESS:
                raise
            continue
        hosts = [str(entry[4][0]) for entry in found]
        return {f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}" for host in hosts}
    return set()


class Router:
    """The API of the router by which its list of replicas is changed."""

    def __init__(self, port: int, key: str | None) -> None:
        """Take the port, and the key that the router asks for."""
        self._url = f"http://127.0.0.1:{port}/workers"
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        # No proxy, even if the environment names one.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, method: str, path: str = "", body: Any = None) -> Any:
        """Return the answer to a request.

        Raises:
            OSError: There is no answer.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, self._headers, method=method)  # noqa: S310 - http only
        with self._opener.open(request, timeout=5) as answer:
            return json.loads(answer.read())


class Replicas:
    """Corrects the router's list of replicas until it is that of DNS."""

    def __init__(self, find: Callable[[], set[str]], ask: Callable[..., Any], key: str | None) -> None:
        """Take the function that finds the replicas, the function that asks the router, and the key of the replicas."""
        self._find = find
        self._ask = ask
        self._key = {"api_key": key} if key else {}
        self._known: set[str] = set()
        self._known_at = float("-inf")
        self._added: dict[str, float] = {}
        self._problem = ""

    def follow(self) -> None:
        """Correct the list without end. After an error, try again, and log the same error only once."""
        while True:
            problem = ""
            try:
                self.correct(time.monotonic())
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            if problem and problem != self._problem:
                say(f"the list of replicas stays as it is: {problem}")
            self._problem = problem
            time.sleep(PERIOD)

    def correct(self, now: float) -> None:
        """Add the replicas that the router lacks and remove the others.

        Release 0.3.0 loses most removals (its workflow deadlocks), so a removal is repeated until it is done.
        """
        wanted = self._wanted(now)
        listed = {worker["url"]: worker["id"] for worker in self._ask("GET")["workers"]}
        for url in wanted - listed.keys():
            if now - self._added.get(url, float("-inf")) >= PATIENCE:
                self._ask("POST", body={"url": url, **self._key})
                self._added[url] = now
                say(f"added {url}")
        for url in listed.keys() - wanted:
            self._ask("DELETE", f"/{listed[url]}")
            say(f"removed {url}")
        self._added = {url: at for url, at in self._added.items() if url in wanted - listed.keys()}

    def _wanted(self, now: float) -> set[str]:
        found = self._find()
        if found or now - self._known_at >= EMPTY:
            self._known, self._known_at = found, now
        return self._known


def say(text: str) -> None:
    """Print a line to the log."""
    print(f"replicas: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
