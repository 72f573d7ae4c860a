"""What comes out of the configurator's page, before the API server."""

import functools
import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from browser import chromium
from browser.walking import random_walks, take
from integration.client import STRICT_DRY_RUN, Client, path_of
from integration.namespace import server_manifest
from integration.waiting import wait_for
from kimi_linear_operator import configurator
from kimi_linear_operator.cli import documents
from kimi_linear_operator.kubernetes.kinds import Manifest
from passes import RESOURCES

pytestmark = pytest.mark.usefixtures("no_operator")

WALKS = 60


def told_by_the_page(file: Path) -> dict[str, list[str]]:
    """The resources that come out of random walks, each with the problems that the page shows."""
    if (reason := chromium.obstacle()) and not os.environ.get("CI"):
        pytest.skip(reason)
    file.write_text(configurator.page(), encoding="utf-8")
    with sync_playwright() as playwright, chromium.launch(playwright) as browser:
        page = browser.new_page()
        page.goto(file.as_uri())
        states = [state for walk in random_walks(WALKS) for state in take(page, walk)]
    return {state["texts"][kind]: state[kind]["problems"] for state in states for kind in ("server", "benchmark")}


def ask(client: Client, manifest: Manifest) -> Any:
    kind = next(kind for kind in RESOURCES if kind.kind == manifest["kind"])
    return client.send("POST", path_of(kind, "default"), manifest, STRICT_DRY_RUN)


def test_the_api_server_takes_what_the_page_says_it_takes(client: Client, tmp_path: Path) -> None:
    told = told_by_the_page(tmp_path / "page.html")
    risky = server_manifest("kimi", "default", {"tensorParallelism": 8})
    wait_for(functools.partial(ask, client, risky), "the API server warns", lambda answer: answer.warnings)
    for text, problems in told.items():
        [manifest] = documents.read(text)
        answer = ask(client, manifest)
        is_taken = not any(line.startswith("error: ") for line in problems)
        assert (answer.status == 201) == is_taken, f"{answer.status} {answer.message}\n{text}\n{problems}"
        if is_taken:
            assert len(answer.warnings) == len(problems), f"{answer.warnings}\n{text}\n{problems}"
