"""Debian's Chromium: where it is, and how it is started."""

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
    """Why there can be no browser; None if it is there or can be installed."""
    return debian.obstacle(_PACKAGES)


def launch(playwright: Playwright) -> Browser:
    """Start Chromium, and install it first if need be."""
    debian.ensure_installed(_PACKAGES)
    return playwright.chromium.launch(executable_path=debian.find("chromium"), args=_ARGUMENTS, timeout=180_000)
