"""Reasons about a spec and about the objects that the operator builds from it."""

from collections.abc import Mapping

from kimi_linear_operator.reasons.explanation import NOTHING, Explanation
from kimi_linear_operator.reasons.name import ReasonName

SPECS: Mapping[ReasonName, Explanation] = {
    "Pending": Explanation(
        "both",
        "No operator has handled the resource yet.",
        "Wait a moment. If the reason stays, check that the operator runs and watches this namespace.",
    ),
    "SpecValid": Explanation("both", "The spec passes all rules (`Accepted`).", NOTHING),
    "InvalidSpec": Explanation(
        "both",
        "The spec breaks a rule, is nested deeper than 64 levels, or is too large (more than 256 KiB of JSON, or more "
        "than 5,000 keys and values). Pods that already run stay. You can scale the server down or suspend it.",
        "Change the field that the message names.",
    ),
    "NameConflict": Explanation(
        "both",
        "An object of somebody else already has a name that the operator needs. The operator does not change that "
        "object.",
        "Delete that object, rename the resource, or let the resource take the object over: annotate the object "
        "with `kimi-linear.io/adopt=true`. The operator never takes an object from another existing server or "
        "benchmark.",
    ),
    "Replacing": Explanation(
        "both",
        "An object of a deleted resource with the same name is still being removed, or an object that the resource "
        "needs is being deleted.",
        "Wait. If the message names finalizers, do as for `DeletionBlocked`.",
    ),
    "DeletionBlocked": Explanation(
        "both",
        "An object of the resource is being deleted, but finalizers hold it (`Reconciling`, and after a while "
        "`Synced`). A finalizer is a name in `metadata.finalizers`. Kubernetes keeps the object until the program that "
        "has set the name removes it. Until then, the operator neither changes the object nor creates it again. Even "
        "if the spec no longer asks for the object, the object works as before: for example, a Service still leads to "
        "the pods.",
        "The message says who removes the finalizer. Start this program. If it no longer exists, remove the finalizer "
        "with the command that the message contains. But wait if a cloud still deletes a load balancer, or if pods "
        "still use a volume. The operator then continues by itself.",
    ),
    "ApplyFailed": Explanation(
        "both",
        "The API server refused an object that the operator builds from the spec. The message quotes the API server.",
        "Most often `podTemplate` contains a wrong value, or an admission policy forbids the object. Correct "
        "`podTemplate` or the policy. If a policy requires labels or annotations, put them into `inheritedMetadata`. "
        "Kueue refuses another queue while pods are ready: suspend the server first. To leave a queue, delete the "
        "Deployment. If the message says that the cluster has an older definition of a kind, install a newer "
        "version of the add-on to which this kind belongs.",
    ),
    "Suspended": Explanation("both", "`suspend` is true, so nothing runs.", "Set `suspend` to false to continue."),
}
