"""`python -m stand_in` with SGLang's arguments."""

import sys

from stand_in.server import main

sys.exit(main())
