"""Another version of the operator: one that builds other pods, as a release does that adds a variable or moves a probe.

Run as a program, it is that version's `kimi-linear`.
"""

import sys

from kimi_linear_operator.cli import main
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server import sglang
from kimi_linear_operator.server.spec import ServerSpec

MARK = "BUILT_BY_ANOTHER_VERSION"


def is_built_by_other(template: Manifest) -> bool:
    """Return whether a pod template is that version's."""
    [engine_container] = [item for item in template["spec"]["containers"] if item["name"] == sglang.CONTAINER]
    return any(variable["name"] == MARK for variable in engine_container["env"])


def build_otherwise() -> None:
    """Make the builders of this process those of the other version."""
    environment, probes = sglang.environment, sglang.probes

    def other_environment(spec: ServerSpec) -> list[Manifest]:
        return [*environment(spec), {"name": MARK, "value": "1"}]

    def other_probes(spec: ServerSpec) -> Manifest:
        known = probes(spec)
        return {**known, "livenessProbe": {**known["livenessProbe"], "periodSeconds": 31}}

    sglang.environment, sglang.probes = other_environment, other_probes


if __name__ == "__main__":
    build_otherwise()
    sys.exit(main())
