"""How fast the operator repairs drift, and how fast it applies one user's change while it is busy."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from benchmarks.connection import JSON_PATCH, MERGE_PATCH, Access, Connection
from benchmarks.converge import CHANGED, FIRST, Progress, wait_for_all
from benchmarks.figures import StormSample
from benchmarks.load import Load
from benchmarks.manifests import path_of, server_names
from benchmarks.stage import Running, Stage, run
from integration.audit import Request
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, SERVICE, Manifest
from kimi_linear_operator.server.spec import SERVER

_PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.005
_IMAGE = "/spec/template/spec/containers/0/image"
# When the user makes a change in a storm: while others still send changes, and when nearly all changes are sent.
_MOMENTS = (0.3, 0.9)


def measure_repairs(stage: Stage, names: Sequence[str], count: int) -> list[float]:
    """Change an image and delete a Service, again and again; return the seconds until each repair."""
    chosen = random.Random(0).choices(names, k=count)  # noqa: S311 - any will do
    repairs: list[float] = run(_repair_all(stage.access, chosen))
    return repairs


async def _repair_all(access: Access, names: Sequence[str]) -> list[float]:
    async with Connection.open(access) as connection:
        ways = (_break_image, _delete_service)
        return [await ways[number % 2](connection, name) for number, name in enumerate(names)]


async def _break_image(connection: Connection, name: str) -> float:
    path = path_of(DEPLOYMENT, name)
    right = _image(json.loads(await connection.send("GET", path)))
    patch = [{"op": "replace", "path": _IMAGE, "value": "somebody/else:latest"}]
    began = time.monotonic()
    await connection.send("PATCH", path, json.dumps(patch).encode(), JSON_PATCH)
    return await _seconds_until(connection, path, lambda deployment: _image(deployment) == right, began)


async def _delete_service(connection: Connection, name: str) -> float:
    path = path_of(SERVICE, name)
    uid = json.loads(await connection.send("GET", path))["metadata"]["uid"]
    began = time.monotonic()
    await connection.send("DELETE", path)
    return await _seconds_until(connection, path, lambda service: service["metadata"].get("uid", uid) != uid, began)


def _image(deployment: Manifest) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


async def _seconds_until(
    connection: Connection, path: str, is_right: Callable[[Manifest], bool], began: float
) -> float:
    """Read an object until it has the expected state. Return the seconds."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        # While the object does not exist, the answer is a Status with empty metadata.
        while not is_right(json.loads((await connection.exchange("GET", path))[1])):  # noqa: ASYNC110 - it is far away
            await asyncio.sleep(_PAUSE_SECONDS)
    return time.monotonic() - began


@dataclass(frozen=True)
class _Storm:
    """Something that happens to many servers at once."""

    kind: str
    names: Sequence[str]
    begin: Callable[[Load], Awaitable[None]]


@dataclass(frozen=True)
class _Answer:
    """When a user made a change, in seconds since 1970, and how long the operator needed to apply it."""

    at: float
    seconds: float


def measure_storms(
    stage: Stage, running: Running, names: Sequence[str], count: int, patience: float
) -> list[StormSample]:
    """Change and create many servers in turn; one person changes one other server twice in each storm."""
    samples: list[StormSample] = []
    for number in range(count):
        samples += _weather(stage, running, _storm(number, names), patience)
    return samples


def _storm(number: int, names: Sequence[str]) -> _Storm:
    if number % 2:
        new = server_names(len(names), f"storm{number}")
        return _Storm("created", new, lambda load: load.create_servers(new))
    spec = {"drain": {"timeoutSeconds": 100 + number}}
    return _Storm("changed", names, lambda load: load.change_servers(names, spec))


def _weather(stage: Stage, running: Running, storm: _Storm, patience: float) -> list[StormSample]:
    stage.ledger.begin()
    answers: list[_Answer] = run(_storm_and_person(stage.access, storm))
    user = running.contender.user
    progress = Progress(user, CHANGED)
    progress.note(stage.ledger.requests)
    wait_for_all(stage, running, progress, set(storm.names), patience)
    return [
        StormSample(answer.seconds, storm.kind, _waiting(stage.ledger.of(user), storm.names, answer.at))
        for answer in answers
    ]


async def _storm_and_person(access: Access, storm: _Storm) -> list[_Answer]:
    load = Load(access)
    async with asyncio.TaskGroup() as tasks:
        person = tasks.create_task(_person(access, load, len(storm.names)))
        await storm.begin(load)
    return person.result()


async def _person(access: Access, load: Load, size: int) -> list[_Answer]:
    async with Connection.open(access) as connection:
        return [await _change(connection, load, size * moment) for moment in _MOMENTS]


async def _change(connection: Connection, load: Load, begin: float) -> _Answer:
    """Change the replicas from 1 to 2, or back, once a number of servers are done, and wait for the Deployment."""
    path = path_of(DEPLOYMENT, FIRST)
    before = json.loads(await connection.send("GET", path))["spec"]["replicas"]
    wanted = 3 - before
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while load.done < begin:  # noqa: ASYNC110 - a load should not stop to tell
            await asyncio.sleep(_PAUSE_SECONDS)
    body = json.dumps({"spec": {"replicas": wanted}}).encode()
    at, began = time.time(), time.monotonic()
    await connection.send("PATCH", path_of(SERVER, FIRST) + "?fieldManager=kubectl", body, MERGE_PATCH)
    seconds = await _seconds_until(connection, path, lambda live: bool(live["spec"]["replicas"] == wanted), began)
    return _Answer(at, seconds)


def _waiting(requests: Sequence[Request], names: Sequence[str], moment: float) -> int:
    """Return how many of the servers had no Deployment yet at a moment."""
    applied = {
        request.name
        for request in requests
        if request.is_write and request.resource == DEPLOYMENT.plural and request.ended <= moment
    }
    return len(set(names) - applied)
