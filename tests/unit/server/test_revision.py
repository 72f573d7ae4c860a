"""The choice of a server's pod template: the server keeps its template until the owner asks for another."""

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.server import revision, unrequested
from kimi_linear_operator.server.applied_template import running_template
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.labels import ROLLOUT_ANNOTATION
from kimi_linear_operator.server.manifests import build_deployment, build_revision
from kimi_linear_operator.server.previous_status import was_rolled_back
from kimi_linear_operator.server.revision import History, Result, Revision
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.template_choice import RolloutState, TemplateChoice, choose, has_other_inputs
from kimi_linear_operator.server.template_inputs import explicit_inputs, template_inputs, unknown_fields
from kimi_linear_operator.weights.location import on_claim
from make import UID, make_condition, make_server, stored
from processor_time import cost

GOLDEN = Path(__file__).parents[2] / "golden"
LOCATED = RolloutState(location=on_claim("kimi", "instruct", "1" * 40))


def server(generation: int = 1, annotations: dict[str, str] | None = None, **spec: Any) -> KimiLinearServer:
    manifest = make_server(**spec)
    manifest["metadata"] |= {"generation": generation, "annotations": annotations or {}}
    return KimiLinearServer.model_validate(manifest)


OLD_TEMPLATE: Manifest = {"metadata": {}, "spec": {"containers": [{"name": "sglang", "image": "old"}]}}


def kept_by_older(number: int = 1, of: KimiLinearServer | None = None, **changes: Any) -> Revision:
    """Return the revision that an older version recorded for a server."""
    inputs = template_inputs((of or server()).spec)
    known = Revision(number, inputs, OLD_TEMPLATE, rollout="", uid=UID, generation=1)
    return replace(known, **changes)


def test_a_new_server_gets_this_versions_template() -> None:
    kept = choose(server(), History())
    assert (kept.current.number, kept.current.template, kept.offer) == (1, build_pod_template(server()), ())


def test_a_record_contains_everything_that_was_kept() -> None:
    kept = replace(choose(server(annotations={ROLLOUT_ANNOTATION: "x"}), History()).current, is_automatic=True)
    manifest = build_revision(server(), kept)
    assert manifest["metadata"]["name"] == "kimi-1"
    assert revision.read(manifest) == kept


_OF_NEWER = "kimi-linear.io/of-a-newer-version"


def test_a_record_keeps_what_only_another_version_knows() -> None:
    """Data never change, so the API server would refuse a record without a key. Annotations would be removed."""
    manifest = build_revision(server(), kept_by_older(is_automatic=True))
    manifest["data"]["reason"] = "of a newer version"
    manifest["metadata"]["annotations"] |= {_OF_NEWER: "1", "example.com/mine": "1"}
    found = revision.read(manifest)
    assert found
    written = build_revision(server(), replace(found, is_automatic=False))
    assert written["data"] == manifest["data"]
    assert written["metadata"]["annotations"][_OF_NEWER] == "1"
    assert "example.com/mine" not in written["metadata"]["annotations"]


def test_annotations_without_end_are_not_kept() -> None:
    manifest = build_revision(server(), kept_by_older())
    manifest["metadata"]["annotations"][_OF_NEWER] = "x" * 200_000
    found = revision.read(manifest)
    assert found
    assert _OF_NEWER not in build_revision(server(), found)["metadata"]["annotations"]


def test_the_unowned_inputs_are_recorded_and_read_again() -> None:
    kept = kept_by_older(unowned=(("engine", "version"), ("model", "variant")))
    assert revision.read(build_revision(server(), kept)) == kept


@pytest.mark.parametrize(
    "data", [None, [], {}, {"template": {}, "inputs": {}}, {"template": 1, "inputs": {}, "rollout": "", "uid": ""}]
)
def test_a_record_that_no_operator_wrote_is_ignored(data: object) -> None:
    assert revision.read({"metadata": {}, "revision": 1, "data": data}) is None


def test_the_same_inputs_keep_the_template_and_this_versions_is_offered() -> None:
    kept = choose(server(), History([kept_by_older()]))
    assert kept.current == kept_by_older()
    assert "spec.containers[sglang].image" in kept.offer
    assert kept.running is None


def test_the_record_with_the_highest_number_is_current() -> None:
    requested = server(generation=2, toolCallParser="enabled")
    older, current = kept_by_older(9), replace(choose(requested, History()).current, number=10)
    kept = choose(requested, History([current, older], deployed=9))
    assert (kept.current, kept.running) == (current, older)


