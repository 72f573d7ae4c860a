"""Defaults from the CRD or the models of another version: in items of lists, in place of nulls, and in records."""

from dataclasses import replace
from typing import Any

import pytest

from kimi_linear_operator.kubernetes import ownership, stored
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.metadata import MANAGER
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.kubernetes.unrequested import Answer, UncertainFields
from kimi_linear_operator.server import revision, unrequested
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.manifests import build_revision
from kimi_linear_operator.server.revision import History, Revision, Seen
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.template_choice import RolloutState, abandons_newest, choose
from kimi_linear_operator.server.template_inputs import explicit_inputs, template_inputs
from make import UID, make_condition, make_server

_CREATED, _SINCE, _NOW = "2026-11-29T01:00:00Z", "2026-11-29T02:00:00Z", "2026-11-29T03:00:00Z"
OLD_TEMPLATE: Manifest = {"metadata": {}, "spec": {"containers": [{"name": "sglang", "image": "old"}]}}
_WHOLE: Manifest = {"f:podTemplate": {"f:spec": {"f:containers": {}}}}


def server(generation: int = 2, **spec: Any) -> KimiLinearServer:
    manifest = make_server(**spec)
    manifest["metadata"] |= {"generation": generation}
    return KimiLinearServer.model_validate(manifest)


def with_pod(**pod: Any) -> KimiLinearServer:
    return server(podTemplate={"spec": pod})


def record(of: KimiLinearServer, **changes: Any) -> Revision:
    known = Revision(1, template_inputs(of.spec), OLD_TEMPLATE, "", UID, 1, created=_CREATED)
    return replace(known, **changes)


def owned(fields: Manifest, time: str = _CREATED) -> Manifest:
    return {"manager": "owner", "operation": "Apply", "time": time, "fieldsV1": {"f:spec": fields}}


def is_requested(seen: KimiLinearServer, kept: Revision, *owners: Manifest, state: RolloutState | None = None) -> bool:
    """Return whether a server gets a new pod template, because its spec asks for different pods than the record."""
    uncertain = unrequested.uncertain_fields(seen, History([kept], deployed=1), state or RolloutState(), _NOW)
    manifest = {"metadata": {"managedFields": list(owners)}, "spec": explicit_inputs(seen.spec)}
    asked = unrequested.without(seen, unrequested.unrequested(uncertain, manifest), kept)
    return choose(asked, History([kept], deployed=1)).current != kept


_ENGINE: Manifest = {"name": "sglang", "env": [{"name": "X", "value": "1"}]}
_PULLED: Manifest = {"imagePullPolicy": "Always"}


def test_a_default_within_an_item_of_a_list_is_not_requested_by_the_lists_owner() -> None:
    seen = with_pod(containers=[_ENGINE | _PULLED, {"name": "mesh", "ports": [{"containerPort": 1}]}])
    kept = record(with_pod(containers=[_ENGINE, {"name": "mesh", "ports": [{"containerPort": 1}]}]))
    assert not is_requested(seen, kept, owned(_WHOLE))


def test_leaving_out_a_default_within_a_list_gives_the_recorded_inputs() -> None:
    kept = record(with_pod(containers=[_ENGINE, {"name": "mesh"}]))
    seen = with_pod(containers=[_ENGINE | _PULLED, {"name": "mesh", "resources": {"limits": {"cpu": 1}}}])
    uncertain = unrequested.uncertain_fields(seen, History([kept], deployed=1), now=_NOW)
    answers = {path: Answer(None, is_doubtful=True) for path in uncertain.paths}
    assert template_inputs(unrequested.without(seen, answers, kept).spec) == kept.inputs


def test_a_value_that_a_lists_owner_wrote_into_an_item_later_counts_as_requested() -> None:
    seen, kept = with_pod(containers=[_ENGINE | _PULLED]), record(with_pod(containers=[_ENGINE]))
    assert is_requested(seen, kept, owned(_WHOLE, _SINCE))
    assert is_requested(seen, kept, {"fieldsV1": {"f:spec": _WHOLE}})
    assert not is_requested(seen, kept, owned(_WHOLE), owned({"f:replicas": {}}, _SINCE))
    assert is_requested(seen, replace(kept, created=""), owned(_WHOLE))


