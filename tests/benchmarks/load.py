"""The requests of users and of Kubernetes' own controllers, sixteen at a time."""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.connection import MERGE_PATCH, Access, Connection, Job, do_all
from benchmarks.manifests import (
    PLACEHOLDER,
    README,
    Template,
    build_server,
    child_name,
    controller_writes,
    path_of,
    server_names,
)
from benchmarks.writes import Writes
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, SERVICE, Manifest
from kimi_linear_operator.server.spec import SERVER

# A client that changes thousands at once is a program, so it has a field manager.
_AS_GITOPS = "?fieldManager=gitops"

_Do = Callable[[Connection, str], Awaitable[None]]


@dataclass
class Load:
    """Sends requests for many servers of a spec, and counts the servers that are done."""

    access: Access
    spec: Manifest = field(default_factory=lambda: README)
    done: int = 0

    async def create_servers(self, names: Sequence[str]) -> None:
        template = Template.of(build_server(self.spec))

        async def create(connection: Connection, name: str) -> None:
            await connection.send("POST", path_of(SERVER) + _AS_GITOPS, template.named(name))

        await do_all(self.access, self._jobs(create, names))

    async def change_servers(self, names: Sequence[str], spec: Manifest) -> None:
        """Merge changes into the spec of each server."""
        body = json.dumps({"spec": spec}).encode()

        async def change(connection: Connection, name: str) -> None:
            await connection.send("PATCH", path_of(SERVER, name) + _AS_GITOPS, body, MERGE_PATCH)

        await do_all(self.access, self._jobs(change, names))

    async def play_controllers(self, names: Sequence[str]) -> None:
        """Create a pod for each server. Report that the pod is ready and the Deployment is complete."""
        writes = list(controller_writes(self.spec))

        async def play(connection: Connection, name: str) -> None:
            for method, path, content_type, template in writes:
                await connection.send(method, path.replace(PLACEHOLDER, name), template.named(name), content_type)

        await do_all(self.access, self._jobs(play, names))

    async def warm_up(self, count: int) -> None:
        """Create and remove servers with their children, so that the API server has done its one-time work."""
        template, writes = Template.of(build_server()), Writes()

        async def pass_by(connection: Connection, name: str) -> None:
            server = json.loads(await connection.send("POST", path_of(SERVER), template.named(name)))
            await writes.send(connection, name, server["metadata"]["uid"])
            # The server last, because Kubernetes would delete its children, too.
            for kind in (DEPLOYMENT, SERVICE, REVISION, SERVER):
                await connection.send("DELETE", path_of(kind, child_name(kind, name)))

        await do_all(self.access, self._jobs(pass_by, server_names(count, "warmup")))

    def _jobs(self, do: _Do, names: Sequence[str]) -> Iterator[Job]:
        self.done = 0

        def job(name: str) -> Job:
            async def run(connection: Connection) -> None:
                await do(connection, name)
                self.done += 1

            return run

        return map(job, names)
