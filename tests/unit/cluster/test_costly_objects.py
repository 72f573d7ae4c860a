"""Objects that would take long to decode. The operator reads only their metadata, which the API server sends alone."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from aiohttp import web

from answering import answering
from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster.client import Cluster
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.bounds import HEAVIEST_OBJECT, LONGEST_OBJECT
from kimi_linear_operator.kubernetes.kinds import REVISION, Kind, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server.spec import SERVER
from passes import READER, new_cache
from processor_time import measured

KIMI = Key("default", "kimi", SERVER)
STORED_BYTES = 1_400_000
DEEP = b"[" * 5000 + b"]" * 5000


def repeated(part: bytes, size: int) -> bytes:
    return b"[" + (part + b",") * (size // (len(part) + 1)) + b"0]"


CONTENTS = {
    "escaped, with one value too deep": repeated(b'"\\u003c\\u003c\\u003c"', 5 * STORED_BYTES)[:-2] + DEEP + b"]",
    "often too deep": repeated(b"[" * 101 + b"]" * 101, STORED_BYTES),
    "invalid characters": repeated(b'"\\ud800"', STORED_BYTES),
    "many small values": repeated(b'{"":' * 80 + b"0" + b"}" * 80, STORED_BYTES),
    "a long text": b'"' + b"\\u003c" * STORED_BYTES + b'"',
}
MOST = 9.0
"""As a multiple of the reference. To decode all but the long text took up to 60 times as long as the reference."""


def about(name: str, **more: Any) -> Manifest:
    labels = {SERVER.group + "/server": "kimi", "example.com/other": "x"}
    entry = {"manager": "x", "operation": "Apply", "fieldsV1": {"f:data": {}}}
    identity = {"name": name, "namespace": "default", "uid": f"uid of {name}", "resourceVersion": "7"}
    return {**identity, "labels": labels, **more, "managedFields": [entry]}


def text_of(kind: Kind, name: str, content: bytes) -> bytes:
    manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": about(name), "revision": 1}
    return jsontext.encode(manifest)[:-1] + b',"spec":{"a":' + content + b"}}"


def metadata_of(text: bytes) -> Manifest:
    begin = text.index(b'"metadata":')
    end = min(place for part in (b',"revision"', b',"spec"') if (place := text.find(part, begin)) > 0)
    return {"kind": "PartialObjectMetadata", **json.loads(b"{" + text[begin:end] + b"}")}


Answer = Callable[[web.Request], Coroutine[Any, Any, web.Response]]


def storing(kind: Kind, *texts: bytes) -> Answer:
    """Return an API server with these objects. It sends only metadata if a request accepts nothing else."""

    async def answer(request: web.Request) -> web.Response:
        is_partial = "PartialObjectMetadata" in request.headers["Accept"]
        shown = [jsontext.encode(metadata_of(text)) if is_partial else text for text in texts]
        if request.path.rsplit("/")[-1] != kind.plural:
            return web.Response(body=shown[0], content_type="application/json")
        begin, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        end = begin + limit
        head = {"resourceVersion": "9", **({"continue": str(end)} if end < len(texts) else {})}
        body = b'{"metadata":%s,"items":[%s]}' % (jsontext.encode(head), b",".join(shown[begin:end]))
        return web.Response(body=body, content_type="application/json")

    return answer


def cost_of(server: Answer, work: Callable[[Cluster], AsyncIterator[Any]]) -> tuple[list[Any], float]:
    """Return what the work has yielded, and the cost of the work and of the API server together."""

    async def test() -> tuple[list[Any], float]:
        async with answering(server) as cluster:
            with measured() as whole:
                found = [result async for result in work(cluster)]
        return found, whole.cost

    return asyncio.run(test())


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_list_shows_the_metadata_of_a_costly_object_and_all_of_the_others(content: bytes) -> None:
    texts = [text_of(REVISION, f"c-{number}", content if number == 1 else b"1") for number in range(4)]

    async def names(cluster: Cluster) -> AsyncIterator[Manifest]:
        async for page in cluster.pages(REVISION, "default"):
            for manifest in page.manifests:
                yield manifest

    found, _ = cost_of(storing(REVISION, *texts), names)
    assert [manifest["metadata"]["name"] for manifest in found] == ["c-0", "c-1", "c-2", "c-3"]
    assert [bool(manifest["spec"]) for manifest in found] == [True, False, True, True]
    assert (found[1]["apiVersion"], found[1]["kind"]) == (REVISION.api_version, REVISION.kind)
    cached = READER.read(REVISION, found[1])
    assert (cached.owner, cached.version, cached.cut) == (KIMI, 7, 0)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_only_the_metadata_of_a_costly_object_is_decoded(content: bytes) -> None:
    text = text_of(REVISION, "c-0", content)

    async def get(cluster: Cluster) -> AsyncIterator[Manifest | None]:
        yield await cluster.get(REVISION, "default", "c-0")

    [found], cost = cost_of(storing(REVISION, text), get)
    assert found == {
        "apiVersion": REVISION.api_version,
        "kind": REVISION.kind,
        "revision": 0,
        "spec": {},
        "status": {},
        "metadata": {
            **{name: about("c-0")[name] for name in ("name", "namespace", "uid", "resourceVersion")},
            "labels": {SERVER.group + "/server": "kimi"},
            "annotations": {},
            "ownerReferences": [],
            "managedFields": None,
        },
    }
    assert cost < MOST


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_write_of_a_costly_object_reads_the_metadata_of_the_new_state(content: bytes) -> None:
    wanted = {"apiVersion": REVISION.api_version, "kind": REVISION.kind, "metadata": about("c-0"), "data": 1}

    async def apply(cluster: Cluster) -> AsyncIterator[Manifest]:
        yield await cluster.apply(REVISION, wanted)
        with pytest.raises(ApiError, match="too large to read"):
            await cluster.apply(REVISION, wanted, dry_run=True)

    [found], _ = cost_of(storing(REVISION, text_of(REVISION, "c-0", content)), apply)
    assert (found["metadata"]["uid"], found["spec"]) == ("uid of c-0", {})


def test_a_costly_server_is_invalid_and_its_message_says_what_to_do() -> None:
    text = text_of(SERVER, "kimi", CONTENTS["often too deep"])

    async def read(cluster: Cluster) -> AsyncIterator[Manifest]:
        async for page in cluster.pages(SERVER, "default"):
            for manifest in page.manifests:
                yield manifest

    [found], _ = cost_of(storing(SERVER, text), read)
    cache = new_cache()
    cache.put(SERVER, found)
    [problem] = check(cache.get(KIMI) or {}).problems
    assert "too large: as JSON, a resource with all of its metadata can have at most 2 MiB" in problem.message
    assert "put files into a ConfigMap or a volume" in problem.message


def test_an_object_is_read_whole_up_to_the_bounds() -> None:
    """The longest own object with its managed fields, and a text of 256 KiB that must be repaired."""
    long, deep = b'"' + b"x" * (LONGEST_OBJECT - 1000) + b'"', b"[" + DEEP + b',"' + b"x" * 250_000 + b'"]'
    heavy = repeated(b'{"a":1}', HEAVIEST_OBJECT // 2 * 8 - 8_000)

    async def get(cluster: Cluster) -> AsyncIterator[Manifest | None]:
        yield await cluster.get(SERVER, "default", "c-0")

    for content in (long, deep, heavy):
        [found], _ = cost_of(storing(SERVER, text_of(SERVER, "c-0", content)), get)
        assert found["spec"] != {" ": True}
        assert found["metadata"]["labels"]
