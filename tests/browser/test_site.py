"""The documentation site in a real browser, from a folder: search, colours, keyboard, accessibility, configurator."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

from browser import picture
from browser.picture import DOCS, SCHEMES, Scheme
from browser.visit import Visit

WIDTHS = {"desktop": 1280, "phone": 360}
# Pages with each template, the widest tables and the longest lines.
SAMPLE = (
    "index.html",
    "guide/deploy.html",
    "guide/walkthrough.html",
    "metrics.html",
    "decisions/index.html",
    "files/deploy/samples/kimi.yaml.html",
    "configurator.html",
)


SPEC = "KimiLinearServer.spec"


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files of a folder, and prints nothing."""

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pages")
    picture.write_pages(made)
    return made


@pytest.fixture(scope="module")
def site(folder: Path) -> Path:
    return folder / "site"


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as opened:
        yield opened


def visit(context: BrowserContext, file: Path, rest: str = "") -> Page:
    """Open a page. It must write nothing to the console and send no request to a host."""
    opened = Visit(context.new_page(), file, rest)
    assert opened.messages == []
    assert [address for address in opened.requests if not address.startswith(("file:", "data:"))] == []
    return opened.page


def search(page: Page, words: str) -> None:
    page.get_by_label("Search").fill(words)
    page.keyboard.press("Enter")
    page.locator("#search-results").get_by_text("Search finished").wait_for()


def follow(page: Page, title: str, file: Path) -> None:
    """Follow a link of the header."""
    page.get_by_role("navigation", name="Site").get_by_role("link", name=title).click()
    page.wait_for_url(f"{file.as_uri()}*")


def brightness(page: Page) -> float:
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in ground.removeprefix("rgb(").removesuffix(")").split(",")) / 3


@pytest.mark.parametrize(
    ("words", "title", "address"),
    [
        ("tokenSecretRef", "KimiLinearServer.spec.model.tokenSecretRef", "reference.html#KimiLinearServer.spec.model"),
        ("CrashLooping", "CrashLooping", "reasons.html#CrashLooping"),
        ("kimi-linear status", "kimi-linear status", "command-line.html#kimi-linear-status"),
        ("--rollout-pause", "kimi-linear run --rollout-pause", "command-line.html#kimi-linear-run---rollout-pause"),
        ("kimi_linear_servers", "kimi_linear_servers", "metrics.html#kimi_linear_servers"),
        ("tensor parallel", f"{SPEC}.tensorParallelism", f"reference.html#{SPEC}.tensorParallelism"),
        ("shared memory", f"{SPEC}.preflight", f"reference.html#{SPEC}.preflight"),
        ("partitioned GPUs", "Unschedulable", "reasons.html#Unschedulable"),
        ("uninstall", "Remove servers and the operator", "guide/remove.html"),
    ],
)
def test_a_search_leads_to_the_section(
    words: str, title: str, address: str, site: Path, context: BrowserContext
) -> None:
    page = visit(context, site / "guide/index.html")
    search(page, words)
    found = page.locator("#search-results li").get_by_role("link", name=title, exact=True).first
    assert (found.get_attribute("href") or "").startswith(address)
    found.click()
    page.wait_for_url(f"{site.as_uri()}/{address}*")
    if "#" in page.url:
        assert page.locator(":target").is_visible()
        assert page.locator(":target").bounding_box()["y"] < 900  # type: ignore[index]


