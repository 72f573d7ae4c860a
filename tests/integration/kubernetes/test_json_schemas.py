"""The JSON schemas for editors and kubeconform. They refuse the same values as the API server's own schema."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from binaries import binary
from integration.client import STRICT_DRY_RUN, Client, path_of
from kimi_linear_operator.kubernetes.kinds import GROUP, VERSION, Manifest
from kimi_linear_operator.resource_types import DEFINITIONS
from passes import RESOURCES

pytestmark = pytest.mark.usefixtures("programs")

ROOT = Path(__file__).parents[3]
# As in the guide, and as for https://github.com/datreeio/CRDs-catalog.
LOCATION = "{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"
GOOD = [*sorted((ROOT / "deploy/samples").glob("*.yaml")), *sorted((ROOT / "tests/golden").glob("*/cr.yaml"))]

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Mistake:
    """A resource with one wrong value, or with an unknown field.

    Attributes:
        kind: The kind of the resource.
        path: The path of the mistake.
        value: The wrong value.
    """

    kind: str
    path: Place
    value: Any

    def manifest(self, name: str) -> Manifest:
        """Return the resource with only the fields that the mistake needs."""
        resource = {"apiVersion": f"{GROUP}/{VERSION}", "kind": self.kind, "metadata": {"name": name}}
        return {**resource, **_nested(self.path, self.value)}


def _nested(path: Place, value: Any) -> Any:
    if not path:
        return value
    first, *rest = path
    inner = _nested(tuple(rest), value)
    return [inner] if isinstance(first, int) else {first: inner}


def _places(schema: Manifest, path: Place) -> Iterator[tuple[Place, Manifest]]:
    """Yield the schema of every field, with a path to it through the first items of lists."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from _places(field, (*path, name))
    if "items" in schema:
        yield from _places(schema["items"], (*path, 0))
    if "additionalProperties" in schema:
        yield from _places(schema["additionalProperties"], (*path, "a"))


_OF_ANOTHER_TYPE: Mapping[str, Any] = {
    "string": 7, "integer": "x", "number": "x", "boolean": "x", "object": "x", "array": {}
}  # fmt: skip


def _wrong(field: Manifest) -> Iterator[Any]:
    """Yield a value for each keyword of a field's schema that refuses it."""
    yield True if field.get("x-kubernetes-int-or-string") else _OF_ANOTHER_TYPE[field["type"]]
    if "enum" in field:
        yield "no-such-value"
    if "pattern" in field:
        yield " \t"
    if "maxLength" in field:
        yield "a" * (field["maxLength"] + 1)
    if field.get("minLength"):
        yield ""
    if "maximum" in field:
        yield field["maximum"] + 1
    if "minimum" in field:
        yield field["minimum"] - (0 if field.get("exclusiveMinimum") else 1)
    if field.get("minItems"):
        yield []


def _mistakes() -> Iterator[Mistake]:
    for definition in DEFINITIONS:
        schema = definition.manifest()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        kind = definition.model.KIND.kind
        for path, field in _places(schema["properties"]["spec"], ("spec",)):
            yield from (Mistake(kind, path, value) for value in _wrong(field))
            if "properties" in field and not field.get("x-kubernetes-preserve-unknown-fields"):
                yield Mistake(kind, (*path, "typo"), "x")


def _nulls() -> Iterator[Mistake]:
    for definition in DEFINITIONS:
        schema = definition.manifest()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        fields = _places(schema["properties"]["spec"], ("spec",))
        yield from (Mistake(definition.model.KIND.kind, path, None) for path, _ in fields)


def conform(texts: Sequence[Manifest], folder: Path) -> dict[str, str]:
    """Return kubeconform's message for each refused resource, by its name."""
    file = folder / "resources.yaml"
    file.write_text("\n---\n".join(json.dumps(manifest) for manifest in texts))
    location = f"-schema-location={ROOT}/crds/schemas/{LOCATION}"
    options = ["-output=json", "-strict", "-verbose", location]
    done = subprocess.run([binary("kubeconform"), *options, file], capture_output=True, text=True, timeout=120)
    results = json.loads(done.stdout)["resources"]
    assert len(results) == len(texts), done.stdout[-2000:] + done.stderr
    assert {result["status"] for result in results} <= {"statusValid", "statusInvalid"}
    return {result["name"]: result["msg"] for result in results if result["status"] == "statusInvalid"}


