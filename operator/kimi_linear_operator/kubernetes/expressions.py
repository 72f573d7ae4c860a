"""CEL expressions and rules that several resources use."""

from collections.abc import Sequence
from itertools import groupby

from kimi_linear_operator.kubernetes.kinds import GPU_RESOURCE
from kimi_linear_operator.kubernetes.rule import Rule

_GPU = f"'{GPU_RESOURCE}'"


def cel_text(text: str) -> str:
    """Quote a text as a CEL string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def is_flag(argument: str, names: Sequence[str]) -> str:
    """Return an expression that is true if argparse could read the argument as one of these flags.

    argparse accepts any unambiguous prefix of a flag, with or without `=value`. A regular expression of all prefixes
    would need four times as long, because CEL libraries compile it for every argument.

    Args:
        argument: A CEL expression, for example the variable of a comprehension.
        names: The flags without `--`.
    """
    prefixes = sorted({name[:length] for name in names for length in range(1, len(name) + 1)})
    tests = []
    for letter, group in groupby(prefixes, key=lambda prefix: prefix[0]):
        flags = [f"--{prefix}=" for prefix in group]
        tests.append(f"{argument}.startsWith('--{letter}') && {flags}.exists(b, ({argument} + '=').startsWith(b))")
    return f"({' || '.join(tests)})"


CONTAINERS = "spec.podTemplate.spec.containers"


def gpus(kind: str, test: str) -> str:
    """Return an expression that is true if `test` holds for the GPU count of container `c`, or if `c` requests no GPU.

    Args:
        kind: `limits` or `requests`.
        test: A CEL expression.
    """
    return f"(!has(c.resources) || !has(c.resources.{kind}) || !({_GPU} in c.resources.{kind}) || {test})"


NO_GPUS = f"({gpus('limits', 'false')} && {gpus('requests', 'false')})"
"""An expression that is true if container `c` requests no GPU."""


def name(longest: int, reason: str) -> Rule:
    """Return the rule for the name of a resource, from which the names of its children are built.

    Args:
        longest: The maximum number of characters.
        reason: The last part of the message.
    """
    return Rule(
        "error",
        "",
        f"size(self.metadata.name) <= {longest} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        f"use at most {longest} lower-case letters, digits and '-', and start with a letter, because {reason}",
        blames="metadata.name",
    )


def own_container(container: str, test: str) -> str:
    """Return an expression over a list of containers.

    It is true if `test` holds for the container with this name, as `c`.
    """
    return f"self.all(c, c.name != '{container}' || {test})"


_OWN_LABELS = "kimi-linear.io/..., app.kubernetes.io/name, instance, component, managed-by"
_HAS_NO_OWN_LABELS = (
    "self.all(k, !k.startsWith('kimi-linear.io/') && !(k in ['app.kubernetes.io/name', "
    "'app.kubernetes.io/instance', 'app.kubernetes.io/component', 'app.kubernetes.io/managed-by']))"
)


def owned_labels() -> Rule:
    """Return the rule that refuses the labels by which the operator and Services find pods."""
    return Rule(
        "error",
        "spec.podTemplate.metadata.labels",
        _HAS_NO_OWN_LABELS,
        f"contains a label that the operator sets ({_OWN_LABELS}): choose another key",
    )


# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_KEY = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
_IS_WELL_FORMED = f"self.all(k, k.matches({cel_text(_KEY)}))"
_MALFORMED = (
    "contains a key that Kubernetes refuses: write NAME or PREFIX/NAME, where NAME consists of letters, digits, "
    "'-', '_' and '.', and PREFIX is a DNS name"
)


def inherited_metadata() -> tuple[Rule, ...]:
    """Return the rules for `spec.inheritedMetadata`."""
    annotations = "spec.inheritedMetadata.annotations"
    return (
        *labels("spec.inheritedMetadata.labels"),
        Rule(
            "error",
            annotations,
            "self.all(k, !k.startsWith('kimi-linear.io/'))",
            "contains an annotation that the operator sets (kimi-linear.io/...): choose another key",
        ),
        Rule("error", annotations, _IS_WELL_FORMED, _MALFORMED),
    )


def labels(field: str) -> tuple[Rule, ...]:
    """Return the rules for a field with labels of children."""
    message = f"contains a label that the operator sets ({_OWN_LABELS}): choose another key"
    return (
        Rule("error", field, _HAS_NO_OWN_LABELS, message),
        Rule("error", field, _IS_WELL_FORMED, _MALFORMED),
    )


def dataset_file(path: str) -> Rule:
    """Return the rule that a file of a dataset is in exactly one kind of volume."""
    return Rule(
        "error",
        path,
        "has(self.persistentVolumeClaim) != has(self.configMap)",
        "must say where the file is: set exactly one of persistentVolumeClaim and configMap",
    )


def own_network(remedy: str) -> Rule:
    """Return the rule that refuses the node's network for pods."""
    return Rule("error", "spec.podTemplate.spec.hostNetwork", "!self", remedy)


def unprivileged(container: str, remedy: str) -> Rule:
    """Return the rule that refuses `privileged` for this container, which the operator defines."""
    is_unprivileged = "!has(c.securityContext) || !has(c.securityContext.privileged) || !c.securityContext.privileged"
    return Rule(
        "error",
        CONTAINERS,
        own_container(container, is_unprivileged),
        f"makes the container {container} privileged: {remedy}",
    )


def own_command(container: str, remedy: str) -> Rule:
    """Return the rule that refuses an image, a command or arguments for this container, which the operator defines."""
    return Rule(
        "error",
        CONTAINERS,
        own_container(container, "(!has(c.image) && !has(c.command) && !has(c.args))"),
        f"changes image, command or args of the container {container}: {remedy}",
    )
