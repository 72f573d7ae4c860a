"""What the command line shows of a server before it is applied."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, NETWORK_POLICY, REVISION, Kind, Manifest
from kimi_linear_operator.kubernetes.plan import may_be_taken
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Preview, Referenced
from kimi_linear_operator.server import manifests, model_location, revision, router, router_template, service
from kimi_linear_operator.server.applied_template import running_template
from kimi_linear_operator.server.autoscaler import Limits, seconds_until_more
from kimi_linear_operator.server.deployment import build_pod_template
from kimi_linear_operator.server.network_policy import needs_of_others
from kimi_linear_operator.server.previous_status import was_applied
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.template_choice import (
    RolloutState,
    TemplateChoice,
    as_reported,
    choose,
    has_lost_running,
)
from kimi_linear_operator.weights.spec import WEIGHTS, KimiLinearWeights


def _references(server: KimiLinearServer) -> Mapping[str, Key]:
    """Return the weights that a server's pods depend on, by the field that names them; empty if there are none."""
    name = server.spec.model.weights
    return {"spec.model.weights": Key(server.metadata.namespace, name, WEIGHTS)} if name else {}


def _weights(server: KimiLinearServer, referenced: Referenced) -> KimiLinearWeights | None:
    found = next((referenced[key] for key in _references(server).values()), None)
    return found if isinstance(found, KimiLinearWeights) else None


def _build(server: KimiLinearServer, referenced: Referenced) -> list[Manifest]:
    return manifests.build(server, model_location.preview(server.spec, _weights(server, referenced), ()))


def _as_stored(server: KimiLinearServer, stored: Manifest | None) -> KimiLinearServer:
    """Return a server that was read from a file, as the API server would store it.

    It gets the UID of the stored server. If the file does not set the replicas, it also gets the stored replicas. If
    the spec is the same, it also gets the stored generation.
    """
    if stored is None:
        return server
    annotations = {**metadata.annotations(stored), **server.metadata.annotations}
    meta = server.metadata.model_copy(update={"uid": stored["metadata"]["uid"], "annotations": annotations})
    update: dict[str, Any] = {"metadata": meta, "status": stored.get("status", {})}
    if "replicas" not in server.spec.model_fields_set:
        update["spec"] = server.spec.model_copy(update={"replicas": stored["spec"]["replicas"]})
    wanted = server.model_copy(update=update)
    if wanted.manifest()["spec"] != stored["spec"]:
        return wanted
    meta = meta.model_copy(update={"generation": stored["metadata"]["generation"]})
    return wanted.model_copy(update={"metadata": meta})


def _desired(server: KimiLinearServer, live: Sequence[Manifest], referenced: Referenced) -> list[Manifest]:
    """Return the children of a server, with the pod template that the operator would give it."""
    choice = _with_router(server, live, _choose_template(server, live, _weights(server, referenced)))
    deployment = manifests.build_deployment(server, choice.deployed.template, choice.deployed.number)
    running = _live(server, live, server.metadata.name)
    # For the preview, it does not matter how long the newest replica has served.
    limits = Limits(may_grow=not seconds_until_more(server.spec, running, (), ""), may_sleep=choice.may_sleep)
    policy = _live(server, live, server.metadata.name, NETWORK_POLICY)
    others = needs_of_others(choice.running, choice.deployed, running, policy)
    companions = manifests.build_companions(
        server,
        leads_to=service.backend(server.spec, _live(server, live, router.name_of(server)), running),
        router_record=choice.router.current if choice.router else None,
        limits=limits,
        others=others,
    )
    records = [manifests.build_revision(server, item) for item in (choice.current, choice.verified) if item]
    return [*records, *companions, deployment]


def _live(server: KimiLinearServer, live: Sequence[Manifest], name: str, kind: Kind = DEPLOYMENT) -> Manifest | None:
    """Return the server's child of this name and kind, None if there is none."""
    return next((child for child in live if _is_child(server, child, name, kind)), None)


def _is_child(server: KimiLinearServer, child: Manifest, name: str, kind: Kind) -> bool:
    """Return whether an object is the server's child of this name and kind."""
    is_named = (child["kind"], child["metadata"]["name"]) == (kind.kind, name)
    return is_named and metadata.is_owned_by(child, server.metadata.uid)


def _choose_template(
    server: KimiLinearServer, live: Sequence[Manifest], weights: KimiLinearWeights | None
) -> TemplateChoice:
    records = [child for child in live if child["kind"] == REVISION.kind and may_be_taken(child, server)]
    deployment = _live(server, live, server.metadata.name)
    history = revision.history_of(records, revision.number_on(deployment))
    location = model_location.preview(server.spec, weights, history.revisions)
    state = as_reported(RolloutState(location=location), server.status, server.metadata.generation)
    is_lost = deployment is not None and has_lost_running(history, state)
    applied = running_template(build_pod_template(server), deployment) if deployment and is_lost else None
    return choose(server, history, applied=applied, state=state)


def _with_router(server: KimiLinearServer, live: Sequence[Manifest], choice: TemplateChoice) -> TemplateChoice:
    """Add the pod template of the router, if the server has one."""
    options = server.spec.router
    if options is None:
        return choice
    found, built = _live(server, live, router.name_of(server)), router.build_pod_template(server, options)
    kept, is_applied = router_template.read(found), was_applied(server.status, server.metadata.generation)
    if kept is None and found:
        kept = router_template.read_short(built, found)
    if kept is None and found and is_applied:
        kept = router_template.adopted(server, built, found, choice.before)
    choice = choice.beside(kept)
    return replace(choice, router=router_template.choose(server, built, kept, choice.current))


PREVIEW = Preview(build=_build, as_stored=_as_stored, desired=_desired, references=_references)