def test_a_value_written_in_the_second_of_the_record_counts_as_requested_just_after_it() -> None:
    """Times are whole seconds. So the recorded spec may be older than the spec that was stored in the same second."""
    seen = with_pod(containers=[_ENGINE | _PULLED])
    kept = record(with_pod(containers=[_ENGINE]), created=_NOW)
    assert is_requested(seen, kept, owned(_WHOLE, _NOW))
    assert not is_requested(seen, kept, owned(_WHOLE, _NOW), state=RolloutState(is_unchanged=True))
    assert not is_requested(seen, replace(kept, generation=2), owned(_WHOLE, _NOW))


def test_an_added_removed_or_moved_item_counts_as_requested() -> None:
    kept = record(with_pod(containers=[_ENGINE, {"name": "mesh"}]))
    for containers in (
        [_ENGINE | _PULLED],
        [_ENGINE | _PULLED, {"name": "mesh"}, {"name": "more"}],
        [_ENGINE | _PULLED, {"name": "other"}],
        [{"name": "mesh"}, _ENGINE | _PULLED],
    ):
        assert is_requested(with_pod(containers=containers), kept, owned(_WHOLE)), containers


@pytest.mark.parametrize("changed", [_ENGINE | {"env": [{"name": "X", "value": "2"}]}, {"name": "sglang"}], ids=str)
def test_a_changed_or_removed_value_in_an_item_counts_as_requested_if_an_owner_has_written_since(
    changed: Manifest,
) -> None:
    kept = record(with_pod(containers=[_ENGINE, {"name": "mesh"}]))
    seen = with_pod(containers=[changed, {"name": "mesh"}])
    assert is_requested(seen, kept, owned(_WHOLE, _SINCE))
    assert is_requested(seen, replace(kept, uid="of an earlier server"), owned(_WHOLE))
    assert is_requested(seen, replace(kept, seen=Seen(UID, 2, {})), owned(_WHOLE))
    assert not is_requested(seen, kept, owned(_WHOLE))


def test_fields_of_items_with_owners_count_one_by_one() -> None:
    seen, kept = with_pod(containers=[_ENGINE | _PULLED]), record(with_pod(containers=[_ENGINE]))
    item: Manifest = {".": {}, "f:name": {}}
    granular: Manifest = {"f:podTemplate": {"f:spec": {"f:containers": {'k:{"name":"sglang"}': item}}}}
    assert not is_requested(seen, kept, owned(granular, _SINCE))
    item["f:imagePullPolicy"] = {}
    assert is_requested(seen, kept, owned(granular))


def test_the_default_of_a_key_field_makes_no_other_item() -> None:
    ports = [{"containerPort": 9000}]
    kept = record(with_pod(containers=[_ENGINE | {"ports": ports}]))
    seen = with_pod(containers=[_ENGINE | {"ports": [{"containerPort": 9000, "protocol": "TCP"}]}])
    assert not is_requested(seen, kept, owned(_WHOLE))


def reported(time: str, reason: str = "AllReplicasServe", *, recorded: bool = False) -> dict[str, Any]:
    """Return the status and the managed fields after the operator wrote a status for generation 1 at this time."""
    entry = {"manager": MANAGER, "operation": "Update", "subresource": "status", "time": time, "fieldsV1": {}}
    conditions = [make_condition("Ready", "True", reason, "")]
    if recorded:
        conditions.append({**make_condition("TemplateCurrent", "True", "Newest", ""), "observedGeneration": 1})
    return {"entry": entry, "status": {"observedGeneration": 1, "conditions": conditions}}


_SERVED = 2
_PULL_POLICY = ("podTemplate", "spec", "containers", 0, "imagePullPolicy")


