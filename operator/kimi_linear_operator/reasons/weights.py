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
        "The weights are being fetched to their volume. A server has no pods before its weights are complete for "
        "the first time.",
        "Wait. `kubectl get klw` shows the progress, the speed and the remaining time.",
    ),
    "WeightsUnready": Explanation(
        "server",
        "The server's weights have never been complete, and a problem stops the download. The message quotes the "
        "condition of the weights.",
        "Read the reason of the weights with `kubectl get klw NAME -o wide`.",
    ),
    "WeightsMissing": Explanation(
        "server",
        "`model.weights` names a KimiLinearWeights that does not exist in the namespace. Pods that already run stay.",
        "Create the KimiLinearWeights, or correct the name.",
    ),
    "WeightsCorrupt": Explanation(
        "weights",
        "After three downloads, a file still does not have the size and the hash that the hub names. Or "
        "`model.safetensors.index.json` lists a file that the commit on the hub does not contain. Files with wrong "
        "content are deleted.",
        "If the file comes from a mirror, repair the mirror. Otherwise check the volume and its file server.",
    ),
    "HubLimited": Explanation(
        "weights",
        "The hub limits requests (HTTP 429). The download continues after the time that the hub asks for.",
        "Wait. A token (`source.tokenSecretRef`) raises the limit, a mirror (`source.endpoint`) avoids it.",
    ),
    "HubUnreachable": Explanation(
        "weights",
        "The hub does not answer, or answers with a server error. The pod retries the download, and continues where "
        "it stopped.",
        "Check that the pod can reach the hub. If it cannot, set a proxy in `podTemplate` (HTTPS_PROXY), or a "
        "mirror in `source.endpoint`.",
    ),
    "TokenRefused": Explanation(
        "weights",
        "The hub asks for a token, it refuses the given token, or the token has no permission to read this model.",
        "Name a Secret with a valid token in `source.tokenSecretRef`, and accept the model's terms on the hub. A "
        "corrected Secret takes effect at the next attempt, within five minutes.",
    ),
    "RevisionMissing": Explanation(
        "weights", "The hub has no such branch, tag or commit, or no such model.", "Correct `source.revision`."
    ),
    "VolumeBusy": Explanation(
        "weights",
        "Another pod writes to the volume. The files that this other pod fetches are not fetched again.",
        "Wait. If no other pod runs, the lock of a dead pod ends within a minute.",
    ),
    "VolumeFull": Explanation(
        "weights",
        "The volume is too small for the missing files.",
        "Raise `volume.size` if the storage class allows this, or delete other files on the volume, such as commits "
        "that no server uses.",
    ),
    "VolumeNotWritable": Explanation(
        "weights",
        "The pod cannot write to the volume. The volume is read-only, or belongs to another user.",
        "Set `runAsUser` or `fsGroup` in `podTemplate`, or give the pod's user permission on the file server.",
    ),
}
