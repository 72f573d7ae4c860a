"""Schemas of Kubernetes for kubeconform. Otherwise kubeconform would fetch them from the internet."""

import json
from pathlib import Path

import packages
from binaries import cache_folder

VERSIONS = ("1.30.0", "1.31.0", "1.32.0", "1.33.0", "1.34.0", "1.35.0", "1.36.0", "1.37.0")
"""The versions of Kubernetes that the chart supports."""

LOCATION = "{{.NormalizedKubernetesVersion}}/{{.ResourceKind}}{{.KindSuffix}}.json"
"""The path of a kind's schema for kubeconform, in the folder of `write_schemas`."""

# The package kubernetes-validate, of which only the schemas are used. If it were installed beside the library
# `kubernetes`, the library would import it, which takes longer than all other imports of the operator.
_REQUIREMENTS = Path(__file__).with_suffix(".txt")
# The file to which schemas of kinds refer, with its name in that package.
_DEFINITIONS = "/api/_definitions.json#"


def write_schemas(folder: Path) -> Path:
    """Write the schemas of all versions into this folder, and return it. The schemas refuse unknown fields."""
    package = packages.installed(cache_folder(), "schemas", "Schemas of Kubernetes", [_REQUIREMENTS])
    for version in VERSIONS:
        source = package / f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict"
        target = folder / f"v{version}"
        target.mkdir()
        for file in source.glob("*.json"):
            schema = json.loads(file.read_text().replace(_DEFINITIONS, "_definitions.json#"))
            # Without an id, references are relative to the file.
            schema.pop("$id", None)
            (target / file.name).write_text(json.dumps(schema))
    return folder
