"""A verdict is right even if one watch is later than another one."""

from integration.client import Client
from integration.client_pods import LOW, create_benchmark, end_suite, running_pod
from integration.kubelet import HELD_SPEC, held_pod, report_ready
from integration.sandbox import Sandboxes
from integration.waiting import wait_for
from kimi_linear_operator.benchmark.spec import BENCHMARK
from kimi_linear_operator.kubernetes.kinds import POD


def test_a_restart_of_the_server_that_no_watch_has_shown_yet_invalidates_the_suite(
    sandboxes: Sandboxes, client: Client
) -> None:
    """The watch of pods has its own connection, which can be dead for a minute before anybody notices it."""
    with sandboxes.open() as box:
        box.operator.start()
        box.namespace.create_server("kimi", HELD_SPEC)
        pod = held_pod(box.namespace)
        report_ready(box.namespace, pod)
        box.namespace.wait_until_ready("kimi")
        create_benchmark(box.namespace, "nightly", suites=LOW)
        running_pod(box.namespace, "nightly", "speed-low")
        box.wait_until_lists_rest()
        box.proxy.freeze_watches(lambda call: call.concerns(POD))
        [container] = box.namespace.existing(POD, pod["metadata"]["name"])["status"]["containerStatuses"]
        status = {"status": {"containerStatuses": [{**container, "restartCount": 1}]}}
        client.patch(POD, box.namespace.name, pod["metadata"]["name"], status, "status")
        end_suite(box.namespace, "nightly", "speed-low")
        ended = wait_for(
            lambda: box.namespace.existing(BENCHMARK, "nightly"),
            "the benchmark has a verdict",
            lambda benchmark: benchmark.get("status", {}).get("verdict", "") not in ("", "Pending"),
        )
        assert ended["status"]["verdict"] == "Invalid"
        [result] = ended["status"]["results"]
        assert "restarted" in str(result)
