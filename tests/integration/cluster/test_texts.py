"""Text with any characters is applied as it is. The API server reads an apply as YAML, which knows fewer escapes."""

import asyncio

import pytest

from integration.sandbox import Sandboxes
from kimi_linear_operator.cluster.client import connect
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP, Manifest

_TEXTS = {
    "beyond-16-bits": "\U0001f680 \U00010000 \U0010ffff",
    "controls": "\x00\x01\x08\x0c\x1f\x7f\x80\x85\x9f",
    "separators": "\u2028\u2029\ufeff",
    "none-characters": "\ufffe\uffff\ufffd",
    "escapes": '<&> \\ud83d \\\\ud83d\\ude80 \\" é',
    "lines": "a: b\n- c\r\n\t# d",
}


def test_text_with_any_characters_is_applied_as_it_is(sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    with sandboxes.open() as sandbox:
        monkeypatch.setenv("KUBECONFIG", str(sandbox.operator.kubeconfig))
        metadata = {"name": "texts", "namespace": sandbox.namespace.name}
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": _TEXTS}

        async def apply() -> Manifest:
            async with connect() as cluster:
                applied = await cluster.apply(CONFIG_MAP, manifest)
            # Connections with TLS need a moment to close: https://docs.aiohttp.org/en/stable/client_advanced.html#graceful-shutdown
            await asyncio.sleep(1)
            return applied

        assert asyncio.run(apply())["data"] == _TEXTS
