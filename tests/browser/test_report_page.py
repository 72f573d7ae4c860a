"""The HTML report in a real browser. It shows everything, fetches no files, runs no scripts, and is accessible."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from browser.visit import Visit
from kimi_linear_operator.benchmark import recipe, report
from kimi_linear_operator.kubernetes.kinds import Manifest
from make import make_benchmark, make_finished_benchmark, make_result

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
WIDTHS = {"desktop": 1280, "phone": 360}

NIGHTLY = Path(__file__).parents[2] / "docs/examples/nightly.yaml"
MARKUP = "<script>document.title = 'taken'</script><img src='https://192.0.2.1/' onerror='document.title=1'>"


@pytest.fixture(params=[(scheme, width) for scheme in SCHEMES for width in WIDTHS], ids=" on a ".join)
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    scheme, width = request.param
    with browser.new_context(
        color_scheme=scheme, viewport={"width": WIDTHS[width], "height": 900}, bypass_csp=False
    ) as context:
        yield context.new_page()


def hostile() -> Manifest:
    finding = {"rule": "Validity", "passed": False, "message": MARKUP}
    results = [
        make_result(
            "speed-low", dict.fromkeys(recipe.PUBLISHED["speed-low"], 9.9e14), message=MARKUP, findings=[finding]
        ),
        make_result("gsm8k", {}, message=MARKUP, outcome="Failed"),
    ]
    benchmark = make_finished_benchmark(*results, verdict="Invalid")
    environment = {"server": MARKUP, "image": "x" * 300, "command": f"{MARKUP} {'y' * 300}", "hardware": '"><b>'}
    return {**benchmark, "status": {**benchmark["status"], "environment": environment}}


def nightly() -> Manifest:
    return dict(yaml.safe_load(NIGHTLY.read_text()))


def one_suite() -> Manifest:
    return make_finished_benchmark(make_result("speed-medium"), baseline={"source": "none"})


def compared() -> report.Run:
    return report.beside(report.read(nightly()), report.read(one_suite()))


RUNS = {
    "nightly": report.read(nightly()),
    "hostile": report.read(hostile()),
    "one suite": report.read(one_suite()),
    "not begun": report.read(make_benchmark()),
    "compared": compared(),
}


@pytest.mark.parametrize("case", RUNS)
def test_the_report_page_needs_no_other_file_and_is_accessible(case: str, page: Page, tmp_path: Path) -> None:
    run = RUNS[case]
    file = tmp_path / "report.html"
    file.write_text(report.REPORTS["html"](run))
    visit = Visit(page, file)
    assert (visit.messages, visit.requests) == ([], [])
    assert page.title() == f"{run.name}: {run.verdict}"
    assert page.locator("script, img, iframe, object, b").count() == 0
    assert page.locator(".tile h2").all_inner_texts() == [suite.name for suite in run.suites]
    overflow: Any = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow == 0, "the page is wider than its window"
    for details in page.locator("details").all():
        details.evaluate("element => element.open = true")
    findings = Axe().run(page).response["violations"]
    assert [(item["id"], [node["html"] for node in item["nodes"]]) for item in findings] == []


def test_every_plot_is_drawn_and_named(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report.REPORTS["html"](RUNS["nightly"]))
    Visit(page, file)
    plots = page.get_by_role("img")
    names = [plot.locator("title").first.text_content() for plot in plots.all()]
    assert len(names) == len(set(names)) == 4 + 3 * 4
    assert "Output token throughput (tok/s) against concurrency" in names
    assert "Time to First Token of speed-high" in names
    for plot in plots.all():
        box = plot.bounding_box()
        assert box
        assert min(box["width"], box["height"]) > 60
        # A mark for each number, of the run and of the recipe.
        assert plot.locator("circle.measured").count() >= plot.locator("path.mark.reference").count() >= 2


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_report_page_follows_the_readers_colour_scheme(scheme: Scheme, browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report.REPORTS["html"](RUNS["nightly"]))
    with browser.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(file.as_uri())
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in ground.removeprefix("rgb(").removesuffix(")").split(",")) / 3
    assert (brightness > 200) if scheme == "light" else (brightness < 60)