def is_default_requested(
    *owners: Manifest,
    report: dict[str, Any],
    generation: int = 2,
    answers: dict[FieldPath, Any] | None = None,
    **spec: Any,
) -> bool:
    """Return whether a pull policy counts as asked for by the owner of the list of containers."""
    metadata = {"generation": generation, "managedFields": [*owners, report["entry"]]}
    spec = {"replicas": _SERVED, **spec, "podTemplate": {"spec": {"containers": [_ENGINE | _PULLED]}}}
    manifest = {"metadata": metadata, "spec": spec, "status": report["status"]}
    before = unrequested.Before(_NOW, answers or {}, spec.pop("served", _SERVED))
    uncertain = UncertainFields((_PULL_POLICY,), {}, _CREATED)
    return _PULL_POLICY not in unrequested.unrequested(uncertain, manifest, before)


_REPORTED_LATER, _JUST_NOW, _LONG_AGO = "2026-11-29T02:30:00Z", "2026-11-29T02:59:59Z", "2026-11-29T01:30:00Z"


def test_an_owners_write_before_the_spec_was_applied_makes_no_default_requested() -> None:
    """For example, the owner changed the port long ago, and the default came with a later CRD."""
    report = reported(_REPORTED_LATER)
    assert not is_default_requested(owned(_WHOLE, _SINCE), report=report)
    assert is_default_requested(owned(_WHOLE, _NOW), report=report)
    assert is_default_requested(owned(_WHOLE, _SINCE), report=reported(_REPORTED_LATER, "ApplyFailed"))
    assert is_default_requested(owned(_WHOLE, _SINCE), report={**report, "status": None})
    assert is_default_requested(owned(_WHOLE, _REPORTED_LATER), report=report), "perhaps later in the same second"


def test_a_new_status_proves_only_writes_that_are_some_seconds_older() -> None:
    """Pods come and go, so the status may be written just before a scale, or just after a change of the user."""
    assert not is_default_requested(owned(_WHOLE, _SINCE), report=reported(_JUST_NOW))
    assert is_default_requested(owned(_WHOLE, _JUST_NOW), report=reported(_JUST_NOW))


def test_an_owners_label_and_one_scale_make_no_default_requested() -> None:
    label, report = owned(_WHOLE, _SINCE), reported(_LONG_AGO)
    assert not is_default_requested(label, report=report, replicas=3)
    assert is_default_requested(label, report=report)
    assert is_default_requested(label, report=report, replicas=3, generation=3)
    assert is_default_requested(label, report=reported(_LONG_AGO, "ApplyFailed", recorded=True), replicas=3)


@pytest.mark.parametrize(
    "spec", [{"replicas": 3, "suspend": True}, {"served": 0}, {"served": None, "replicas": 3}], ids=str
)
def test_other_replicas_count_as_a_scale_only_while_the_server_is_served(
    spec: dict[str, Any],
) -> None:
    assert is_default_requested(owned(_WHOLE, _SINCE), report=reported(_LONG_AGO), **spec)


def test_other_replicas_are_no_scale_while_somebody_else_changes_the_deployment() -> None:
    report = reported(_LONG_AGO)
    contested = make_condition("Synced", "False", "ChangedByOthers", "")
    status = {**report["status"], "conditions": [*report["status"]["conditions"], contested]}
    assert is_default_requested(owned(_WHOLE, _SINCE), report={**report, "status": status}, replicas=3)


@pytest.mark.parametrize("generation", [None, "1", [1]])
def test_a_status_with_an_unreadable_generation_proves_nothing(generation: object) -> None:
    report = reported(_REPORTED_LATER)
    status = {**report["status"], "observedGeneration": generation}
    assert is_default_requested(owned(_WHOLE, _SINCE), report={**report, "status": status}, replicas=3)


def test_a_status_of_the_year_1_proves_nothing() -> None:
    """Users can edit the times in the managed fields."""
    assert is_default_requested(owned(_WHOLE, _SINCE), report=reported("0001-01-01T00:00:00Z"))


