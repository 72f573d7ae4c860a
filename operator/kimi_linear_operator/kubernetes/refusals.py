"""Why a controller could not create pods, as its Events say."""

import re
from collections.abc import Sequence

from kimi_linear_operator.foreigntext import head, one_line
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.kinds import Manifest

# The beginning of 'pods "nightly-x7k2p" is forbidden: exceeded quota ...': the name is different in every attempt.
_REFUSED_POD = re.compile(r'^(?:Error creating: )?(?:Pod|pods) "[^"]*" (?:is (?:forbidden|invalid): )?')
_REFUSED_BY = re.compile(r"^Error creating: ")
_REMEDIES = {
    re.compile("exceeded quota"): "raise the quota, or lower the requests and limits in spec.podTemplate",
    re.compile("failed quota: .*must specify"): "set the resources that the quota names in spec.podTemplate",
    re.compile("violates PodSecurity"): (
        "label the namespace pod-security.kubernetes.io/enforce=baseline, or set a securityContext in spec.podTemplate"
    ),
    re.compile(r"maximum .* usage per|minimum .* usage per|must be less than or equal to (cpu|memory|ephemeral)"): (
        "a LimitRange of the namespace sets these limits: set requests and limits within them in spec.podTemplate"
    ),
    re.compile("admission webhook|ValidatingAdmissionPolicy"): "a cluster policy refuses the pod: see its message",
}
_DEFAULT_REMEDY = "the API server refuses the pod: see its message"


def refusal(message: str) -> Reason:
    """Return why pods are refused, with a remedy.

    Args:
        message: The message of a controller that could not create a pod. Parts that differ in each attempt are removed,
            so that the reason stays the same.
    """
    cause = _REFUSED_BY.sub("", _REFUSED_POD.sub("", one_line(message)))
    remedy = next((remedy for pattern, remedy in _REMEDIES.items() if pattern.search(head(message))), _DEFAULT_REMEDY)
    return Reason("PodCreationFailed", f"{cause} ({remedy})")


def newest(events: Sequence[Manifest]) -> Manifest | None:
    """Return the Event that was seen last, None if there are none."""
    return max(events, key=last_seen, default=None)


def last_seen(event: Manifest) -> str:
    """Return when an Event was seen last, as RFC 3339; empty if the Event contains no time."""
    series = event.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
    )
    return str(next((time for time in times if time), ""))
