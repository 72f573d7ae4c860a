"""The router's pod template. It stays until somebody asks for another template, as the template of the replicas does.

The router's Deployment has the record of its own template in an annotation. So one write changes both.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kimi_linear_operator.kubernetes import metadata, record_text
from kimi_linear_operator.kubernetes.drift import all_differences
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import FieldPath
from kimi_linear_operator.server import revision
from kimi_linear_operator.server.applied_template import running_template
from kimi_linear_operator.server.labels import TEMPLATE_ANNOTATION
from kimi_linear_operator.server.revision import Revision
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.template_inputs import explicit_router_inputs, router_inputs, spec_of, unknown_fields

# The inputs of the router's pod template.
_INPUTS = ("router",)
# Characters of the annotation. A record has about 8,000, unless the spec has long annotations and tolerations. All
# annotations of an object together can have 256 KiB. A larger record is written without its template, which
# `running_template` then finds.
_LONGEST_RECORD = 65_536


@dataclass(frozen=True)
class RouterChoice:
    """The pod template that a router should have.

    Attributes:
        current: The record of this template. Its number is that of the server's revision, because a router takes a new
            template whenever its server does.
        offer: The fields in which the template on offer differs from the current one; empty if there is no offer.
        unknown: The inputs of the current template that this version does not know or refuses. The template on offer
            lacks them.
    """

    current: Revision
    offer: tuple[str, ...] = ()
    unknown: tuple[FieldPath, ...] = ()


def read(router: Manifest | None) -> Revision | None:
    """Return the record on a router's Deployment, None if there is none or it cannot be read."""
    return _record(_data_on(router))


def number_on(router: Manifest) -> int:
    """Return the number in the record on a router's Deployment, 0 without a record. A record may lack its template."""
    number = _data_on(router).get("number")
    return number if type(number) is int else 0


def read_short(built: Manifest, router: Manifest) -> Revision | None:
    """Return the record on a router's Deployment that lacks its template, with the template that the operator applied.

    None if there is no such record, or if somebody changed one of our fields.

    Args:
        built: The template that this version builds.
        router: The router's Deployment, with its managed fields.
    """
    data = _data_on(router)
    is_short = data.get("template") == {}
    return _record({**data, "template": running_template(built, router)}) if is_short else None


def _data_on(router: Manifest | None) -> Manifest:
    """Return the data in the annotation of a router's Deployment, empty if there are none or they cannot be read."""
    text = metadata.annotations(router).get(TEMPLATE_ANNOTATION, "") if router else ""
    data = record_text.decode(text, _LONGEST_RECORD)
    return data if isinstance(data, dict) else {}


def _record(data: Manifest) -> Revision | None:
    """Return the record in these data, None if they cannot be read.

    Users can add other inputs, which would replace those in the record of the replicas.
    """
    number = data.get("number")
    found = revision.of_data(data, number) if type(number) is int else None
    if found is None:
        return None
    return replace(found, inputs={name: found.inputs[name] for name in _INPUTS if name in found.inputs})


def text_of(record: Revision) -> str:
    """Return a record as text for the annotation. If the record is too large, leave out its template.

    Empty if the text is still too large.
    """
    data = {name: value for name, value in revision.data_of(record).items() if name != revision.UNOWNED}
    unowned = {revision.UNOWNED: record.unowned} if record.unowned else {}
    whole = {**data, "number": record.number, **unowned}
    texts = (json.dumps(part, sort_keys=True) for part in (whole, {**whole, "template": {}}))
    return next((text for text in texts if record_text.fits(text, _LONGEST_RECORD)), "")


def new_record(server: KimiLinearServer, template: Manifest, number: int) -> Revision:
    """Return the record of a template for the current spec.

    Args:
        server: The server.
        template: The router's pod template.
        number: The number of the server's revision.
    """
    return Revision(
        number,
        inputs=explicit_router_inputs(server.spec),
        template=template,
        rollout=revision.rollout_of(server),
        uid=server.metadata.uid,
        generation=server.metadata.generation,
    )


def adopted(server: KimiLinearServer, built: Manifest, router: Manifest, before: Revision) -> Revision | None:
    """Return a record of the template that the operator applied to a router without a record.

    None if somebody changed one of our fields.

    Args:
        server: The server. Its spec was applied.
        built: The template that this version builds.
        router: The router's Deployment, with its managed fields.
        before: The revision that the server has had until now.
    """
    template = running_template(built, router)
    return replace(new_record(server, template, before.number), rollout=before.rollout) if template else None


def choose(server: KimiLinearServer, built: Manifest, kept: Revision | None, current: Revision) -> RouterChoice:
    """Return the pod template that a server's router should have.

    Args:
        server: The server, without defaults that nobody asked for.
        built: The template that this version builds.
        kept: The record of the router's template, None if there is no router yet.
        current: The revision that the server should have.
    """
    if kept and current.is_automatic and current.router_hash not in ("", metadata.hash_of(built)):
        # Another version began to roll out its router, and could not write it.
        kept = replace(kept, number=current.number)
    if kept is None or _is_another_requested(server, kept, current):
        return RouterChoice(new_record(server, built, current.number))
    offer = all_differences(kept.template, built)
    unknown = (*unknown_fields(kept.explicit_inputs), *kept.refused_inputs) if offer else ()
    return RouterChoice(replace(kept, number=current.number), offer, unknown)


def _is_another_requested(server: KimiLinearServer, kept: Revision, current: Revision) -> bool:
    """Return whether somebody has asked for another template since the record was made.

    After `kubectl rollout undo`, the Deployment has an older record, and the number in this record is older, too. If
    the server's record was made again under another number, the router's template stays.
    """
    is_older = kept.number < min(current.router_number or current.number, current.number)
    return is_older or revision.has_new_annotation(server, kept) or _has_other_inputs(server, kept)


def _has_other_inputs(server: KimiLinearServer, kept: Revision) -> bool:
    """Return whether spec.router has changed. The server's own revision shows changes of all other fields."""
    if revision.is_of(kept, server):
        return False
    recorded = spec_of(kept.explicit_inputs)
    return recorded is None or router_inputs(recorded) != router_inputs(server.spec)


def without_refused(kept: Revision | None, refused: Mapping[FieldPath, Any]) -> Revision | None:
    """Return a record without these values in its inputs, because this version refuses them."""
    return replace(kept, refused=refused) if kept else None
