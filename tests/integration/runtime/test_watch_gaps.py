"""Lists find changes that no watch has shown, and deleted objects are not created again."""

from integration.client import path_of
from integration.faults import Call, end_with, error_event, refuse
from integration.namespace import Namespace
from integration.sandbox import Sandbox
from integration.waiting import stays, wait_for
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, SERVICE
from kimi_linear_operator.kubernetes.metadata import MANAGED_BY, MANAGER
from kimi_linear_operator.server.labels import SERVER_LABEL
from kimi_linear_operator.server.spec import SERVER

# kopf waits up to half a minute before it watches again. The following list comes soon.
_HEALING_SECONDS = 25.0
# The garbage collector looks for new kinds every 30 seconds, and ours may be younger.
_COLLECTION_SECONDS = 45.0
_QUIET_SECONDS = 4.0


def test_a_deletion_that_no_watch_shows_is_noticed(sandbox: Sandbox) -> None:
    namespace, proxy = sandbox.namespace, sandbox.proxy
    _settle(sandbox, "kept", "gone")
    with proxy.fault(refuse(503), _is_watch):
        proxy.cut_watches()
        namespace.delete(SERVER, "gone")
        namespace.delete(DEPLOYMENT, "kept")
        _wait_until_collected(namespace, "gone")
        begin = len(proxy.calls)
        version = int(namespace.client.request("GET", path_of(SERVER, namespace.name))["metadata"]["resourceVersion"])
        # As the API server does when it has forgotten later changes.
        proxy.begin(
            end_with(error_event(410)), lambda call: _is_watch(call) and int(call.query["resourceVersion"]) <= version
        )

    wait_for(lambda: namespace.find(DEPLOYMENT, "kept"), "there is a Deployment again", seconds=_HEALING_SECONDS)
    namespace.wait_until_ready("kept")
    _touch_child(namespace, "gone")
    stays(
        lambda: _writes(sandbox, begin, "gone"),
        "nothing is created for the deleted server",
        _is_nothing,
        _QUIET_SECONDS,
    )


def test_children_of_a_deleted_server_are_not_created_again_while_its_watch_is_frozen(sandbox: Sandbox) -> None:
    namespace, proxy = sandbox.namespace, sandbox.proxy
    _settle(sandbox, "gone")
    begin = len(proxy.calls)
    proxy.freeze_watches(lambda call: call.concerns(SERVER))
    namespace.delete(SERVER, "gone")
    # The watches of its children show their deletions, one by one.
    wait_for(
        lambda: namespace.find(DEPLOYMENT, "gone") is None,
        "the garbage collector has begun",
        seconds=_COLLECTION_SECONDS,
    )
    stays(
        lambda: _writes(sandbox, begin, "gone"),
        "nothing is created for the deleted server",
        _is_nothing,
        _QUIET_SECONDS,
    )


def _settle(sandbox: Sandbox, *servers: str) -> None:
    """Create servers, and wait for the list after the operator's start.

    Otherwise this list would hide lost events of a watch.
    """
    for name in servers:
        sandbox.namespace.create_server(name, {"tensorParallelism": 1})
    for name in servers:
        sandbox.namespace.wait_until_ready(name)
    sandbox.wait_for_resync()


def _is_watch(call: Call) -> bool:
    return call.is_watch


def _is_nothing(calls: list[str]) -> bool:
    return not calls


def _writes(sandbox: Sandbox, begin: int, server: str) -> list[str]:
    calls = sandbox.proxy.calls[begin:]
    return [f"{call.method} {call.path}" for call in calls if call.is_write and f"/{server}" in call.path]


def _wait_until_collected(namespace: Namespace, server: str) -> None:
    children = {"labelSelector": f"{SERVER_LABEL}={server}"}
    wait_for(
        lambda: [
            item for kind in (DEPLOYMENT, SERVICE) for item in namespace.client.list(kind, namespace.name, children)
        ],
        f"the children of {server} are gone",
        lambda left: not left,
        _COLLECTION_SECONDS,
    )


def _touch_child(namespace: Namespace, server: str) -> None:
    """Trigger a pass over a server by creating an object with the label of its child."""
    labels = {MANAGED_BY: MANAGER, SERVER_LABEL: server}
    metadata = {"name": "stray", "namespace": namespace.name, "labels": labels}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}
    namespace.client.create(SERVICE, service)
