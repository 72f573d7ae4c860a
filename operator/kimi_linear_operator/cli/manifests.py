"""Manifests in files and on standard input: read, check and print them."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from kimi_linear_operator import resource_types
from kimi_linear_operator.cli import context, documents
from kimi_linear_operator.cli.failure import CommandError, of_file
from kimi_linear_operator.cli.files import find, text
from kimi_linear_operator.foreigntext import printable
from kimi_linear_operator.kubernetes import access
from kimi_linear_operator.kubernetes.bounds import DEEPEST_LEVEL
from kimi_linear_operator.kubernetes.check import Checked
from kimi_linear_operator.kubernetes.kinds import GROUP, Manifest
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.problem import Problem
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.resource_types import TYPES

DEFAULT_NAMESPACE = "default"

_KINDS = {kind.kind for kind in TYPES}

# The API server uses up to 58 characters of generateName and adds five (k8s.io/apiserver, pkg/storage/names).
_LONGEST_GENERATED = 58
_GENERATED = "xxxxx"


@dataclass(frozen=True)
class Source:
    """A resource of ours, and the file that it comes from."""

    file: str
    manifest: Manifest

    @property
    def title(self) -> str:
        """Return the kind and the name, for messages."""
        return printable(_title(self.manifest))


@dataclass(frozen=True)
class CheckedSource:
    """A resource of ours, and the result of its check."""

    source: Source
    result: Checked[Any]

    @property
    def valid_resource(self) -> Resource | None:
        """Return the resource, None if it has an error."""
        return self.result.resource if self.result.is_valid else None


class _Dumper(yaml.SafeDumper):
    """Writes YAML without anchors, and text of several lines as a block."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def add_input_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add -f, -R and -n for a verb that reads resources."""
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        required=required,
        metavar="FILE",
        help="a file, a list of files, a pattern or a folder with resources, or - for standard input; can be repeated",
    )
    parser.add_argument("-R", "--recursive", action="store_true", help="also read the subfolders of a folder")
    context.add_namespace_argument(
        parser, "resources without a namespace", without_cluster=", or `default` for verbs that use no cluster"
    )


def add_output_argument(parser: argparse.ArgumentParser, *formats: str) -> None:
    """Add -o. The first format is the default."""
    parser.add_argument("-o", "--output", choices=formats, default=formats[0], help="format (default: %(default)s)")


def read(options: argparse.Namespace) -> list[Source]:
    """Return our resources in the files. Other objects are skipped with a line on standard error.

    Raises:
        CommandError: A file can't be read or parsed, or no file has a resource of ours.
    """
    files = [file for argument in options.filename for file in find(argument, recursive=options.recursive)]
    sources = [source for file in files for source in _read_file(file, options.namespace or DEFAULT_NAMESPACE)]
    if not sources:
        kinds = ", ".join(sorted(_KINDS))
        raise CommandError(f"no resource of {GROUP} in {', '.join(options.filename)}: -f takes files with {kinds}")
    return sources


def check(sources: Iterable[Source]) -> list[CheckedSource]:
    """Check resources and print their problems on standard error."""
    checked = [CheckedSource(source, _check(source)) for source in sources]
    for item in checked:
        for problem in item.result.problems:
            _print_error(f"{item.source.file}: {item.source.title}: {problem.severity}: {problem}")
    return checked


def _check(source: Source) -> Checked[Any]:
    checked = resource_types.check(_with_name(source.manifest))
    return _with_access_warning(_with_namespace_error(checked, source.manifest))


def _with_namespace_error(outcome: Checked[Any], manifest: Manifest) -> Checked[Any]:
    """Add an error if no namespace can have the name in the metadata. No rule of a definition can check this name."""
    metadata = manifest.get("metadata")
    namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
    if not isinstance(namespace, str) or context.is_namespace(namespace):
        return outcome
    error = Problem("error", "metadata.namespace", f"cannot be the name of a namespace: {context.RULE}", namespace[:80])
    return replace(outcome, problems=(*outcome.problems, error))


def _with_access_warning(outcome: Checked[Any]) -> Checked[Any]:
    """Add a warning if the operator accepts the resource only when its administrator allows access beyond the pod."""
    if outcome.resource is None or not (beyond := _beyond_pod(outcome.resource)):
        return outcome
    warning = Problem("warning", "spec.podTemplate", access.refusal(beyond))
    return replace(outcome, problems=(*outcome.problems, warning))


def _beyond_pod(resource: Resource) -> list[str]:
    return access.beyond_pod(*TYPES[resource.KIND].pod_templates(resource))


def key_of(resource: Resource) -> Key:
    """Return the key of a resource."""
    return Key(resource.metadata.namespace, resource.metadata.name, resource.KIND)


def dump(manifest: Manifest) -> str:
    """Return an object as YAML."""
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


def write(manifests: Sequence[Manifest], output: str) -> None:
    """Print objects as YAML documents, or as one List in JSON."""
    if output == "json":
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}, indent=2))
    else:
        print("---\n".join(dump(manifest) for manifest in manifests), end="")


def _read_file(file: str, namespace: str) -> Iterator[Source]:
    try:
        contents = documents.read(text(file))
    except OSError as error:
        raise of_file(f"-f {file}", error) from error
    except (yaml.YAMLError, documents.DuplicateKeyError) as error:
        raise CommandError(f"{file}: {error}") from error
    except RecursionError as error:
        raise CommandError(f"{file}: nested too deeply; a resource can have at most {DEEPEST_LEVEL} levels") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise CommandError(f"{file}: the API server could not read it: {error}") from error
    for manifest in (item for content in contents for item in _items(content)):
        if _is_ours(manifest):
            yield Source(file, _with_namespace(manifest, namespace))
        elif manifest is not None:
            title = _title(manifest) if isinstance(manifest, dict) else "something that is not an object"
            _print_error(f"{file}: skipped {title}: not of {GROUP}")


def _items(document: object) -> list[object]:
    """Return the items of a List, or the document itself if it is no List."""
    if isinstance(document, dict) and str(document.get("kind")).endswith("List"):
        items = document.get("items")
        return list(items) if isinstance(items, list) else [document]
    return [document]


def _is_ours(manifest: object) -> bool:
    """Return whether an object has our API group or one of our kinds."""
    if not isinstance(manifest, dict):
        return False
    return str(manifest.get("apiVersion", "")).startswith(f"{GROUP}/") or manifest.get("kind") in _KINDS


def _title(manifest: Manifest) -> str:
    """Return the kind and the name, each with a substitute if it is missing."""
    content = manifest.get("metadata")
    metadata = content if isinstance(content, dict) else {}
    prefix = metadata.get("generateName")
    name = metadata.get("name") or (f"{prefix}*" if prefix else "(no name)")
    return f"{manifest.get('kind') or '(no kind)'} {name}"


def _with_namespace(manifest: Any, namespace: str) -> Manifest:
    """Set the namespace of an object that has none."""
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict):
        return dict(manifest)
    return {**manifest, "metadata": {"namespace": namespace, **metadata}}


def _with_name(manifest: Manifest) -> Manifest:
    """Give a resource with generateName a name, as the API server does."""
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("name"):
        return manifest
    prefix = metadata.get("generateName")
    if not isinstance(prefix, str) or not prefix:
        return manifest
    return {**manifest, "metadata": {**metadata, "name": prefix[:_LONGEST_GENERATED] + _GENERATED}}


def _print_error(line: str) -> None:
    print(printable(line), file=sys.stderr)
