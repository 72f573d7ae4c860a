"""The fields of the configurator's page, with their groups and labels.

A new field appears without any change here, in the group of its object and with a label made from its name.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.sglang.images import ARCHITECTURES
from kimi_linear_operator.weights.location import MODELS


@dataclass(frozen=True)
class Layout:
    """The layout of the fields of a resource's spec.

    Attributes:
        first: Fields that are always shown. The page shows all others under "More".
        left_out: Fields that the page does not show.
        implied: Fields of the spec that the page writes without asking.
        written: Fields that the page writes even if their value is the default.
        labels: Labels of fields whose names are not clear enough.
        choices: Labels of values, by field.
    """

    first: tuple[str, ...]
    left_out: tuple[str, ...]
    implied: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_SWITCH = {"disabled": "Disabled", "enabled": "Enabled"}

SERVER = Layout(
    # The choices of the recipe's generator. In the generator, TP is always on. The number of GPUs is a field under
    # "More".
    first=("hardware", "model.variant", "reasoningParser", "toolCallParser"),
    # Pods, their metadata and security, peers of a network policy and parents of an HTTPRoute have more fields than a
    # form can show. A folder of the node is left out, because only an administrator can allow it.
    left_out=(
        "httpRoute",
        "inheritedMetadata",
        "kernelCache.hostPath",
        "networkPolicy",
        "podTemplate",
        "router",
        "security",
    ),
    written=("hardware",),
    labels={
        "model.variant": "Model",
        "model.tokenSecretRef.name": "Token Secret",
        "model.tokenSecretRef.key": "Key in the token Secret",
        "auth.apiKeySecretRef.name": "API key's Secret",
        "auth.apiKeySecretRef.key": "Key in the API key's Secret",
        "toolCallParser": "Tool-call parser",
        "tensorParallelism": "Tensor parallelism (GPUs of a replica)",
    },
    choices={
        "hardware": {hardware: hardware.upper() for hardware in ARCHITECTURES},
        "model.variant": {variant: name.rpartition("/")[2] for variant, name in MODELS.items()},
        "reasoningParser": _SWITCH,
        "toolCallParser": _SWITCH,
    },
)

BENCHMARK = Layout(
    first=("suites",),
    # The benchmark measures the server of the page.
    left_out=("datasets", "endpoint", "inheritedMetadata", "podTemplate"),
    implied=("serverRef",),
)


def groups(spec: Manifest, layout: Layout) -> list[Manifest]:
    """Return the groups of fields.

    First come the fields that are always shown, then the spec's plain fields, then one group for each object.
    """
    shown = {name: node for name, node in spec["properties"].items() if name not in (*layout.left_out, *layout.implied)}
    own = {name: node for name, node in shown.items() if not _is_object(node)}
    objects = {name: node for name, node in shown.items() if _is_object(node)}
    more = [
        _group("General", "", {"properties": own}, layout),
        *(_group(_words(name), node.get("description", ""), node, layout, name) for name, node in objects.items()),
    ]
    first = {"title": "", "about": "", "fields": [_field(path, path.split("."), layout) for path in layout.first]}
    return [first, *(group for group in more if group["fields"])]


def _group(title: str, about: str, node: Manifest, layout: Layout, *above: str) -> Manifest:
    fields = [path for path in _paths(node, above) if ".".join(path) not in (*layout.first, *layout.left_out)]
    return {
        "title": title,
        "about": about,
        "fields": [_field(".".join(path), path[len(above) :], layout) for path in fields],
    }


def _is_object(node: Manifest) -> bool:
    return "properties" in node


def _is_plain(node: Manifest) -> bool:
    return node.get("type") in ("boolean", "integer", "number", "string")


def _paths(node: Manifest, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the fields that a person can fill in with one control."""
    for name, below in node["properties"].items():
        if _is_object(below):
            yield from _paths(below, (*above, name))
        elif _is_plain(below) or _is_plain(below.get("items", below.get("values", {}))):
            yield (*above, name)


def _field(path: str, names: list[str] | tuple[str, ...], layout: Layout) -> Manifest:
    return {
        "path": path,
        "label": layout.labels.get(path) or _words(" ".join(names)),
        "isWritten": path in layout.written,
        "choices": dict(layout.choices.get(path, {})),
    }


def _words(name: str) -> str:
    """Return a field's name as words: tokenSecretRef becomes Token secret ref."""
    return _CAPITAL.sub(lambda match: " " + match[1].lower(), name).capitalize()
