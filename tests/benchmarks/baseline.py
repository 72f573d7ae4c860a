"""The API server's own limit: the same writes as the operator's, made without an operator.

A program. It watches servers and sends the operator's writes for each: server-side applies of the record of its pods,
the Service and the Deployment, and then the status. The bytes are the operator's; they were made beforehand. It ignores
servers that have a status. Nothing is read, compared or remembered, so no operator can be faster. The operator writes
the Event of a server only when the server is ready, so the Event is not measured here.
"""

import asyncio
import json
import os
from pathlib import Path

import uvloop

from benchmarks.connection import WORKERS, Access, Connection
from benchmarks.manifests import path_of
from benchmarks.writes import Writes
from kimi_linear_operator.server.spec import SERVER


async def run(access: Access) -> None:
    """Write until this process is ended."""
    queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks, Connection.open(access) as connection:
        for _ in range(WORKERS):
            tasks.create_task(_work(access, queue))
        async for line in connection.watch(path_of(SERVER) + "?watch=true&resourceVersion=0"):
            event = json.loads(line)
            if event["type"] == "ADDED" and "observedGeneration" not in event["object"]["status"]:
                metadata = event["object"]["metadata"]
                queue.put_nowait((metadata["name"], metadata["uid"]))


async def _work(access: Access, queue: asyncio.Queue[tuple[str, str]]) -> None:
    writes = Writes()
    async with Connection.open(access) as connection:
        while True:
            await writes.send(connection, *await queue.get())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(Access.of(Path(os.environ["KUBECONFIG"]))))