def test_a_search_on_a_server_shows_a_part_of_each_page(site: Path, context: BrowserContext) -> None:
    handler = partial(QuietHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page, errors = context.new_page(), list[str]()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        search(page, "junit")
        page.locator("#search-results").get_by_text("JUnit XML").first.wait_for()
        server.shutdown()
    assert errors == []


def test_the_readers_colours_stay_on_all_pages(site: Path, browser: Browser) -> None:
    with browser.new_context(color_scheme="light") as context:
        page = visit(context, site / "index.html")
        assert brightness(page) > 200
        page.get_by_label("Dark", exact=True).check()
        assert brightness(page) < 60
        follow(page, "Guide", site / "guide/index.html")
        assert brightness(page) < 60
        follow(page, "Configurator", site / "configurator.html")
        assert brightness(page) < 60
        assert page.get_by_label("Dark", exact=True).is_checked()
        page.get_by_label("System").check()
        assert brightness(page) > 200


def test_the_site_follows_the_systems_colours(site: Path, browser: Browser) -> None:
    with browser.new_context(color_scheme="dark") as context:
        assert brightness(visit(context, site / "index.html")) < 60


def test_the_keyboard_reaches_content_and_search(site: Path, context: BrowserContext) -> None:
    page = visit(context, site / "guide/deploy.html")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type("drain")
    page.keyboard.press("Enter")
    page.locator("#search-results").get_by_text("Search finished").wait_for()


def obstacles(page: Page) -> list[Any]:
    """Return by how many pixels a page is wider than its window, if it is, and what axe finds."""
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    violations = Axe().run(page).response["violations"]
    return [wider, *((item["id"], [node["html"] for node in item["nodes"]]) for item in violations)]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_pages_are_accessible_and_fit_their_windows(
    width: str, scheme: Scheme, site: Path, browser: Browser
) -> None:
    with browser.new_context(color_scheme=scheme, viewport={"width": WIDTHS[width], "height": 900}) as context:
        found = {name: obstacles(visit(context, site / name)) for name in SAMPLE}
        page = visit(context, site / "index.html")
        search(page, "tokenSecretRef")
        found["results"] = obstacles(page)
    assert found == {name: [0] for name in (*SAMPLE, "results")}


@pytest.mark.parametrize("width", [1280, 1151])
def test_the_descriptions_of_fields_have_room(width: int, site: Path, browser: Browser) -> None:
    with browser.new_context(viewport={"width": width, "height": 900}) as context:
        rows = visit(context, site / "reference.html").locator("tr", has_text="spec.tensorParallelism")
        box = rows.first.locator("td").last.bounding_box()
    assert box
    assert box["width"] >= 320


@pytest.mark.parametrize("width", [1280, 1151, 1150, 360])
def test_no_page_scrolls_sideways(width: int, site: Path, browser: Browser) -> None:
    with browser.new_context(viewport={"width": width, "height": 800}) as context:
        page, wide = context.new_page(), []
        for file in sorted(site.rglob("*.html")):
            page.goto(file.as_uri())
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                wide.append(str(file.relative_to(site)))
    assert wide == []


def test_the_configurator_works_within_the_site(site: Path, context: BrowserContext) -> None:
    page = visit(context, site / "index.html")
    follow(page, "Configurator", site / "configurator.html")
    page.locator("#hardware-mi355x").check()
    page.locator("#tab-command").click()
    assert "sglang.launch_server" in (page.locator("#text").text_content() or "")
    follow(page, "Start", site / "index.html")
    assert page.locator("h1").inner_text().startswith("Kimi-Linear operator")


LOOK = """element => {
  const style = getComputedStyle(element);
  return [style.backgroundColor, style.borderTop, style.borderRadius, style.color, style.fontFamily];
}"""


def test_the_header_looks_the_same_on_the_configurators_page(site: Path, context: BrowserContext) -> None:
    looks = []
    for name in ("index.html", "configurator.html"):
        page = visit(context, site / name)
        links = page.get_by_role("navigation", name="Site").get_by_role("link").all_inner_texts()
        looks.append((page.locator("header").evaluate(LOOK), links))
    assert looks[0] == looks[1]


def test_the_pictures_of_the_documentation_are_fresh(folder: Path, browser: Browser) -> None:
    """A changed word changes some hundred pixels."""
    changed = {
        name: count
        for name, now in picture.taken(browser, folder)
        if now != (kept := (DOCS / name).read_bytes()) and (count := picture.differing_pixels(browser, kept, now)) > 50
    }
    assert changed == {}, "run `make pictures`"