def answers(client: Client, manifests: Sequence[Manifest]) -> dict[str, str]:
    """Return the API server's message for each refused resource, by its name. Nothing is stored."""
    kinds = {kind.kind: kind for kind in RESOURCES}
    found = {
        manifest["metadata"]["name"]: client.send(
            "POST", path_of(kinds[manifest["kind"]], "default"), manifest, STRICT_DRY_RUN
        )
        for manifest in manifests
    }
    return {name: answer.message for name, answer in found.items() if answer.status != 201}


def _as_the_api_server_says(path: Place) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix(".")


def _is_refused_as_null(path: str, message: str) -> bool:
    """Return whether the API server's schema refuses null in this field. Errors of rules do not count."""
    return any(f"{path}: {said}" in message for said in ("Required value", 'Invalid value: "null"'))


def _as_kubeconform_says(mistake: Mistake) -> str:
    typo = mistake.path[-1] == "typo"
    path = "/".join(map(str, mistake.path[:-1] if typo else mistake.path))
    return f"at '/{path}': additional properties 'typo' not allowed" if typo else f"at '/{path}': "


def test_every_sample_and_every_golden_case_is_valid(tmp_path: Path) -> None:
    manifests = [manifest for file in GOOD for manifest in yaml.safe_load_all(file.read_text())]
    ours = [manifest for manifest in manifests if manifest["apiVersion"].startswith(GROUP)]
    assert len(ours) > 60
    assert conform(ours, tmp_path) == {}


def test_every_mistake_is_refused_at_the_same_field_as_by_the_api_server(client: Client, tmp_path: Path) -> None:
    mistakes = {f"mistake-{number}": mistake for number, mistake in enumerate(_mistakes())}
    assert len(mistakes) > 700
    manifests = [mistake.manifest(name) for name, mistake in mistakes.items()]
    told, conforming = answers(client, manifests), conform(manifests, tmp_path)
    unlike = [
        (mistake, told.get(name), conforming.get(name))
        for name, mistake in mistakes.items()
        if _as_the_api_server_says(mistake.path) not in told.get(name, "")
        or _as_kubeconform_says(mistake) not in conforming.get(name, "")
    ]
    assert unlike == []


def test_null_is_refused_exactly_where_the_api_server_refuses_it(client: Client, tmp_path: Path) -> None:
    nulls = {f"null-{number}": null for number, null in enumerate(_nulls())}
    manifests = [null.manifest(name) for name, null in nulls.items()]
    told, conforming = answers(client, manifests), conform(manifests, tmp_path)
    verdicts = {
        null: (
            _is_refused_as_null(_as_the_api_server_says(null.path), told.get(name, "")),
            _as_kubeconform_says(null) in conforming.get(name, ""),
        )
        for name, null in nulls.items()
    }
    assert {refused for refused, _ in verdicts.values()} == {True, False}
    unlike = {null: verdict for null, verdict in verdicts.items() if len(set(verdict)) > 1}
    assert unlike == {}


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"lables": {}}, "additional properties 'lables' not allowed"),
        ({"labels": {"a": 1}}, "at '/metadata/labels/a': got number, want null or string"),
    ],
)
def test_wrong_metadata_is_refused_like_by_the_api_server(
    client: Client, tmp_path: Path, metadata: Manifest, said: str
) -> None:
    manifest = Mistake("KimiLinearServer", ("spec",), {}).manifest("kimi")
    manifest["metadata"] |= metadata
    assert said in conform([manifest], tmp_path)["kimi"]
    assert "kimi" in answers(client, [manifest])


def test_objects_from_the_api_server_are_valid(client: Client, tmp_path: Path) -> None:
    made = client.request(
        "POST", path_of(RESOURCES[0], "default"), Mistake(RESOURCES[0].kind, ("spec",), {}).manifest("kimi"),
        {"dryRun": "All"},
    )  # fmt: skip
    assert conform([made], tmp_path) == {}
