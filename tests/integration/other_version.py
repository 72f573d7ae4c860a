"""Another version of the operator. It builds different pods, like a release that adds a variable or changes a probe.

Run as a program, it is that version's `kimi-linear`.
"""

import sys

from kimi_linear_operator.cli import main
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.pod_template import ENGINE_CONTAINER
from kimi_linear_operator.server.sglang import environment, probes, router_flags
from kimi_linear_operator.server.spec import ServerSpec

MARK = "BUILT_BY_ANOTHER_VERSION"


def is_built_by_other(template: Manifest) -> bool:
    """Return whether a pod template was built by that version."""
    [engine_container] = [item for item in template["spec"]["containers"] if item["name"] == ENGINE_CONTAINER]
    return any(variable["name"] == MARK for variable in engine_container["env"])


def is_router_of_other(template: Manifest) -> bool:
    """Return whether a pod template of a router was built by that version."""
    return MARK in str(template["spec"]["containers"])


def build_otherwise() -> None:
    """Make the builders of this process those of the other version."""
    variables, build_probes = environment.variables, probes.build_probes

    def other_environment(spec: ServerSpec) -> list[Manifest]:
        return [*variables(spec), {"name": MARK, "value": "1"}]

    def other_probes(spec: ServerSpec) -> Manifest:
        built = build_probes(spec)
        return {**built, "livenessProbe": {**built["livenessProbe"], "periodSeconds": 31}}

    environment.variables, probes.build_probes = other_environment, other_probes
    router_flags.ENVIRONMENT = {**router_flags.ENVIRONMENT, MARK: "1"}


if __name__ == "__main__":
    build_otherwise()
    sys.exit(main())