def test_an_owner_of_the_replicas_may_have_written_the_list_with_them() -> None:
    both = owned({**_WHOLE, "f:replicas": {}}, _SINCE)
    assert is_default_requested(both, report=reported(_LONG_AGO), replicas=3)


def test_an_unrequested_value_stays_unrequested_while_it_is_the_same() -> None:
    owner, report = owned(_WHOLE, _NOW), reported(_LONG_AGO)
    assert not is_default_requested(owner, report=report, answers={_PULL_POLICY: "Always"})
    assert is_default_requested(owner, report=report, answers={_PULL_POLICY: "Never"})
    assert is_default_requested(owner, report=report, answers={(*_PULL_POLICY[:-1], "tty"): "Always"})


_WITH_NULL = with_pod(hostAliases=None)


def test_a_null_that_the_api_server_dropped_counts_as_if_it_were_there() -> None:
    kept, seen = record(_WITH_NULL), with_pod()
    owners = owned({"f:podTemplate": {"f:spec": {"f:hostAliases": {}}}})
    assert not is_requested(seen, kept, owners)
    uncertain = unrequested.uncertain_fields(seen, History([kept], deployed=1), now=_NOW)
    answers = {path: Answer(None, is_doubtful=False) for path in uncertain.paths}
    assert build_pod_template(unrequested.without(seen, answers, kept)) == build_pod_template(_WITH_NULL)


def test_a_null_removed_by_its_owner_counts_as_a_users_change() -> None:
    assert is_requested(with_pod(), record(_WITH_NULL), owned({"f:podTemplate": {"f:spec": {}}}))


def test_a_dropped_null_within_an_item_counts_as_if_it_were_there() -> None:
    kept = record(with_pod(containers=[_ENGINE | {"lifecycle": None}]))
    assert not is_requested(with_pod(containers=[_ENGINE]), kept, owned(_WHOLE))
    assert is_requested(with_pod(containers=[_ENGINE]), kept, owned(_WHOLE, _SINCE))


def _kept_by_newer(**changes: Any) -> Revision:
    """For a spec without a field, return the record of a version that has a default for this field.

    This version has none.
    """
    inputs = template_inputs(server(engine={"memoryFractionStatic": 0.85}).spec)
    return record(server(), inputs=inputs, defaulted=(("engine", "memoryFractionStatic"),), **changes)


def test_a_default_of_another_versions_models_does_not_count_as_removed() -> None:
    assert choose(server(), History([_kept_by_newer()], deployed=1)).current == _kept_by_newer()
    assert not is_requested(server(engine={"memoryFractionStatic": 0.85}), _kept_by_newer(), owned({"f:replicas": {}}))
    assert is_requested(
        server(engine={"contextLength": 4096}), _kept_by_newer(), owned({"f:engine": {"f:contextLength": {}}})
    )


def test_a_removed_field_counts_in_records_without_a_note_too() -> None:
    for defaulted in (None, ()):
        assert (
            choose(server(), History([replace(_kept_by_newer(), defaulted=defaulted)], deployed=1)).current.number == 2
        )


def test_a_record_notes_which_inputs_the_spec_did_not_have() -> None:
    given = server(engine={"contextLength": 4096}, podTemplate={"spec": {"hostAliases": None}})
    kept = choose(given, History()).current
    assert kept.inputs == template_inputs(given.spec)
    assert kept.explicit_inputs == explicit_inputs(given.spec)
    assert revision.read(build_revision(given, kept)) == kept


@pytest.mark.parametrize("note", [1, {}, [1], [[]], [["engine", {}]], None])
def test_a_note_that_no_operator_wrote_is_ignored(note: object) -> None:
    manifest = build_revision(server(), choose(server(), History()).current)
    found = revision.read({**manifest, "data": {**manifest["data"], "defaulted": note}})
    assert found
    assert (found.defaulted, found.explicit_inputs) == (None, found.inputs)


def test_a_template_that_another_version_never_applied_to_a_new_server_is_given_up() -> None:
    never_ran, state = record(server(1)), RolloutState(is_unserved=True)
    assert abandons_newest(server(1), History([never_ran]), state)
    current = choose(server(1), History([never_ran], taken={1}), state=state).current
    assert (current.number, current.template) == (2, build_pod_template(server(1)))


