"""The site has all pages, and its builder finds wrong links; tests/browser/test_site.py looks at the site itself."""

from pathlib import Path

import pytest

import documentation_site
import site_pages

ROOT = Path(__file__).parents[3]
NAMES = {page.source: page.name for page in site_pages.pages()}


def page(body: str) -> str:
    return f"<!DOCTYPE html><html><head></head><body>{body}</body></html>"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="gone.html">x</a>', "a.html leads to gone.html, which does not exist"),
        ('<a href="b/c.html#gone">x</a>', "a.html leads to b/c.html#gone, which does not exist"),
        ('<a href="#gone">x</a>', "a.html leads to #gone, which does not exist"),
        ('<a href="/b/c.html">x</a>', "a.html leads to /b/c.html, which does not exist"),
        ('<form action="gone.html"></form>', "a.html leads to gone.html, which does not exist"),
        ('<img src="gone.png">', "a.html leads to gone.png, which does not exist"),
        ('<script src="https://example.com/x.js"></script>', "a.html loads https://example.com/x.js"),
        ('<link rel="stylesheet" href="//example.com/x.css">', "a.html loads //example.com/x.css"),
        ('<p id="two"></p><p id="two"></p>', "a.html: two elements are two"),
    ],
)
def test_a_wrong_link_is_named(body: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/c.html").write_text(page('<a id="place" href="../a.html">x</a>'))
    (tmp_path / "a.html").write_text(page(f'{body}<a href="b/c.html#place">x</a> <a href="https://example.com">x</a>'))
    assert problem in list(documentation_site.problems(tmp_path))


def test_right_links_are_no_problem(tmp_path: Path) -> None:
    (tmp_path / "a b.html").write_text(page('<a id="x" href="a%20b.html#x">x</a><a href="mailto:a@example.com">x</a>'))
    assert list(documentation_site.problems(tmp_path)) == []


def test_every_page_of_the_documentation_is_in_the_navigation_once() -> None:
    listed = [name for part in site_pages.sections(list(NAMES.values())) for name in part.names]
    assert len(listed) == len(set(listed))
    reached = {*listed, *(name for name in NAMES.values() if name.startswith(("decisions/", "files/")))}
    assert set(NAMES.values()) | {site_pages.CONFIGURATOR} == reached
    documents = {file.relative_to(ROOT).as_posix() for file in ROOT.glob("docs/**/*.md")}
    assert documents <= NAMES.keys()


@pytest.mark.parametrize(
    ("source", "link", "name"),
    [
        ("docs/guide/deploy.md", "../upgrading.md", "upgrading"),
        ("docs/guide/deploy.md", "../../README.md", "index"),
        ("README.md", "docs/guide/README.md", "guide/index"),
        ("README.md", "docs/decisions", "decisions/index"),
        ("README.md", "deploy/samples", "files/deploy/samples"),
        ("docs/guide/weights.md", "../../deploy/samples/kimi-weights.yaml", "files/deploy/samples/kimi-weights.yaml"),
        ("docs/architecture.md", "../page", None),
    ],
)
def test_a_link_to_a_file_leads_to_its_page(source: str, link: str, name: str | None) -> None:
    assert site_pages.target(source, link, NAMES) == name


def test_a_link_to_a_missing_file_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"README\.md links to docs/gone\.md"):
        site_pages.target("README.md", "docs/gone.md", NAMES)
