"""Debian's Chromium: its place, and its start."""

from playwright.sync_api import Browser, Playwright

import debian

# Chromium has no sandbox as root. The other options stop requests to Google's servers.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


_PACKAGES = {"chromium": "chromium"}


def obstacle() -> str | None:
    """Why there can be no browser; None if the browser is installed or can be installed."""
    return debian.obstacle(_PACKAGES)


def launch(playwright: Playwright) -> Browser:
    """Start Chromium. If necessary, install it first."""
    debian.ensure_installed(_PACKAGES)
    return playwright.chromium.launch(executable_path=debian.find("chromium"), args=_ARGUMENTS, timeout=180_000)
