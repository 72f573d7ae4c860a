"""Large objects in events of a watch take little memory. kopf keeps several decoded events of each watch."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import pytest

from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster.reading_time import ReadingTime
from kimi_linear_operator.cluster.watch_session import Listener, Pause, _WatchLines
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, DEPLOYMENT, JOB, POD, REVISION, SERVICE, Kind, Manifest
from kimi_linear_operator.server.spec import SERVER
from passes import READER

MANY = [{"name": f"A{number}", "value": "x"} for number in range(30_000)]
PODS = {"template": {"spec": {"containers": [{"env": MANY}]}}}
OWNED: Manifest = {"f:metadata": {f"f:{number}": {} for number in range(60_000)}}
LARGE: dict[str, tuple[Kind, Manifest]] = {
    "a revision": (REVISION, {"data": {"a": MANY}, "revision": 3}),
    "a long ConfigMap": (CONFIG_MAP, {"data": {"a": "x" * 1_200_000}}),
    "a ConfigMap with many keys": (CONFIG_MAP, {"data": {f"k{number}": "x" for number in range(70_000)}}),
    "a pod": (
        POD,
        {"spec": {"nodeName": "n", "containers": MANY}, "status": {"phase": "Running", "podIP": "10.0.0.1"}},
    ),
    "a Deployment": (DEPLOYMENT, {"spec": {"replicas": 2, **PODS}, "status": {"availableReplicas": 2}}),
    "a Job": (JOB, {"spec": PODS, "status": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}}),
    "many annotations": (SERVICE, {"annotations": {f"x{number}": "" for number in range(70_000)}}),
    "managed fields": (SERVICE, {"managedFields": [{"manager": "kubectl", "operation": "Apply", "fieldsV1": OWNED}]}),
    "a server": (SERVER, {"spec": {"replicas": 2, "podTemplate": {"x": MANY}}, "status": {"observedGeneration": 2}}),
}


def manifest_of(kind: Kind, parts: Manifest) -> Manifest:
    owner = {"apiVersion": SERVER.api_version, "kind": SERVER.kind, "name": "kimi", "uid": "s", "controller": True}
    labels = {"app.kubernetes.io/managed-by": "kimi-linear-operator", "kimi-linear.io/server": "kimi"}
    about: Manifest = {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "5", "generation": 2}
    about |= {"labels": labels, "ownerReferences": [owner]}
    about |= {name: parts[name] for name in ("annotations", "managedFields") if name in parts}
    rest = {name: part for name, part in parts.items() if name not in about}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": about, **rest}


class Content:
    """The body of an answer with one event."""

    def __init__(self, line: bytes) -> None:
        self.line = line

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        yield self.line


def passed_on(event: Manifest) -> tuple[bytes, list[Manifest]]:
    """Return the line that kopf gets for an event, and the events that the operator reads itself."""
    read_here: list[Manifest] = []
    content = cast(aiohttp.StreamReader, Content(jsontext.encode(event) + b"\n"))
    listener = Listener(lambda *_: None, read_large=lambda large: read_here.append(dict(large)))
    lines = _WatchLines(content, listener, Pause(), ReadingTime())

    async def read() -> list[bytes]:
        return [line async for line in lines.iter_chunked(65_536)]

    [line] = asyncio.run(read())
    return line, read_here


@pytest.mark.parametrize("event", ["ADDED", "MODIFIED", "DELETED"])
@pytest.mark.parametrize(("kind", "parts"), LARGE.values(), ids=LARGE)
def test_kopf_gets_only_the_version_of_a_large_object_that_is_cached_alike(
    kind: Kind, parts: Manifest, event: str
) -> None:
    whole = manifest_of(kind, parts)
    line, [large] = passed_on({"type": event, "object": whole})
    assert jsontext.decode(line) == {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "5"}}}
    assert large["type"] == event
    assert READER.read(kind, large["object"]) == READER.read(kind, whole)


def test_a_usual_event_stays_as_it_is() -> None:
    event = {"type": "ADDED", "object": manifest_of(DEPLOYMENT, {"spec": {"replicas": 2}})}
    assert passed_on(event) == (jsontext.encode(event) + b"\n", [])
