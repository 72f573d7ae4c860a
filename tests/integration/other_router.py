"""Another version of the operator. It builds different pods only for routers.

Run as a program, it is that version's `kimi-linear`.
"""

import sys

from kimi_linear_operator.cli import main
from kimi_linear_operator.server.sglang import router_flags

# As in `other_version.py`, which this program cannot import.
_MARK = "BUILT_BY_ANOTHER_VERSION"

if __name__ == "__main__":
    router_flags.ENVIRONMENT = {**router_flags.ENVIRONMENT, _MARK: "1"}
    sys.exit(main())
