"""A real browser for the tests here."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from browser import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for one module only: while Playwright runs, no other test can run an event loop."""
    if (reason := chromium.obstacle()) and not os.environ.get("CI"):
        pytest.skip(reason)
    with sync_playwright() as playwright, chromium.launch(playwright) as started:
        yield started
