"""Steady load on a server: each user sends the next request after the last answer, until standard input ends.

    python load.py URL USERS SHORTEST LONGEST TOKENS

It is run on the node, where the names of Services are known. It prints a line after its first request, and at the end
how many requests were answered to their end and what went wrong with the others. Answers are streamed. Each request has
a connection of its own, so that it goes wherever the Service sends it at that moment.
"""

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field

import aiohttp

from pod_cluster import PodCluster

_REQUEST_SECONDS = 30
_SECONDS_TO_END = 90
_BEGUN = "begun\n"


@dataclass(frozen=True)
class Load:
    """The questions of the users.

    Attributes:
        users: How many ask at a time.
        shortest: The fewest letters of a question.
        longest: The most letters of a question.
        tokens: The most tokens of an answer.
    """

    users: int
    shortest: int
    longest: int
    tokens: int


# The stand-in repeats the question, one millisecond per letter. So an answer takes half a second to two seconds.
ON_STAND_IN = Load(users=8, shortest=500, longest=2000, tokens=4096)


@dataclass
class Tally:
    """The results of the requests."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)


@contextmanager
def steady_load(cluster: PodCluster, url: str, wanted: Load = ON_STAND_IN) -> Iterator[Tally]:
    """Send load to a server from the node. The tally is complete at the end of the block.

    The block begins after the first request: a program needs seconds to start on a busy machine.
    """
    tally = Tally()
    # The new process finds the modules of the tests like this process.
    path = f"PYTHONPATH={':'.join(sys.path)}"
    command = cluster.enter("env", path, sys.executable, __file__, url, *map(str, astuple(wanted)))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == _BEGUN, "the load did not begin"
            yield tally
            output, _ = process.communicate(timeout=_SECONDS_TO_END)
        finally:
            process.kill()
    told = json.loads(output)
    tally.answered, tally.failures = told["answered"], told["failures"]


async def load(url: str, wanted: Load, tally: Tally) -> None:
    """Ask until standard input ends."""
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    limit = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
    # The name is resolved only once, because the test is about answers and not about DNS.
    connector = aiohttp.TCPConnector(force_close=True, ttl_dns_cache=None)
    async with aiohttp.ClientSession(connector=connector, timeout=limit) as session:
        await _ask(session, url, wanted, tally)
        sys.stdout.write(_BEGUN)
        sys.stdout.flush()
        await asyncio.gather(*(_user(session, url, ended, wanted, tally) for _ in range(wanted.users)))


async def _user(
    session: aiohttp.ClientSession, url: str, ended: "asyncio.Future[str]", wanted: Load, tally: Tally
) -> None:
    while not ended.done():
        await _ask(session, url, wanted, tally)


async def _ask(session: aiohttp.ClientSession, url: str, wanted: Load, tally: Tally) -> None:
    letters = random.randint(wanted.shortest, wanted.longest)  # noqa: S311 - no secret
    question = {"role": "user", "content": "x" * letters}
    body = {"messages": [question], "stream": True, "max_tokens": wanted.tokens}
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            text = await response.text()
            status = response.status
    except (aiohttp.ClientError, TimeoutError) as error:
        tally.failures.append(repr(error))
        await asyncio.sleep(0.1)
        return
    if status == 200 and text.endswith("data: [DONE]\n\n"):
        tally.answered += 1
    else:
        tally.failures.append(f"{status}: {text[-200:]}")


if __name__ == "__main__":
    counted = Tally()
    asyncio.run(load(sys.argv[1], Load(*map(int, sys.argv[2:])), counted))
    sys.stdout.write(json.dumps({"answered": counted.answered, "failures": counted.failures}))
