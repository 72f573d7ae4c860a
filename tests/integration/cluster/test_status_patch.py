"""A real API server refuses a status that was computed from an older spec, if the write requires the same spec."""

import asyncio

import pytest

from integration.sandbox import Sandboxes
from kimi_linear_operator.cluster.client import connect
from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.spec import SERVER


async def _write(server: Manifest, status: Manifest) -> int:
    """Write a status for this state of a server, and return the status code of a refusal, 0 without one."""
    async with connect() as cluster:
        try:
            await cluster.patch_status(SERVER, server, status, if_unchanged=True)
            code = 0
        except ApiError as error:
            code = error.status
    await asyncio.sleep(1)
    return code


def test_a_status_is_written_only_for_the_spec_from_which_it_was_computed(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sandboxes.open() as sandbox:
        monkeypatch.setenv("KUBECONFIG", str(sandbox.operator.kubeconfig))
        with sandbox.operator.stopped():
            new = sandbox.namespace.create_server("kimi", {"suspend": True})
            assert asyncio.run(_write(new, {"url": "first"})) == 0
            before = sandbox.namespace.server("kimi")
            sandbox.namespace.edit(SERVER, "kimi", {"metadata": {"labels": {"team": "search"}}})
            status = {"image": "tests"}
            assert asyncio.run(_write(before, status)) == 0
            assert sandbox.namespace.server("kimi")["status"]["image"] == "tests"
            sandbox.namespace.edit(SERVER, "kimi", {"spec": {"replicas": 2}})
            assert asyncio.run(_write({**before, "status": status}, {"image": "later"})) == 409
            assert sandbox.namespace.server("kimi")["status"]["image"] == "tests"
            now = sandbox.namespace.server("kimi")
            assert asyncio.run(_write(now, {"url": "kept", "replicas": "three"})) == 422
            assert asyncio.run(_write(now, {"url": "kept"})) == 0
            assert sandbox.namespace.server("kimi")["status"] == {"url": "kept"}
