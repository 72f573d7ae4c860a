"""Reasons of a spec and of the objects that it leads to."""

from collections.abc import Mapping

from kimi_linear_operator.reasons.explanation import NOTHING, WAIT, Explanation
from kimi_linear_operator.reasons.name import ReasonName

SPECS: Mapping[ReasonName, Explanation] = {
    "Pending": Explanation(
        "both",
        "No operator has looked at the resource yet.",
        "Wait a moment. If it stays, check that the operator runs and watches this namespace.",
    ),
    "SpecValid": Explanation("both", "The spec passes all rules (`Accepted`).", NOTHING),
    "InvalidSpec": Explanation(
        "both",
        "The spec breaks a rule, or is nested deeper than 64 levels or too large (256 KiB of JSON, 5,000 keys and "
        "values). Pods that already run stay; you can scale them down or suspend them.",
        "Change the field that the message names.",
    ),
    "NameConflict": Explanation(
        "both",
        "An object with a name that the operator needs belongs to somebody else. The operator does not change it.",
        "Delete that object, rename the resource, or hand the object over: annotate it with "
        "`kimi-linear.io/adopt=true`. An object of another server or benchmark that exists is never taken over.",
    ),
    "Replacing": Explanation("both", "Objects of a deleted resource of this name are still being removed.", WAIT),
    "ApplyFailed": Explanation(
        "both",
        "The API server refused an object that the operator builds from the spec. The message is the API server's.",
        "Most often `podTemplate` has a wrong value, or an admission policy forbids the object: correct one of "
        "them. Put labels and annotations that a policy demands into `inheritedMetadata`.",
    ),
    "Suspended": Explanation("both", "`suspend` is true: nothing runs.", "Set `suspend` to false to continue."),
}