@pytest.mark.parametrize(
    "inputs",
    [
        {"fieldOfANewerVersion": {"a": [1]}},
        {"engine": {"fieldOfANewerVersion": True}},
        {"engine": {"version": "v0.5.7", "extraPipPackages": ["sentencepiece", "tiktoken"]}},
        {"startup": {}, "drain": None},
    ],
    ids=["a field is unknown", "a nested field is unknown", "fields are missing", "fields are empty"],
)
def test_another_schema_with_the_same_meaning_keeps_the_template(inputs: Manifest) -> None:
    """The spec was written after the record, so its generation proves nothing."""
    assert choose(server(generation=2), History([kept_by_older(inputs=inputs)])).current.template == OLD_TEMPLATE


def test_a_changed_default_keeps_the_template_because_the_old_one_was_stored() -> None:
    stored = server(generation=2, startup={"timeoutSeconds": 1800})
    assert choose(stored, History([kept_by_older(of=stored)])).current.template == OLD_TEMPLATE


def test_an_unchanged_generation_keeps_the_template_whatever_the_spec_says() -> None:
    assert choose(server(toolCallParser="enabled"), History([kept_by_older()])).current.template == OLD_TEMPLATE


def test_inputs_that_this_version_refuses_are_compared_as_they_are() -> None:
    refused = {**template_inputs(server().spec), "hardware": "mi250x"}
    assert choose(server(generation=2), History([kept_by_older(inputs=refused)])).current.number == 2


@pytest.mark.parametrize(
    "change",
    [
        {"toolCallParser": "enabled"},
        {"engine": {"contextLength": 4096}},
        {"podTemplate": {"metadata": {"labels": {"a": "b"}}}},
        {"inheritedMetadata": {"labels": {"a": "b"}}},
        {"drain": {"timeoutSeconds": 1}},
    ],
    ids=str,
)
def test_changed_inputs_get_this_versions_template(change: Manifest) -> None:
    changed = server(generation=2, **change)
    kept = choose(changed, History([kept_by_older()], deployed=1))
    asked = Revision(2, template_inputs(changed.spec), build_pod_template(changed), rollout="", uid=UID, generation=2)
    assert replace(kept.current, defaulted=None) == asked
    assert kept.current.explicit_inputs == explicit_inputs(changed.spec)
    assert kept.running == kept_by_older()


@pytest.mark.parametrize(
    "change",
    [{"replicas": 3}, {"suspend": True}, {"rollout": {"strategy": "Surge"}}, {"service": {"port": 80}}],
    ids=str,
)
def test_changes_outside_the_inputs_keep_the_template(change: Manifest) -> None:
    assert choose(server(generation=2, **change), History([kept_by_older()])).current == kept_by_older()


@pytest.mark.parametrize(
    ("seen", "annotation", "is_taken"),
    [("", "1", True), ("1", "2", True), ("1", "1", False), ("1", None, False), ("", "", False)],
)
def test_a_new_value_of_the_annotation_takes_this_versions_template(
    seen: str, annotation: str | None, is_taken: bool
) -> None:
    annotations = {} if annotation is None else {ROLLOUT_ANNOTATION: annotation}
    kept = choose(server(annotations=annotations), History([kept_by_older(rollout=seen)]))
    assert (kept.current.number == 2) == is_taken
    if is_taken:
        assert (kept.current.rollout, kept.offer) == (annotation, ())


def test_an_automatic_rollout_takes_this_versions_template_only_if_it_is_new() -> None:
    taken = choose(server(), History([kept_by_older()]), state=RolloutState(is_chosen=True)).current
    assert (taken.number, taken.is_automatic, taken.template) == (2, True, build_pod_template(server()))
    newest = choose(server(), History()).current
    assert choose(server(), History([newest]), state=RolloutState(is_chosen=True)) == TemplateChoice(newest)


@pytest.mark.parametrize("case", sorted(path.parent.name for path in GOLDEN.glob("*/cr.yaml")))
def test_a_version_knows_all_inputs_that_it_has_recorded_itself(case: str) -> None:
    manifest = yaml.safe_load((GOLDEN / case / "cr.yaml").read_text())
    if manifest["kind"] == "KimiLinearServer":
        recorded = choose(KimiLinearServer.model_validate(stored(manifest)), History(), state=LOCATED).current
        assert unknown_fields(recorded.inputs) == unknown_fields(recorded.explicit_inputs) == ()


