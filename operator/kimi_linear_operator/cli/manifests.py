"""Reading manifests from files and standard input, and printing them."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kimi_linear_operator import rules
from kimi_linear_operator.api import GROUP, KimiLinearServer, Manifest, Resource
from kimi_linear_operator.cli.failure import CommandError
from kimi_linear_operator.rules.input import DEEPEST_LEVEL

Servers = Mapping[tuple[str, str], KimiLinearServer]
"""Servers by namespace and name."""


@dataclass(frozen=True)
class Source:
    """A resource of ours, and the file that it stands in."""

    file: str
    manifest: Manifest

    @property
    def title(self) -> str:
        """Return kind and name, as far as they are given."""
        metadata = self.manifest.get("metadata")
        name = metadata.get("name", "(no name)") if isinstance(metadata, dict) else "(no name)"
        return f"{self.manifest.get('kind')} {name}"


def _error(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


class _Loader(yaml.SafeLoader):
    """Reads YAML as the API server does: JSON's types only, and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool):
                raise _error("a key must be plain text; is this a template that was not rendered?", key_node)
            if key in seen:
                raise _error(f"key {key!r} is given twice", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)


# A date is a string to Kubernetes: JSON has no other way to write it.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Writes YAML as people do: no anchors, text of several lines as a block."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def add_input_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add -f and -n, which every verb that reads resources has."""
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        required=required,
        metavar="FILE",
        help="file of resources, - for standard input",
    )
    parser.add_argument(
        "-n", "--namespace", default="default", help="namespace of resources that name none (default: %(default)s)"
    )


def add_output_argument(parser: argparse.ArgumentParser, *formats: str) -> None:
    """Add -o; the first format is the default."""
    parser.add_argument("-o", "--output", choices=formats, default=formats[0], help="format (default: %(default)s)")


def read(options: argparse.Namespace) -> list[Source]:
    """Return our resources in the files; others are left out, so a file may hold both.

    Raises:
        CommandError: A file can't be read, is no YAML, or none holds a resource of ours.
    """
    sources = [source for file in options.filename for source in _read_file(file, options.namespace)]
    if not sources:
        raise CommandError(f"no resource of {GROUP} in {', '.join(options.filename)}")
    return sources


def check(sources: Iterable[Source]) -> list[tuple[Source, rules.Checked]]:
    """Check resources and tell their problems on standard error."""
    checked = [(source, rules.check(source.manifest)) for source in sources]
    for source, outcome in checked:
        for problem in outcome.problems:
            print(f"{source.file}: {source.title}: {problem.severity}: {problem}", file=sys.stderr)
    return checked


def place(resource: Resource) -> tuple[str, str]:
    """Return a resource's namespace and name."""
    return resource.metadata.namespace, resource.metadata.name


def dump(manifest: Manifest) -> str:
    """Return an object as YAML."""
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


def write(manifests: Sequence[Manifest], output: str) -> None:
    """Print objects: as YAML documents, or as one JSON List."""
    if output == "json":
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}, indent=2))
    else:
        print("---\n".join(dump(manifest) for manifest in manifests), end="")


def _read_file(file: str, namespace: str) -> Iterator[Source]:
    name = "standard input" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
        # Through JSON, which is all that the API server knows: no dates, sets, binary data or loops, and text as keys.
        documents = [
            json.loads(json.dumps(document, allow_nan=False)) for document in yaml.load_all(text, Loader=_Loader)
        ]
    except (OSError, yaml.YAMLError) as error:
        raise CommandError(f"{name}: {error}") from error
    except RecursionError as error:
        raise CommandError(f"{name}: nested too deeply; our resources have at most {DEEPEST_LEVEL} levels") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise CommandError(f"{name}: not what the API server could read: {error}") from error
    for document in documents:
        for manifest in _items(document):
            if _is_ours(manifest):
                yield Source(name, _placed(manifest, namespace))


def _items(document: object) -> list[object]:
    """Return the objects of a document: those of a List, else itself."""
    if isinstance(document, dict) and document.get("kind") == "List" and isinstance(document.get("items"), list):
        return list(document["items"])
    return [document]


def _is_ours(manifest: object) -> bool:
    return isinstance(manifest, dict) and str(manifest.get("apiVersion", "")).startswith(f"{GROUP}/")


def _placed(manifest: Any, namespace: str) -> Manifest:
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict):
        return dict(manifest)
    return {**manifest, "metadata": {"namespace": namespace, **metadata}}
