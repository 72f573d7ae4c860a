"""A user edits the record on the runner of a benchmark. The next suite gets nothing that the rules refuse."""

from integration.client_pods import create_for_endpoint, end_suite, running_pod
from integration.namespace import Namespace
from integration.waiting import wait_for
from kimi_linear_operator.benchmark.labels import FIELDS_ANNOTATION
from kimi_linear_operator.kubernetes import access
from kimi_linear_operator.kubernetes.kinds import CONFIG_MAP


def test_an_edited_record_of_fields_changes_neither_the_measurement_nor_the_access_of_the_pod(bare: Namespace) -> None:
    suites = [{"name": "speed-low"}, {"name": "second", "speed": {"numPrompts": 10}}]
    create_for_endpoint(bare, "nightly", suites=suites)
    running_pod(bare, "nightly", "speed-low")
    wait_for(lambda: bare.find(CONFIG_MAP, "nightly-runner"), "there is a runner")
    bare.edit(CONFIG_MAP, "nightly-runner", {"metadata": {"annotations": {FIELDS_ANNOTATION: "[]"}}})
    end_suite(bare, "nightly", "speed-low")
    second = running_pod(bare, "nightly", "second")
    assert access.beyond_pod(second) == []
    assert "--num-prompts" in str(second["spec"]["containers"])
