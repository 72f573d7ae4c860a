"""Replaces sglang/launch_server.py in an image, so that `python3 -m sglang.launch_server` starts the stand-in."""

import sys

from stand_in.server import main

if __name__ == "__main__":
    sys.exit(main())
