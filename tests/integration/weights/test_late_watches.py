"""The result of a download is kept even if one watch is later than another one."""

from integration.namespace import condition_of
from integration.sandbox import Sandboxes
from integration.waiting import wait_for
from integration.weights_pods import FIRST, create, finish, jobs, run, volume_of
from kimi_linear_operator.kubernetes.kinds import JOB, POD
from kimi_linear_operator.weights.spec import WEIGHTS

# The operator notices a dead watch only after 70 s without an event.
BEFORE_THE_NOTICE = 40.0


def test_a_download_whose_end_no_watch_has_shown_yet_is_complete_and_keeps_its_job(sandboxes: Sandboxes) -> None:
    """The watch of pods has its own connection, which can be dead for a minute before anybody notices it."""
    with sandboxes.open() as box, volume_of(box.namespace):
        box.operator.start()
        create(box.namespace)
        run(box.namespace)
        reasons = [""]

        def reason() -> str:
            ready = condition_of(box.namespace.existing(WEIGHTS, "kimi"), "Ready")
            reasons.append(str(ready.get("reason")))
            return reasons[-1]

        wait_for(reason, "the download runs", "WeightsDownloading".__eq__)
        box.wait_until_lists_rest()
        box.proxy.freeze_watches(lambda call: call.concerns(POD))
        [before] = jobs(box.namespace)
        finish(box.namespace)
        wait_for(reason, "the weights are complete", "WeightsComplete".__eq__, BEFORE_THE_NOTICE)
        assert "NoResult" not in reasons
        assert box.namespace.existing(WEIGHTS, "kimi")["status"]["commit"] == FIRST
        [after] = jobs(box.namespace)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert not box.proxy.count(lambda call: call.method == "DELETE" and call.concerns(JOB))
