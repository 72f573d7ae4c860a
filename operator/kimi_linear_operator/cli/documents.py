"""Parser of YAML and JSON that returns the same JSON values as kubectl.

It returns only the types of JSON: no dates, sets or binary data. kubectl uses Go's library for YAML 1.1. Its rules
differ from Python's: y is true, 1e3 is a number, 1:30 is text.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"
_TEXT = "tag:yaml.org,2002:str"
# How many keys and values a document can have after each alias is replaced by its value. A list of thousands of objects
# has fewer, and this number does not fill the memory.
_MOST_VALUES = 1_000_000
_IMPLICIT = {
    "bool": (
        r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
        "yYnNtTfFoO",
    ),
    "int": (r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "merge": ("<<", "<"),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
}
"""The types of scalars without quotes: for each a pattern, and the characters with which it can begin."""


class DuplicateKeyError(ValueError):
    """A JSON object contains the same key twice."""


def read(text: str) -> list[Any]:
    """Return the JSON values of all documents.

    Raises:
        yaml.YAMLError, ValueError, TypeError, RecursionError: The API server could not read the text.
    """
    if text.lstrip().startswith("{"):
        try:
            return list(_json_documents(text))
        except json.JSONDecodeError:
            pass  # YAML may begin with a brace, too.
    # The conversion to JSON refuses NaN, and aliases that form a loop.
    encoded = (json.dumps(document, allow_nan=False) for document in yaml.load_all(text, Loader=_Loader))
    return [json.loads(document) for document in encoded]  # noqa: TID251 - as deep as the file is


def _json_documents(text: str) -> Iterator[Any]:
    """Yield JSON values that follow each other. Unlike YAML, they may be indented with tabs."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    rest = text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        yield value
        rest = rest[end:].lstrip()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DuplicateKeyError(f"key {twice!r} is given twice")
    return content


def _error(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


class _Loader(yaml.SafeLoader):
    """Reads YAML with merge keys, and refuses duplicate keys."""

    bool_values = {**yaml.SafeLoader.bool_values, "y": True, "n": False}  # noqa: RUF012 - as its parent has it
    yaml_implicit_resolvers = {}  # noqa: RUF012 - as its parent has it

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._checked: set[yaml.Node] = set()
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse a node whose aliases stand for too many values. A few lines can stand for billions."""
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.CollectionNode) and node not in self._sizes:
            self._sizes[node] = 1 + sum(self._sizes.get(child, 1) for child in _children(node))
            if self._sizes[node] > _MOST_VALUES:
                raise _error(f"with its aliases, this has more than {_MOST_VALUES} keys and values", node)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Check the node's own keys for duplicates, then replace merge keys.

        The node's own keys override merged keys.
        """
        if node not in self._checked:
            self._checked.add(node)
            node.value = [(self._text_key(key_node), value_node) for key_node, value_node in node.value]
            _refuse_duplicates(node)
        super().flatten_mapping(node)

    def _text_key(self, node: yaml.Node) -> yaml.Node:
        """Return a key as text, as in JSON."""
        if node.tag == _MERGE:
            return node
        key = self.construct_object(node, deep=True)
        if not isinstance(key, str | int | float | bool):
            raise _error("a key must be plain text; is this a template that was not rendered?", node)
        text = key if isinstance(key, str) else json.dumps(key)
        return yaml.ScalarNode(_TEXT, text, node.start_mark, node.end_mark)


def _children(node: yaml.CollectionNode) -> Iterator[yaml.Node]:
    for item in node.value:
        yield from item if isinstance(item, tuple) else (item,)


def _refuse_duplicates(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key_node, _ in node.value:
        if key_node.tag == _TEXT and key_node.value in seen:
            raise _error(f"key {key_node.value!r} is given twice", key_node)
        seen.add(key_node.value)


for _name, (_pattern, _first) in _IMPLICIT.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})$"), list(_first))
