"""Users edit and delete the records of a server at the real API server.

No record gives its pods access beyond themselves, and without a record the pods stay as they are.
"""

import json

import pytest

from integration.client import path_of
from integration.namespace import Namespace, Spec, server_manifest
from integration.waiting import wait_for
from kimi_linear_operator.kubernetes import access
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Manifest
from kimi_linear_operator.server.labels import AUTOMATIC_ANNOTATION, TEMPLATE_ANNOTATION, VERIFICATION_ANNOTATION
from kimi_linear_operator.server.spec import SERVER

pytestmark = pytest.mark.usefixtures("operator")

SIDE: Manifest = {"name": "side", "image": "a", "tty": False}
MOUNT = {"name": "node", "mountPath": "/node"}
EVIL: Manifest = {
    "containers": [{**SIDE, "securityContext": {"privileged": True}, "volumeMounts": [MOUNT]}],
    "volumes": [{"name": "node", "hostPath": {"path": "/"}}],
}
HARMLESS: Manifest = {"containers": [SIDE], "volumes": [{"name": "node", "emptyDir": {}}]}


def _apply(namespace: Namespace, manager: str, spec: Spec) -> None:
    namespace.client.apply(SERVER, server_manifest("kimi", namespace.name, spec), manager)


def _start(namespace: Namespace, **spec: object) -> None:
    _apply(namespace, "tenant", {"tensorParallelism": 1, "podTemplate": {"spec": HARMLESS}, **spec})
    namespace.wait_until_ready("kimi")


def _change_something(namespace: Namespace) -> None:
    """Change another input as another field manager, and wait until the pods have it."""
    _apply(namespace, "another", {"engine": {"extraArgs": ["--log-level=info"]}})
    wait_for(
        lambda: namespace.deployment("kimi"),
        "the change is applied",
        lambda found: "--log-level=info" in str(found["spec"]["template"]),
    )


def _reached(namespace: Namespace, *names: str) -> list[str]:
    return access.beyond_pod(*(namespace.existing(DEPLOYMENT, name)["spec"]["template"] for name in names))


def test_a_record_that_a_user_has_made_gives_no_pod_access_beyond_itself(namespace: Namespace) -> None:
    _start(namespace)
    own = dict(namespace.existing(REVISION, "kimi-1"))
    data = json.loads(json.dumps(own["data"]))
    data["inputs"]["podTemplate"]["spec"] = EVIL
    about = {name: own["metadata"][name] for name in ("namespace", "labels", "ownerReferences")}
    # With this mark, the operator goes on with the record.
    about["annotations"] = {"kimi-linear.io/automatic-rollout": "true"}
    forged = {"apiVersion": REVISION.api_version, "kind": REVISION.kind, "revision": 7}
    namespace.client.apply(
        REVISION,
        {**forged, "metadata": {**about, "name": "kimi-7"}, "data": json.loads(json.dumps(data, sort_keys=True))},
        "tenant",
    )
    wait_for(
        lambda: namespace.deployment("kimi")["metadata"]["annotations"].get("kimi-linear.io/revision"),
        "the Deployment has the template of the record",
        lambda number: number == "7",
    )
    _change_something(namespace)
    assert _reached(namespace, "kimi") == []


def test_the_record_of_a_router_gives_no_pod_access_beyond_itself(namespace: Namespace) -> None:
    _start(namespace, router={})
    router = namespace.existing(DEPLOYMENT, "kimi-router")
    record = json.loads(router["metadata"]["annotations"][TEMPLATE_ANNOTATION])
    record["inputs"]["podTemplate"], record["unowned"] = {"spec": EVIL}, [["podTemplate"]]
    annotations = {TEMPLATE_ANNOTATION: json.dumps(record)}
    namespace.edit(DEPLOYMENT, "kimi-router", {"metadata": {"annotations": annotations}})
    # Nobody owns the podTemplate any more.
    about = [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]
    server = path_of(SERVER, namespace.name, "kimi")
    namespace.client.send("PATCH", server, about, {}, "application/json-patch+json")
    changed = {"containers": [{**SIDE, "securityContext": {"privileged": False}}], "volumes": HARMLESS["volumes"]}
    namespace.edit(SERVER, "kimi", {"spec": {"podTemplate": {"spec": changed}}})
    _change_something(namespace)
    assert _reached(namespace, "kimi", "kimi-router") == []


def test_a_mark_that_a_user_sets_on_the_record_of_a_server_that_serves_goes(namespace: Namespace) -> None:
    """The next version would otherwise wait for this server, and no other server would get its pods."""
    namespace.create_server("kimi", {"tensorParallelism": 1})
    namespace.wait_until_ready("kimi")
    mark = {"metadata": {"annotations": {AUTOMATIC_ANNOTATION: "true"}}}
    assert AUTOMATIC_ANNOTATION in namespace.edit(REVISION, "kimi-1", mark)["metadata"]["annotations"]
    wait_for(
        lambda: namespace.existing(REVISION, "kimi-1")["metadata"]["annotations"],
        "the mark is gone",
        lambda annotations: AUTOMATIC_ANNOTATION not in annotations,
    )


def test_a_deleted_record_is_made_again_although_an_older_one_exists(namespace: Namespace) -> None:
    """A server with `verification` keeps the record of its last verified pods. Its pods must not go back to these."""
    namespace.create_server("kimi", {"tensorParallelism": 1})
    namespace.wait_until_ready("kimi")
    passed = json.dumps({"passed": True, "message": "all answers were right"})
    namespace.edit(REVISION, "kimi-1", {"metadata": {"annotations": {VERIFICATION_ANNOTATION: passed}}})
    namespace.change_server("kimi", {"engine": {"contextLength": 4096}})
    wait_for(lambda: namespace.find(REVISION, "kimi-2"), "the pods of the new spec have a record")
    namespace.wait_until_ready("kimi")
    record = namespace.existing(REVISION, "kimi-2")
    assert namespace.find(REVISION, "kimi-1")
    pods = namespace.deployment("kimi")["spec"]["template"]
    namespace.delete(REVISION, "kimi-2")
    wait_for(lambda: namespace.find(REVISION, "kimi-2"), "there is a record again")
    namespace.wait_until_ready("kimi")
    assert namespace.existing(REVISION, "kimi-2")["data"]["template"] == record["data"]["template"]
    assert namespace.deployment("kimi")["spec"]["template"] == pods
