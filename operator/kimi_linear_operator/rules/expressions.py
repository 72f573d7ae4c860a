"""Parts of CEL expressions that the rules of several resources are made of."""

from kimi_linear_operator import engine
from kimi_linear_operator.rules.rule import Rule

_GPU = f"'{engine.GPU_RESOURCE}'"


def cel_text(text: str) -> str:
    """Quote a text as a CEL string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def flags(names: tuple[str, ...]) -> str:
    """Return a pattern for arguments that are one of these flags, as far as argparse would take them for it."""
    return f"^--({'|'.join(_abbreviations(name) for name in names)})(=|$)"


def _abbreviations(flag: str) -> str:
    """Return a pattern for a flag and all its beginnings: argparse takes any that is unambiguous."""
    pattern = ""
    for letter in reversed(flag[1:]):
        pattern = f"({letter}{pattern})?"
    return flag[0] + pattern


def overlaid(group: str, test: str) -> str:
    """Return an expression: `test` holds for every container `c` of a group of the pod template."""
    containers = f"self.spec.podTemplate.spec.{group}"
    return (
        "!has(self.spec.podTemplate) || !has(self.spec.podTemplate.spec) || "
        f"!has({containers}) || {containers}.all(c, {test})"
    )


def gpus(kind: str, test: str) -> str:
    """Return an expression: `test` holds for the container's GPU count `c.resources.KIND`, if it names one."""
    return f"(!has(c.resources) || !has(c.resources.{kind}) || !({_GPU} in c.resources.{kind}) || {test})"


NO_GPUS = f"({gpus('limits', 'false')} && {gpus('requests', 'false')})"
"""The container `c` asks for no GPU."""


def owned_labels() -> Rule:
    """Return the rule about labels of pods, by which the operator and Services find them."""
    return Rule(
        "error",
        "spec.podTemplate.metadata",
        "!has(self.spec.podTemplate) || !has(self.spec.podTemplate.metadata) || "
        "!has(self.spec.podTemplate.metadata.labels) || self.spec.podTemplate.metadata.labels.all(k, "
        "!k.startsWith('kimi-linear.io/') && !(k in ['app.kubernetes.io/name', 'app.kubernetes.io/instance', "
        "'app.kubernetes.io/component', 'app.kubernetes.io/managed-by']))",
        "changes a label that the operator sets (kimi-linear.io/..., app.kubernetes.io/name, instance, component, "
        "managed-by): choose another key",
    )


def own_network(remedy: str) -> Rule:
    """Return the rule that keeps pods off the node's network."""
    return Rule(
        "error",
        "spec.podTemplate.spec.hostNetwork",
        "!has(self.spec.podTemplate) || !has(self.spec.podTemplate.spec) || "
        "!has(self.spec.podTemplate.spec.hostNetwork) || !self.spec.podTemplate.spec.hostNetwork",
        remedy,
    )


def unprivileged(container: str, remedy: str) -> Rule:
    """Return the rule that keeps the operator's container from being privileged."""
    return Rule(
        "error",
        "spec.podTemplate.spec.containers",
        overlaid(
            "containers",
            f"c.name != '{container}' || !has(c.securityContext) || !has(c.securityContext.privileged) || "
            "!c.securityContext.privileged",
        ),
        f"makes the container {container} privileged: {remedy}",
    )


def own_command(container: str, remedy: str) -> Rule:
    """Return the rule that leaves the operator's container what it runs."""
    return Rule(
        "error",
        "spec.podTemplate.spec.containers",
        overlaid("containers", f"c.name != '{container}' || (!has(c.image) && !has(c.command) && !has(c.args))"),
        f"changes image, command or args of the container {container}: {remedy}",
    )
