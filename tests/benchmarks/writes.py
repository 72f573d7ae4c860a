"""The operator's writes for a new server, as prepared bytes."""

from dataclasses import dataclass, field

from benchmarks.connection import APPLY, MERGE_PATCH, Connection
from benchmarks.manifests import UID, Template, build_first_status, build_main_children, child_name, path_of
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, SERVICE, Kind
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.server.spec import SERVER

_APPLIED = f"?fieldManager={MANAGER}"


def _children() -> dict[Kind, Template]:
    """Return the applied object, if no object with its name exists."""
    return {
        kind: Template.of({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "1"}})
        for kind, manifest in build_main_children().items()
    }


def _report() -> Template:
    return Template.of({"metadata": {"uid": UID}, "status": build_first_status()})


@dataclass(frozen=True)
class Writes:
    """Server-side applies of the record of the pods, the Service and the Deployment, and then the status."""

    children: dict[Kind, Template] = field(default_factory=_children)
    report: Template = field(default_factory=_report)

    async def send(self, connection: Connection, name: str, uid: str) -> None:
        for kind in (REVISION, SERVICE, DEPLOYMENT):
            path = path_of(kind, child_name(kind, name)) + _APPLIED
            await connection.send("PATCH", path, self.children[kind].named(name, uid), APPLY)
        path = path_of(SERVER, name, "status") + f"?fieldManager={MANAGER}"
        await connection.send("PATCH", path, self.report.named(name, uid), MERGE_PATCH)
