"""A newer version of the operator, in which an existing optional field has a default.

Run as a program, it is that version's `kimi-linear`.
"""

import sys

from kimi_linear_operator.cli import main
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec
from kimi_linear_operator.server.spec.engine import Engine

FRACTION = 0.85


def set_default() -> None:
    """Add the default to the models of this process."""
    Engine.model_fields["memory_fraction_static"].default = FRACTION
    for model in (Engine, ServerSpec, KimiLinearServer):
        model.model_rebuild(force=True)


if __name__ == "__main__":
    set_default()
    sys.exit(main())
