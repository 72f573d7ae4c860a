"""A user edits the record on the Job of weights. The next Job gets no access beyond its pod."""

import json

from integration.namespace import Namespace
from integration.processes_under_test import Operator
from integration.waiting import stays, wait_for
from integration.weights_pods import jobs, weights_manifest
from kimi_linear_operator.kubernetes import access
from kimi_linear_operator.kubernetes.kinds import JOB, Manifest
from kimi_linear_operator.weights.labels import INPUTS_ANNOTATION
from kimi_linear_operator.weights.spec import WEIGHTS

# The operator trusts the record of a Job only after some seconds.
_LATE_SECONDS = 4.0
SIDE: Manifest = {"name": "fetch", "tty": False}
EVIL: Manifest = {
    "containers": [
        {**SIDE, "securityContext": {"privileged": True, "allowPrivilegeEscalation": True}},
    ],
    "volumes": [{"name": "node", "hostPath": {"path": "/"}}],
}


def test_the_record_of_a_job_gives_no_pod_access_beyond_itself(operator: Operator, namespace: Namespace) -> None:
    overlay = {"spec": {"containers": [SIDE], "volumes": [{"name": "node", "emptyDir": {}}]}}
    weights = weights_manifest("kimi", namespace.name, podTemplate=overlay, volume={"size": "200Gi"})
    namespace.client.apply(WEIGHTS, weights, "tenant")
    [first] = wait_for(lambda: jobs(namespace), "there is a Job", lambda found: len(found) == 1)
    stays(lambda: None, "the record is old enough", lambda _: True, _LATE_SECONDS)
    record = json.loads(first["metadata"]["annotations"][INPUTS_ANNOTATION])
    record["inputs"]["podTemplate"]["spec"] = EVIL
    annotations = {INPUTS_ANNOTATION: json.dumps(record)}
    namespace.edit(JOB, first["metadata"]["name"], {"metadata": {"annotations": annotations}})
    # Another field manager asks for another image. So the operator makes another Job.
    changed = weights_manifest("kimi", namespace.name, image="registry.example.com/sglang:1")
    namespace.client.apply(WEIGHTS, changed, "another")

    def has_other_job(found: list[Manifest]) -> bool:
        return any(job["metadata"]["uid"] != first["metadata"]["uid"] for job in found)

    found = wait_for(lambda: jobs(namespace), "the operator has made another Job", has_other_job)
    assert access.beyond_pod(*(job["spec"]["template"] for job in found)) == []