@pytest.mark.parametrize(
    ("inputs", "unknown"),
    [
        ({"auth": {"fieldOfANewerVersion": "x"}}, ("auth", "fieldOfANewerVersion")),
        ({"fieldOfANewerVersion": {"name": "x"}}, ("fieldOfANewerVersion", "name")),
    ],
    ids=["a field of a known object", "a whole object"],
)
def test_an_automatic_rollout_never_drops_inputs_of_another_version(inputs: Manifest, unknown: tuple[str, ...]) -> None:
    """A newer version built the pods from fields that this version does not know, and was then rolled back."""
    kept = kept_by_older(inputs={**template_inputs(server().spec), **inputs})
    seen = choose(server(), History([kept], deployed=1), state=RolloutState(is_chosen=True))
    assert (seen.current, seen.unknown) == (kept, (unknown,))
    # If somebody asks for the template, the server gets it.
    asked = choose(server(annotations={ROLLOUT_ANNOTATION: "1"}), History([kept], deployed=1)).current
    assert (asked.number, asked.is_automatic) == (2, False)


def test_an_automatic_rollout_never_drops_a_value_that_this_version_refuses() -> None:
    """Nobody had set the value, so this version leaves it out of the spec and of the recorded inputs."""
    path, value = ("security", "seccompProfile"), "Localhost"
    inputs = template_inputs(server().spec)
    kept = kept_by_older(inputs={**inputs, "security": {**inputs["security"], "seccompProfile": value}})
    history = History([kept], deployed=1).without({path: value})
    seen = choose(server(), history, state=RolloutState(is_chosen=True))
    assert (seen.current.number, seen.unknown) == (1, (path,))
    asked = choose(server(annotations={ROLLOUT_ANNOTATION: "1"}), history).current
    assert (asked.number, asked.is_automatic) == (2, False)


@pytest.mark.parametrize("reason", ["RolledBack", "TemplateRejected"])
def test_a_server_that_went_back_stays_there_under_a_crd_without_verification(reason: str) -> None:
    """An older CRD drops `verification`, and the generation stays the same."""
    right = replace(choose(server(), History()).current, result=Result(True, "right"))
    wrong = replace(choose(server(2, toolCallParser="enabled"), History([right], 1)).current, result=Result(False, ""))
    history = History([right, wrong], deployed=1)
    manifest = server(2, toolCallParser="enabled").model_copy(
        update={
            "status": {"observedGeneration": 2, "conditions": [make_condition("TemplateCurrent", "False", reason, "")]}
        }
    )
    went_back = was_rolled_back(manifest.status, 2)
    assert choose(manifest, history, state=RolloutState(is_unchanged=True, is_rolled_back=went_back)).deployed == right
    # The owner has switched the verification off.
    about = manifest.metadata.model_copy(update={"generation": 3})
    changed = manifest.model_copy(update={"metadata": about})
    assert choose(changed, history, state=RolloutState()).deployed == wrong


def test_a_number_is_never_used_twice() -> None:
    assert choose(server(), History(deployed=7)).current.number == 8


@pytest.mark.parametrize(("written", "number"), [(999_999_999, 10**9), (10**17, 2)])
def test_a_forged_number_on_a_deployment_leaves_room_for_later_numbers(written: int, number: int) -> None:
    current = choose(
        server(generation=2, toolCallParser="enabled"), History([kept_by_older()], deployed=written)
    ).current
    deployment = build_deployment(server(), current.template, current.number)
    assert (current.number, revision.number_on(deployment)) == (number, number)


def test_a_record_of_an_earlier_server_of_this_name_counts_by_its_inputs() -> None:
    """This happens after `--cascade=orphan`, because the generations of the new server begin at 1 again."""
    orphan = kept_by_older(uid="another")
    assert choose(server(), History([orphan])).current == orphan
    assert choose(server(toolCallParser="enabled"), History([orphan])).current.number == 2


def test_a_record_of_a_newer_spec_shows_that_the_watch_is_late() -> None:
    assert History([kept_by_older(generation=3)]).is_newer_than(server(generation=2))
    assert not History([kept_by_older(generation=3)]).is_newer_than(server(generation=3))
    assert not History([kept_by_older(uid="another", generation=3)]).is_newer_than(server(generation=1))


def _owned(template: Any) -> Manifest:
    """Return a template's set of fields, as the API server records it for the manager that applied the template."""
    if isinstance(template, dict):
        return {f"f:{name}": _owned(item) for name, item in template.items()}
    if isinstance(template, list) and template and all(isinstance(item, dict) and "name" in item for item in template):
        return {f'k:{{"name":"{item["name"]}"}}': {".": {}, **_owned(item)} for item in template}
    return {}


