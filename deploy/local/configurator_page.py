"""Builds the configurator's page from the folder `page/`, with Node: `make page`."""

import sys
from pathlib import Path

import debian
from commands import LocalClusterError, exit_code, run, say

SOURCE = Path(__file__).parents[2] / "page"
BUILT = SOURCE.parent / "operator/kimi_linear_operator/configurator/page.html"
_PACKAGES = {"node": "nodejs", "npm": "npm"}
_SECONDS = 600


def obstacle() -> str | None:
    """Why the page cannot be built; None if Node is installed or can be installed."""
    return debian.obstacle(_PACKAGES)


def ensure_installed() -> None:
    """Install Node and the packages in the lock file, unless they are installed."""
    if reason := obstacle():
        raise LocalClusterError(f"{reason}. Install Node 18 or newer with npm, then retry.")
    debian.ensure_installed(_PACKAGES)
    lock, installed = SOURCE / "package-lock.json", SOURCE / "node_modules/.package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        say("Installing the tools that build the configurator's page (40 MB) ...")
        run(["npm", "ci", "--prefix", SOURCE], timeout=_SECONDS)


def node(script: str, *arguments: str | Path, stdin: str = "") -> str:
    """Run a script in the page's folder and return its output."""
    return run(["node", SOURCE / script, *arguments], stdin=stdin, timeout=_SECONDS)


def check_types() -> None:
    """Check the types of the page's sources."""
    node("node_modules/typescript/bin/tsc", "--project", SOURCE)


def build(target: Path = BUILT) -> None:
    """Write the page."""
    ensure_installed()
    check_types()
    node("build.mjs", target)


if __name__ == "__main__":
    sys.exit(exit_code(build))
