"""Of an object that would take long to decode, the API server sends the metadata alone."""

import asyncio

import pytest

from integration.client import path_of
from integration.sandbox import Sandboxes
from kimi_linear_operator import jsontext
from kimi_linear_operator.cluster.client import connect
from kimi_linear_operator.kubernetes.kinds import REVISION, Manifest
from kimi_linear_operator.server.spec import SERVER

_DEEP = b"[" * 5000 + b"]" * 5000
_NOTES = {"example.com/notes": '<,"managedFields":[' * 5_000}


def _text(kind_fields: Manifest, name: str, field: bytes, labels: Manifest) -> bytes:
    metadata = {"name": name, "labels": labels, "annotations": _NOTES}
    content = b'{"a":["%s",%s]}' % (b"<" * 1_000_000, _DEEP)
    return jsontext.encode({**kind_fields, "metadata": metadata})[:-1] + b"," + field % content + b"}"


def test_the_metadata_of_a_costly_object_is_read_from_lists_and_answers(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sandboxes.open() as sandbox:
        monkeypatch.setenv("KUBECONFIG", str(sandbox.operator.kubeconfig))
        namespace, labels = sandbox.namespace, {f"{SERVER.group}/server": "kimi"}
        fields = {"apiVersion": REVISION.api_version, "kind": REVISION.kind, "revision": 1}
        for name, field in (("a", b'"data":{}'), ("b", b'"data":%s'), ("c", b'"data":{}')):
            text = _text(fields, name, field if b"%" in field else field + b"%.0s", labels)
            stored = namespace.client.send("POST", path_of(REVISION, namespace.name), text)
            assert stored.status == 201, str(stored.body)[:500]

        async def read() -> tuple[list[Manifest], list[Manifest | None]]:
            async with connect() as cluster:
                listed = await cluster.list(REVISION, namespace.name)
                alone = [await cluster.get(REVISION, namespace.name, name) for name in ("a", "b", "c")]
                await asyncio.sleep(1)
            return listed, alone

        listed, alone = asyncio.run(read())
        assert ["data" in manifest for manifest in listed] == [True, False, True]
        assert [found and found["metadata"]["uid"] for found in alone] == [found["metadata"]["uid"] for found in listed]
        for found in (listed[1], alone[1]):
            assert found is not None
            assert (found["kind"], found["metadata"]["name"], found["metadata"]["labels"]) == (
                REVISION.kind,
                "b",
                labels,
            )
