"""The command reads files like kubectl. Both give the same objects with the same values, or an error."""

import json
import subprocess
from pathlib import Path

import pytest

from binaries import binary
from kimi_linear_operator.cli import documents, files
from kimi_linear_operator.kubernetes.kinds import Manifest

pytestmark = pytest.mark.usefixtures("programs")

HEAD = "apiVersion: kimi-linear.io/v1alpha1\nkind: KimiLinearServer\n"
# YAML parsers differ in how they read each of these values.
VALUES = [
    "y",
    "Y",
    "n",
    "yes",
    "on",
    "off",
    "OFF",
    "true",
    "FALSE",
    "~",
    "null",
    "1",
    "-1",
    "+1",
    "017",
    "0o17",
    "0x1f",
    "0b11",
    "1_000",
    "1:30",
    "1e3",
    "1E3",
    "1e-3",
    ".5",
    "1.",
    "1.5",
    "-1.5e+3",
    "2026-11-24",
    "2026-11-24T10:00:00Z",
    "'1'",
    '"yes"',
    "v1",
    "1.2.3",
    "=",
    "1e",
    "0x",
    "08",
    "_1",
    ".",
    "1__0",
    "12e03",
    "0.0",
    "-0",
    "0o8",
]
PLAIN = "".join(f"  k{number}: {value}\n" for number, value in enumerate(VALUES))
TEXTS = {
    "merge keys": "metadata: {name: b, labels: &l {team: ml, a: b}, annotations: {<<: *l, team: x}}",
    "several merge keys": "spec: {a: &a {p: '1', r: x}, b: &b {p: '2', q: '3'}, c: {<<: [*a, *b], r: z}}",
    "a merged object that merges": "spec: {a: &a {p: x}, b: &b {<<: *a, p: y}, c: {<<: *b, q: z}, d: *b}",
    "an anchor": "metadata: {name: &n kimi, labels: {server: *n}}",
    "plain values": f"spec:\n{PLAIN}",
    "keys that are no text": "spec: {1: a, true: b, 1.5: c}",
    "a generated name": "metadata: {generateName: b-}",
    "block text": "spec:\n  a: |\n    x\n    y\n  b: >-\n    x\n    y",
}
FILES = {
    **{name: f"{HEAD}{text}\n" for name, text in TEXTS.items()},
    "several documents": f"---\n{HEAD}---\n---\n# nothing\n---\n{HEAD}...\n",
    "a list": "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: ConfigMap}]\n",
    "JSON with tabs": '{\n\t"apiVersion": "v1",\n\t"kind": "ConfigMap",\n\t"metadata": {"name": "a"}\n}\n',
    "JSON after JSON": '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}\n' * 2,
}


def kubectl(output: str, *options: str) -> str:
    """kubectl's result for files, without a cluster."""
    command = [str(binary("kubectl")), "label", "--local", f"--output={output}", *options, "tests/read=true"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def without_labels(item: Manifest) -> Manifest:
    metadata = {key: value for key, value in item.get("metadata", {}).items() if key != "labels"}
    return {**item, "metadata": metadata}


@pytest.mark.parametrize("name", FILES)
def test_the_same_text_gives_the_same_objects_as_in_kubectl(name: str, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(FILES[name])
    ours = [item for item in documents.read(files.text(str(file))) if item is not None]
    items = [item for document in ours for item in document.get("items", [document])]
    theirs = documents.read(kubectl("json", f"--filename={file}"))
    assert list(map(without_labels, items)) == list(map(without_labels, theirs))


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize("given", ["{folder}", "{folder}/*.y*ml", "{folder}/d.txt,{folder}/sub", "{folder}/su*"])
def test_the_same_file_name_gives_the_same_files_as_in_kubectl(given: str, recursive: bool, tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.json", "d.txt", "sub/e.yaml", "sub/deeper/f.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": Path(name).stem}}
        (tmp_path / name).write_text(json.dumps(content))
    given = given.format(folder=tmp_path)
    found = [Path(file).stem for file in files.find(given, recursive=recursive)]
    theirs = kubectl("name", f"--filename={given}", f"--recursive={str(recursive).lower()}").splitlines()
    assert found == [line.removeprefix("configmap/") for line in theirs]
