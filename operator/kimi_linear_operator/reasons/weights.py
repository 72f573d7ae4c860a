"""Reasons of weights on a volume, and of servers that wait for them."""

from collections.abc import Mapping

from kimi_linear_operator.reasons.explanation import NOTHING, Explanation
from kimi_linear_operator.reasons.name import ReasonName

WEIGHTS: Mapping[ReasonName, Explanation] = {
    "WeightsComplete": Explanation(
        "weights",
        "A commit is complete on the volume: every file has the size and the hash that the hub names.",
        NOTHING,
    ),
    "WeightsDownloading": Explanation(
        "both",
        "The weights are being fetched to their volume. A server makes no pods before they are complete for the first "
        "time.",
        "Wait. `kubectl get klw` shows how much is there, the speed and the time left.",
    ),
    "WeightsUnready": Explanation(
        "server",
        "The weights that the server uses have never been complete, and a problem stops the download. The message "
        "quotes their condition.",
        "See the reason of the weights: `kubectl get klw NAME -o wide`.",
    ),
    "WeightsMissing": Explanation(
        "server",
        "`model.weights` names a KimiLinearWeights that the namespace does not have. Pods that already run stay.",
        "Create it, or correct the name.",
    ),
    "WeightsCorrupt": Explanation(
        "weights",
        "A file was fetched three times and never had the size and the hash that the hub names, or the hub's commit "
        "lacks a shard of its index. Files with the wrong content are deleted.",
        "If a mirror sends the file, repair the mirror. Otherwise check the volume and its file server.",
    ),
    "HubLimited": Explanation(
        "weights",
        "The hub limits requests (HTTP 429). The download goes on after the time that the hub asks for.",
        "Wait. A token (`source.tokenSecretRef`) raises the limit, a mirror (`source.endpoint`) avoids it.",
    ),
    "HubUnreachable": Explanation(
        "weights",
        "The hub does not answer, or answers with an error of its own. The download is tried again and again, from "
        "where it stopped.",
        "Check that the pod may reach the hub: set a proxy in `podTemplate` (HTTPS_PROXY), or a mirror in "
        "`source.endpoint`.",
    ),
    "TokenRefused": Explanation(
        "weights",
        "The hub asks for a token, refuses the one it got, or the token may not read this model.",
        "Name a Secret with a valid token in `source.tokenSecretRef`, and accept the model's terms on the hub. A "
        "corrected Secret takes effect at the next attempt, within five minutes.",
    ),
    "RevisionMissing": Explanation(
        "weights", "The hub has no such branch, tag or commit, or no such model.", "Correct `source.revision`."
    ),
    "VolumeBusy": Explanation(
        "weights",
        "Another pod writes to the volume. What it fetches is not fetched again.",
        "Wait. If no other pod runs, the lock of one that has died ends within a minute.",
    ),
    "VolumeFull": Explanation(
        "weights",
        "The volume has no room for what is missing.",
        "Raise `volume.size` if the storage class allows that, or delete what else is on the volume, such as commits "
        "that no server uses.",
    ),
    "VolumeNotWritable": Explanation(
        "weights",
        "The pod may not write to the volume: it is read-only, or belongs to another user.",
        "Set `runAsUser` or `fsGroup` in `podTemplate`, or give the pod's user the right on the file server.",
    ),
}
