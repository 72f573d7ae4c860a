"""A real browser for the tests in this folder."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from browser import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for a single module, because no other test can run an event loop while Playwright runs."""
    if (reason := chromium.obstacle()) and not os.environ.get("CI"):
        pytest.skip(reason)
    with sync_playwright() as playwright, chromium.launch(playwright) as started:
        yield started