def deployment_of(template: Manifest, *others: Manifest) -> Manifest:
    """Return a Deployment whose template we applied; others own these fields of it."""
    entries = [(MANAGER, "Apply", _owned(template)), *(("kubectl-edit", "Update", fields) for fields in others)]
    managed = [
        {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": {"f:template": fields}}}
        for manager, operation, fields in entries
    ]
    return {"metadata": {"managedFields": managed}, "spec": {"template": copy.deepcopy(template)}}


def test_the_running_template_is_found_as_it_was_applied() -> None:
    deployment = deployment_of(OLD_TEMPLATE, {"f:spec": {"f:containers": {'k:{"name":"mesh"}': {".": {}}}}})
    pod = deployment["spec"]["template"]["spec"]
    pod |= {"dnsPolicy": "ClusterFirst", "containers": [*pod["containers"], {"name": "mesh", "image": "mesh:1"}]}
    assert running_template(build_pod_template(server()), deployment) == OLD_TEMPLATE


@pytest.mark.parametrize(
    ("touched", "edit"),
    [
        (
            {"f:spec": {"f:containers": {'k:{"name":"sglang"}': {"f:image": {}}}}},
            lambda pod: pod["containers"][0].update(image="edited"),
        ),
        (
            {"f:spec": {"f:volumes": {'k:{"name":"cache"}': {"f:hostPath": {}}}}},
            lambda pod: pod["volumes"][1].update(hostPath={"path": "/x"}) or pod["volumes"][1].pop("emptyDir"),
        ),
    ],
    ids=["a field", "the source of a volume"],
)
def test_an_edited_template_is_not_adopted(touched: Manifest, edit: Any) -> None:
    deployment = deployment_of(build_pod_template(server()), touched)
    edit(deployment["spec"]["template"]["spec"])
    assert running_template(build_pod_template(server()), deployment) is None


def test_with_too_many_managers_no_running_template_is_found() -> None:
    idle: Manifest = {"f:spec": {"f:containers": {'k:{"name":"mesh"}': {".": {}}}}}
    template = build_pod_template(server())
    assert running_template(build_pod_template(server()), deployment_of(template, *[idle] * 90))
    assert running_template(build_pod_template(server()), deployment_of(template, *[idle] * 200)) is None


def test_many_managers_of_a_large_template_are_examined_in_little_time() -> None:
    """Each manager owns one of our fields, so the whole template would be compared for each of them."""
    template = build_pod_template(server())
    engine = template["spec"]["containers"][0]
    name = engine["env"][0]["name"]
    ours: Manifest = {"f:spec": {"f:containers": {'k:{"name":"sglang"}': {"f:env": {f'k:{{"name":"{name}"}}': {}}}}}}
    for managers in (4, 5, 10, 90):
        deployment = deployment_of(template, *[ours] * managers)
        deployment["spec"]["template"]["spec"]["containers"][0]["env"] += [{"name": f"X{n}"} for n in range(18_000)]
        # A comparison for each of 90 managers would cost 130.
        assert cost(partial(running_template, build_pod_template(server()), deployment), tries=3) < 20


def test_thousands_of_items_that_one_manager_claims_to_own_take_little_time() -> None:
    claimed: Manifest = {"f:spec": {"f:volumes": {f'k:{{"{number:x}":1}}': {} for number in range(65_000)}}}
    deployment = deployment_of(build_pod_template(server()), claimed)
    assert running_template(build_pod_template(server()), deployment) is None
    # It costs about 1.3. To decode the key fields of all these items would cost 30.
    assert cost(lambda: running_template(build_pod_template(server()), deployment), tries=3) < 10


def test_a_null_that_removes_a_field_is_a_change_of_the_spec() -> None:
    container = {"name": "sglang"}
    one, other = (
        server(podTemplate={"spec": {"containers": [changed]}})
        for changed in (container, container | {"lifecycle": None})
    )
    assert template_inputs(one.spec) != template_inputs(other.spec)


def owned(*fields: Manifest, subresource: str = "") -> list[Manifest]:
    """Return managed fields of a server: each manager owns these fields of the spec."""
    return [{"manager": "kubectl", "subresource": subresource, "fieldsV1": {"f:spec": item}} for item in fields]


_EARLIER, _THEN, _LATER, _NOW = (f"2026-11-29T0{hour}:00:00Z" for hour in range(4))


def as_asked(seen: KimiLinearServer, record: Revision, managed_fields: list[Manifest]) -> KimiLinearServer:
    """Return a server without fields for which nobody has asked since the record was made."""
    uncertain = unrequested.uncertain_fields(seen, History([record]), now=_NOW)
    stored = {"metadata": {"managedFields": managed_fields}, "spec": explicit_inputs(seen.spec)}
    return unrequested.without(seen, unrequested.unrequested(uncertain, stored), record)


def is_requested(seen: KimiLinearServer, record: Revision, managed_fields: list[Manifest]) -> bool:
    return choose(as_asked(seen, record, managed_fields), History([record], deployed=record.number)).current != record


_SIZE: Manifest = {"f:tensorParallelism": {}}
_FRACTION: Manifest = {"f:engine": {"f:memoryFractionStatic": {}}}
_WITH_FRACTION: dict[str, Any] = {"engine": {"memoryFractionStatic": 0.85}}


@pytest.mark.parametrize(
    "managed_fields",
    [
        owned(_SIZE),
        owned({**_SIZE, "f:engine": {}}),
        owned({"f:engine": {".": {}, "f:version": {}}}),
        [*owned(_SIZE), *owned(_FRACTION, subresource="status")],
    ],
    ids=["another field", "the empty object around it", "a sibling field", "a status"],
)
def test_an_unrequested_default_does_not_count_as_requested(managed_fields: list[Manifest]) -> None:
    defaulted = server(generation=2, **_WITH_FRACTION)
    assert has_other_inputs(defaulted, kept_by_older())
    assert as_asked(defaulted, kept_by_older(), managed_fields).spec == server().spec
    assert not is_requested(defaulted, kept_by_older(), managed_fields)


def test_an_unrequested_default_is_not_offered() -> None:
    newest = choose(server(), History()).current
    seen = as_asked(server(generation=2, **_WITH_FRACTION), newest, owned(_SIZE))
    assert choose(seen, History([newest], deployed=1), state=RolloutState(is_chosen=True)) == TemplateChoice(
        newest, running=newest
    )


def test_another_requested_change_brings_no_unrequested_default() -> None:
    requested: dict[str, Any] = {"engine": {"contextLength": 4096}}
    defaulted = server(generation=2, engine={**requested["engine"], "memoryFractionStatic": 0.85})
    seen = as_asked(defaulted, kept_by_older(), owned(_SIZE, {"f:engine": {"f:contextLength": {}}}))
    current = choose(seen, History([kept_by_older()], deployed=1)).current
    asked = server(generation=2, **requested)
    assert (current.inputs, current.template) == (template_inputs(asked.spec), build_pod_template(asked))


def test_an_object_with_only_unrequested_fields_is_left_out_as_a_whole() -> None:
    defaulted = server(generation=2, replicas=3, model={"tokenSecretRef": {"name": "hub"}})
    assert as_asked(defaulted, kept_by_older(), owned(_SIZE)).spec == server(replicas=3).spec


@pytest.mark.parametrize(
    "managed_fields", [owned(_SIZE, _FRACTION), []], ids=["the field has an owner", "no owner is known"]
)
def test_a_value_that_a_user_set_counts_as_requested_even_if_it_is_the_default(managed_fields: list[Manifest]) -> None:
    assert is_requested(server(generation=2, **_WITH_FRACTION), kept_by_older(), managed_fields)


@pytest.mark.parametrize(
    ("had", "has"),
    [
        ({"tensorParallelism": 2}, {}),
        (_WITH_FRACTION, {}),
        ({"model": {"tokenSecretRef": {"name": "hub"}}}, {}),
        ({"podTemplate": {"spec": {"nodeName": None}}}, {"podTemplate": {"spec": {}}}),
    ],
    ids=["a field with a default", "a field without a default", "an object", "a null"],
)
def test_a_removed_value_counts_as_a_users_change_although_nobody_owns_it_now(had: Manifest, has: Manifest) -> None:
    """This happens when the user removes a field from a file for `kubectl apply --server-side`."""
    record = kept_by_older(of=server(**had))
    assert is_requested(server(generation=2, **has), record, owned({"f:replicas": {}}))


def test_a_list_counts_as_one_field_of_its_owner() -> None:
    changed = server(generation=2, podTemplate={"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}})
    tolerations: Manifest = {"f:podTemplate": {"f:spec": {"f:tolerations": {}}}}
    assert is_requested(changed, kept_by_older(), owned(tolerations))
    assert not is_requested(changed, kept_by_older(), owned(_SIZE))


def test_a_default_of_a_field_that_the_record_lacks_does_not_count_as_requested() -> None:
    inputs = template_inputs(server().spec)
    older = kept_by_older(inputs={name: value for name, value in inputs.items() if name != "startup"})
    defaulted = server(generation=2, startup={"timeoutSeconds": 1800})
    assert not is_requested(defaulted, older, owned(_SIZE))


def test_an_unapplied_automatic_template_of_another_version_is_given_up() -> None:
    ran, begun = kept_by_older(1), kept_by_older(2, is_automatic=True)
    assert choose(server(), History([ran, begun], deployed=1)).current == ran
    newest = choose(server(), History([ran, begun], deployed=1), state=RolloutState(is_chosen=True)).current
    assert (newest.number, newest.is_automatic) == (3, True)


@pytest.mark.parametrize(
    ("changes", "deployed"),
    [({}, 2), ({}, 7), ({"template": build_pod_template(server())}, 1)],
    ids=["the template runs", "the running template is unknown", "this version builds the same"],
)
def test_an_automatic_rollout_continues_if_its_template_may_run_or_is_built_the_same(
    changes: Manifest, deployed: int
) -> None:
    begun = replace(kept_by_older(2, is_automatic=True), **changes)
    assert choose(server(), History([kept_by_older(1), begun], deployed=deployed)).current == begun


def test_no_change_of_a_user_ends_an_automatic_rollout() -> None:
    """The new pods have the newest template, too. Only pods that serve show that it works."""
    annotated = server(annotations={ROLLOUT_ANNOTATION: "now"})
    other_inputs = {**template_inputs(server().spec), "toolCallParser": "enabled"}
    for request, inputs in ((annotated, template_inputs(server().spec)), (server(generation=2), other_inputs)):
        begun = kept_by_older(2, is_automatic=True, template=build_pod_template(request), inputs=inputs)
        current = choose(request, History([begun], deployed=2)).current
        assert (current.number, current.is_automatic, current.template) == (3, True, begun.template)
    older = kept_by_older(2, is_automatic=True)
    other_pods = server(generation=2, engine={"contextLength": 4096})
    for request in (annotated, other_pods):
        current = choose(request, History([older], deployed=2)).current
        assert (current.number, current.is_automatic) == (3, True)


def test_pods_never_go_back_to_an_older_record_if_only_their_own_record_is_lost() -> None:
    applied, older = build_pod_template(server(generation=2, engine={"contextLength": 4096})), kept_by_older(1)
    request = server(generation=2, engine={"contextLength": 4096})
    history = History([older], deployed=2, taken={1})
    current = choose(request, history, applied=applied, state=RolloutState(is_unchanged=True)).current
    assert (current.number, current.template) == (2, applied)


_REQUESTED: dict[str, Any] = {"toolCallParser": "enabled"}


@pytest.mark.parametrize(
    ("requested", "rollout"),
    [(server(generation=2, **_REQUESTED), ""), (server(annotations={ROLLOUT_ANNOTATION: "now"}), "now")],
    ids=["a change of the spec", "the annotation"],
)
def test_a_requested_template_that_another_version_never_applied_is_built_again(
    requested: KimiLinearServer, rollout: str
) -> None:
    begun = kept_by_older(2, of=requested, rollout=rollout, generation=requested.metadata.generation)
    current = choose(requested, History([kept_by_older(1), begun], deployed=1)).current
    assert (current.number, current.template, current.rollout) == (3, build_pod_template(requested), rollout)
    ours = replace(begun, template=build_pod_template(requested))
    assert choose(requested, History([kept_by_older(1), ours], deployed=1)).current == ours


@pytest.mark.parametrize(
    "template", [OLD_TEMPLATE, build_pod_template(server(**_REQUESTED))], ids=["another's", "ours"]
)
def test_a_change_that_never_ran_and_is_taken_back_keeps_the_pods(template: Manifest) -> None:
    begun = kept_by_older(2, of=server(**_REQUESTED), generation=2, template=template)
    kept = choose(server(generation=3), History([kept_by_older(1), begun], deployed=1))
    assert (kept.current, kept.running) == (kept_by_older(1), kept_by_older(1))
    assert kept.offer
    asked_anew = choose(server(3, {ROLLOUT_ANNOTATION: "now"}), History([kept_by_older(1), begun], deployed=1)).current
    assert (asked_anew.number, asked_anew.template) == (3, build_pod_template(server()))
