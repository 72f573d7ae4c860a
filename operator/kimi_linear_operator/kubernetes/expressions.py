"""Parts of CEL expressions that the rules of several resources are made of."""

from collections.abc import Sequence
from itertools import groupby

from kimi_linear_operator.kubernetes.kinds import GPU_RESOURCE
from kimi_linear_operator.kubernetes.rule import Rule

_GPU = f"'{GPU_RESOURCE}'"


def cel_text(text: str) -> str:
    """Quote a text as a CEL string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def is_flag(argument: str, names: Sequence[str]) -> str:
    """Return an expression: an argument is one of these flags, as far as argparse would take it for it.

    argparse takes any beginning that is unambiguous, with or without `=value`. A regular expression of all beginnings
    takes CEL libraries four times as long, as they compile it for every argument.
    """
    beginnings = sorted({name[:length] for name in names for length in range(1, len(name) + 1)})
    tests = []
    for letter, group in groupby(beginnings, key=lambda beginning: beginning[0]):
        flags = [f"--{beginning}=" for beginning in group]
        tests.append(f"{argument}.startsWith('--{letter}') && {flags}.exists(b, ({argument} + '=').startsWith(b))")
    return f"({' || '.join(tests)})"


CONTAINERS = "spec.podTemplate.spec.containers"
INIT_CONTAINERS = "spec.podTemplate.spec.initContainers"


def gpus(kind: str, test: str) -> str:
    """Return an expression: `test` holds for the container's GPU count `c.resources.KIND`, if it names one."""
    return f"(!has(c.resources) || !has(c.resources.{kind}) || !({_GPU} in c.resources.{kind}) || {test})"


NO_GPUS = f"({gpus('limits', 'false')} && {gpus('requests', 'false')})"
"""The container `c` asks for no GPU."""


def name(longest: int, reason: str) -> Rule:
    """Return the rule about a resource's name, which the names of its children are made from."""
    return Rule(
        "error",
        "",
        f"size(self.metadata.name) <= {longest} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        f"{reason}: use lower-case letters, digits and '-', start with a letter, and keep it to {longest} characters",
        blames="metadata.name",
    )


def own_container(container: str, test: str) -> str:
    """Return an expression about containers: `test` holds for the one of the operator, `c`."""
    return f"self.all(c, c.name != '{container}' || {test})"


_OURS = "kimi-linear.io/..., app.kubernetes.io/name, instance, component, managed-by"
_IS_NOT_OURS = (
    "self.all(k, !k.startsWith('kimi-linear.io/') && !(k in ['app.kubernetes.io/name', "
    "'app.kubernetes.io/instance', 'app.kubernetes.io/component', 'app.kubernetes.io/managed-by']))"
)


def owned_labels() -> Rule:
    """Return the rule about labels of pods, by which the operator and Services find them."""
    return Rule(
        "error",
        "spec.podTemplate.metadata.labels",
        _IS_NOT_OURS,
        f"changes a label that the operator sets ({_OURS}): choose another key",
    )


# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_KEY = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
_OWN_KEY = "choose another key"


def inherited_metadata() -> tuple[Rule, ...]:
    """Return the rules about labels and annotations of every object."""
    labels, annotations = (f"spec.inheritedMetadata.{name}" for name in ("labels", "annotations"))
    is_well_formed = f"self.all(k, k.matches({cel_text(_KEY)}))"
    malformed = (
        "has a key that Kubernetes refuses: write NAME or PREFIX/NAME, the name of letters, digits, '-', '_' and '.', "
        "the prefix a DNS name"
    )
    return (
        Rule("error", labels, _IS_NOT_OURS, f"sets a label that the operator sets ({_OURS}): {_OWN_KEY}"),
        Rule(
            "error",
            annotations,
            "self.all(k, !k.startsWith('kimi-linear.io/'))",
            f"sets an annotation that the operator sets (kimi-linear.io/...): {_OWN_KEY}",
        ),
        Rule("error", labels, is_well_formed, malformed),
        Rule("error", annotations, is_well_formed, malformed),
    )


def own_network(remedy: str) -> Rule:
    """Return the rule that keeps pods off the node's network."""
    return Rule("error", "spec.podTemplate.spec.hostNetwork", "!self", remedy)


def unprivileged(container: str, remedy: str) -> Rule:
    """Return the rule that keeps the operator's container from being privileged."""
    is_unprivileged = "!has(c.securityContext) || !has(c.securityContext.privileged) || !c.securityContext.privileged"
    return Rule(
        "error",
        CONTAINERS,
        own_container(container, is_unprivileged),
        f"makes the container {container} privileged: {remedy}",
    )


def own_command(container: str, remedy: str) -> Rule:
    """Return the rule that leaves the operator's container what it runs."""
    return Rule(
        "error",
        CONTAINERS,
        own_container(container, "(!has(c.image) && !has(c.command) && !has(c.args))"),
        f"changes image, command or args of the container {container}: {remedy}",
    )
