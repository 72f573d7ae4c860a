"""The API server accepts the output of the configurator's page exactly if the page does."""

import functools
import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

import chart
from browser import chromium
from browser.walking import random_walks, take
from integration.client import STRICT_DRY_RUN, Client, path_of
from integration.namespace import server_manifest
from integration.waiting import wait_for
from kimi_linear_operator import configurator
from kimi_linear_operator.cli import documents
from kimi_linear_operator.kubernetes.kinds import Manifest
from passes import RESOURCES

WALKS = 60
# Helm needs half a second for each case.
RENDERED = 12


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The page's output on random walks.

    The browser is closed before the tests, because no test can run an event loop beside it.
    """
    if (reason := chromium.obstacle()) and not os.environ.get("CI"):
        pytest.skip(reason)
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(configurator.page(), encoding="utf-8")
    with sync_playwright() as playwright, chromium.launch(playwright) as browser:
        page = browser.new_page()
        page.goto(file.as_uri())
        return [state for walk in random_walks(WALKS) for state in take(page, walk)]


def ask(client: Client, manifest: Manifest) -> Any:
    kind = next(kind for kind in RESOURCES if kind.kind == manifest["kind"])
    return client.send("POST", path_of(kind, "default"), manifest, STRICT_DRY_RUN)


@pytest.mark.usefixtures("no_operator")
def test_the_api_server_accepts_exactly_the_specs_that_the_page_accepts(
    client: Client, states: list[dict[str, Any]]
) -> None:
    risky = server_manifest("kimi", "default", {"tensorParallelism": 8})
    wait_for(functools.partial(ask, client, risky), "the API server warns", lambda answer: answer.warnings)
    told = {state["texts"][kind]: state[kind]["problems"] for state in states for kind in ("server", "benchmark")}
    for text, problems in told.items():
        [manifest] = documents.read(text)
        answer = ask(client, manifest)
        is_taken = not any(line.startswith("error: ") for line in problems)
        assert (answer.status == 201) == is_taken, f"{answer.status} {answer.message}\n{text}\n{problems}"
        if is_taken:
            assert len(answer.warnings) == len(problems), f"{answer.warnings}\n{text}\n{problems}"


@pytest.mark.usefixtures("programs")
def test_the_chart_renders_the_pages_server_from_the_pages_values(states: list[dict[str, Any]], tmp_path: Path) -> None:
    values = {state["texts"]["helm"]: state["texts"]["server"] for state in states if is_valid(state)}
    file = tmp_path / "values.yaml"
    for text, server in list(values.items())[:RENDERED]:
        file.write_text(text)
        rendered = chart.helm("template", "release", chart.SERVERS_CHART, f"--values={file}")
        [*_, made], [wanted] = documents.read(rendered), documents.read(server)
        assert (made["kind"], made["metadata"]["name"]) == (wanted["kind"], wanted["metadata"]["name"])
        assert made["spec"] == wanted["spec"], text


def is_valid(state: dict[str, Any]) -> bool:
    return all(state[resource]["verdict"].endswith(": valid") for resource in ("server", "benchmark"))
