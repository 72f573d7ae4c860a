"""Sphinx's settings for the site, which `deploy/local/documentation_site.py` builds."""

import re
from dataclasses import asdict
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

import repository_markdown
from site_pages import CONFIGURATOR, HEADER, ROOT, SEARCH, link, sections

project = html_title = "Kimi-Linear operator"
copyright = ""
extensions = ["myst_parser"]
# In the Markdown, links lead to files: repository_markdown.py changes them, and the builder checks all at the end.
myst_all_links_external = True
# The navigation is made here, and has all pages.
suppress_warnings = ["toc.not_included"]

smartquotes = False

html_theme = "theme"
html_theme_path = ["."]
html_static_path = [str(ROOT / "operator/kimi_linear_operator/look.css"), str(ROOT / "page/src/scheme.js")]
html_extra_path = [str(picture) for picture in sorted(ROOT.glob("docs/*.png"))]
html_copy_source = False
html_use_index = False
html_domain_indices = False


def setup(app: Sphinx) -> None:
    """Connect what the pages need beyond Sphinx."""
    repository_markdown.setup(app)
    app.connect("html-page-context", _add_navigation)


def _add_navigation(app: Sphinx, name: str, _: str, context: dict[str, Any], document: nodes.document | None) -> None:
    titles = {page: title.astext() for page, title in app.env.titles.items()} | {CONFIGURATOR: "Configurator"}
    navigation = sections(list(app.env.titles))
    here = "decisions/index" if name.startswith("decisions/") else name

    def linked(page: str, title: str = "") -> dict[str, Any]:
        return {"title": title or titles[page], "href": link(name, page), "is_here": page == here}

    context["site"] = [linked(page, title) for title, page in HEADER]
    context["sections"] = [
        (part.title, here in part.names, [linked(page) for page in part.names]) for part in navigation
    ]
    context["search"] = link(name, SEARCH)
    context["rows"] = [asdict(row) for row in repository_markdown.rows(app)] if name == SEARCH else []
    context["places"] = _places(document) if document else []
    context["body"] = _accessible(context.get("body", ""))
    order = [page for part in navigation for page in part.names if page in app.env.titles]
    place = order.index(name) if name in order else len(order)
    context["previous_page"] = linked(order[place - 1]) if 0 < place < len(order) else None
    context["next_page"] = linked(order[place + 1]) if place + 1 < len(order) else None


def _places(document: nodes.document) -> list[tuple[str, str]]:
    """Return anchor and title of each section of a page."""
    page = document.next_node(nodes.section)
    parts = [part for part in page.children if isinstance(part, nodes.section)] if page else []
    return [(part["ids"][0], part.next_node(nodes.title).astext()) for part in parts]


def _accessible(body: str) -> str:
    """Return HTML in which keys can scroll long lines, and in which an empty cell is no heading."""
    focusable = body.replace("<pre>", '<pre tabindex="0">')
    return re.sub(r"<th class=\"head\">(\s|<p>|</p>)*</th>", "<td></td>", focusable)
