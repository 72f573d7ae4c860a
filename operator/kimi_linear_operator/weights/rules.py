"""The rules of KimiLinearWeights. They are written only here."""

from kimi_linear_operator.kubernetes import expressions
from kimi_linear_operator.kubernetes.rule import Rule
from kimi_linear_operator.weights.job import CONTAINER

# Names of children have at most 63 characters. The other characters are for their suffixes.
LONGEST_NAME = 50

ERRORS = (
    expressions.name(LONGEST_NAME, "the claim has the same name"),
    Rule(
        "error",
        "spec.source.revision",
        "!self.contains('..') && !self.endsWith('/')",
        "is not the name of a branch, a tag or a commit: such a name does not contain '..' and does not end with '/'",
    ),
    Rule(
        "error",
        "spec.volume",
        "!has(self.existingClaim) || !has(self.storageClassName)",
        "names an existing claim, which already has a storage class: remove spec.volume.storageClassName",
        blames="storageClassName",
    ),
    Rule(
        "error",
        expressions.CONTAINERS,
        f"self.all(c, {expressions.NO_GPUS})",
        "requests amd.com/gpu, but fetching needs no GPUs: remove the request",
    ),
    expressions.own_command(CONTAINER, "use spec.image and spec.source"),
    expressions.unprivileged(CONTAINER, "remove this, because the container only writes to its volume"),
    expressions.own_network("puts the pod on the node's network, which a download does not need"),
    expressions.owned_labels(),
    *expressions.inherited_metadata(),
)

WARNINGS = (
    Rule(
        "warning",
        "spec.volume",
        "has(self.existingClaim) || 'ReadWriteMany' in self.accessModes",
        "lets only one node mount the volume for writing: servers on other nodes cannot start",
        blames="accessModes",
    ),
)

RULES = (*ERRORS, *WARNINGS)
