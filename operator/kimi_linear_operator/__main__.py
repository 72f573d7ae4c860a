"""`python -m kimi_linear_operator`, the same as the `kimi-linear` command."""

import sys

from kimi_linear_operator.cli import main

sys.exit(main())