@pytest.mark.parametrize(
    ("changes", "deployed", "state"),
    [
        ({}, 0, RolloutState()),
        ({"uid": "another"}, 0, RolloutState(is_unserved=True)),
        ({}, 1, RolloutState(is_unserved=True)),
        ({"template": build_pod_template(server(1))}, 0, RolloutState(is_unserved=True)),
    ],
    ids=[
        "the server was served",
        "another server of this name was served",
        "it runs, but no watch has shown it",
        "this version builds the same",
    ],
)
def test_a_template_that_may_have_run_is_kept_without_a_deployment(
    changes: Manifest, deployed: int, state: RolloutState
) -> None:
    kept = record(server(1), **changes)
    assert not abandons_newest(server(1), History([kept], deployed=deployed), state)
    assert choose(server(1), History([kept], deployed=deployed), state=state).current == kept


@pytest.mark.parametrize("applied", [OLD_TEMPLATE, None], ids=["the running template", "an edited template"])
def test_a_rollout_mark_deleted_with_its_record_is_restored_during_the_rollout(applied: Manifest | None) -> None:
    for is_rolling_out in (True, False):
        state = RolloutState(is_unchanged=True, is_rolling_out=is_rolling_out)
        kept = choose(server(1), History(deployed=2), applied=applied, state=state)
        assert (kept.current.number, kept.current.is_automatic) == (2 if applied else 3, is_rolling_out)


@pytest.mark.parametrize(
    ("history", "number"),
    [
        (History(deployed=2), 2),
        (History(deployed=2, taken={2}), 3),
        (History(deployed=2, taken={1}), 2),
        (History(), 1),
        (History(deployed=10**18 - 1), 1),
    ],
    ids=["lost", "unreadable", "an older one is unreadable", "no number", "a number that nobody gave"],
)
def test_a_revision_that_replaces_a_lost_one_has_its_number(history: History, number: int) -> None:
    """Otherwise, the router would look like the router of an older revision."""
    kept = choose(server(1), history, applied=OLD_TEMPLATE, state=RolloutState(is_unchanged=True))
    assert (kept.current.number, kept.current.template) == (number, OLD_TEMPLATE)


def test_removing_a_field_of_an_item_leaves_the_item_in_its_place() -> None:
    value: Manifest = {"a": [{"b": {"c": 1}}, {"d": 2}]}
    assert stored.without(value, ("a", 0, "b", "c")) == {"a": [{"b": {}}, {"d": 2}]}
    assert stored.as_in(value, ("a", 1, "e"), {"a": [{}, {"e": None}]}) == {"a": [{"b": {"c": 1}}, {"d": 2, "e": None}]}
    assert [stored.holds(value, path) for path in (("a", 1, "d"), ("a", 2), ("a", "d"), (0,))] == [True, *[False] * 3]


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"f:a": {'k:{"n":1,"p":"TCP"}': {"f:v": {}}}}, ()),
        ({"f:a": {'k:{"n":2,"p":"TCP"}': {"f:v": {}}}}, None),
        ({"f:a": {".": {}, "v:1": {}}}, None),
        ({"f:a": {}}, (0, "v")),
        ({"f:b": {}}, None),
    ],
    ids=["the item", "another item", "values", "the list", "another field"],
)
def test_a_set_of_fields_leads_to_a_field_of_an_item_or_to_its_list(fields: Manifest, left: object) -> None:
    assert ownership.remaining_path(fields, ("a", 0, "v"), {"a": [{"n": 1, "p": "TCP", "v": 1}]}) == left


def test_a_write_in_the_same_second_does_not_count_as_later() -> None:
    entries = [owned({}, time) for time in (_CREATED, _SINCE, _NOW, "?")]
    assert ownership.written_after(entries, _SINCE) == entries[2:]
    assert ownership.written_after(entries, "") == entries
