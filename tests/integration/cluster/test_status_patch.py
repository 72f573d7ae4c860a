"""A real API server refuses a status that was computed from an older object, if the write requires the newest."""

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


def test_a_status_is_not_written_for_an_older_state_of_the_object(
    sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sandboxes.open() as sandbox:
        monkeypatch.setenv("KUBECONFIG", str(sandbox.operator.kubeconfig))
        with sandbox.operator.stopped():
            before = sandbox.namespace.create_server("kimi", {"suspend": True})
            after = sandbox.namespace.edit(SERVER, "kimi", {"metadata": {"labels": {"team": "search"}}})
            status = {**before.get("status", {}), "image": "tests"}
            assert asyncio.run(_write(before, status)) == 409
            assert asyncio.run(_write(after, status)) == 0
            assert sandbox.namespace.server("kimi")["status"]["image"] == "tests"
