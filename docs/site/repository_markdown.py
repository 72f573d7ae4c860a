"""Makes pages of a site from Markdown that is also read in the repository, where links lead to files."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from site_pages import link, pages, target

_LOG = logging.getLogger(__name__)
_PAGES = {page.name: page for page in pages()}
_NAMES = {page.source: page.name for page in _PAGES.values()}

# What the rows of a page's tables are about, in results of a search.
_ROWS = {
    "reference": "field",
    "reasons": "reason",
    "command-line": "option",
    "metrics": "metric",
    "charts/kimi-linear-operator": "Helm value",
}
_COMMAND = "command"
_KEY = "rows"
# Between a separator in a name and the next word, and between two words of which the second one begins with a capital.
_SEPARATED = re.compile(r"(?<=[._/:=-])(?=\w)|(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class Row:
    """What a search finds on a page: a row of a table, or a command.

    Attributes:
        page: The name of the page.
        kind: What the row is about.
        title: The name in its first cell.
        anchor: Its anchor.
        texts: The other cells.
    """

    page: str
    kind: str
    title: str
    anchor: str
    texts: list[str]


def setup(app: Sphinx) -> None:
    """Register what is done to each page that was read."""
    # Sphinx collects the titles of sections at 500: they must have their anchors before.
    app.connect("doctree-read", _finish, priority=100)


def _finish(app: Sphinx, document: nodes.document) -> None:
    name = app.env.docname
    _name_sections(document)
    _lead_links(name, document)
    _lead_pictures(name, document)
    if name in _ROWS:
        app.env.metadata[name][_KEY] = list(_entries(name, document))
    _let_names_wrap(document)


def rows(app: Sphinx) -> list[Row]:
    """Return what a search finds on pages with tables."""
    return [row for name in _ROWS for row in app.env.metadata[name][_KEY]]


def _name_sections(document: nodes.document) -> None:
    """Give each section the anchor that forges give it, because links use those."""
    seen: dict[str, int] = {}
    for section in document.findall(nodes.section):
        title = section.next_node(nodes.title)
        slug = re.sub(r"[^\w\- ]", "", title.astext().lower()).replace(" ", "-") if title else ""
        count = seen[slug] = seen.get(slug, -1) + 1
        section["ids"] = [f"{slug}-{count}" if count else slug]


def _lead_links(name: str, document: nodes.document) -> None:
    for node in list(document.findall(nodes.reference)):
        path, mark, anchor = node.get("refuri", "").partition("#")
        if re.match(r"[a-z]+:", path) or not (path or anchor):
            continue
        try:
            other = target(_PAGES[name].source, path, _NAMES) if path else name
        except LookupError as error:
            _LOG.warning("%s", error, location=node)
            continue
        if other is None:
            node.replace_self(node.children)
        else:
            node["refuri"] = (link(name, other) if path else "") + mark + anchor
            node["internal"] = True


def _lead_pictures(name: str, document: nodes.document) -> None:
    """Pictures are HTML, because they differ between light and dark; the site has them in its root."""
    root = link(name, "index").removesuffix("index.html")
    for node in document.findall(nodes.raw):
        text = re.sub(r'((?:src|srcset)=")[./]*([\w-]+\.png")', rf"\1{root}\2", node.astext())
        node.children = [nodes.Text(text)]


def _let_names_wrap(document: nodes.document) -> None:
    """Let long names in tables wrap between their words, and not within a word."""
    for entry in document.findall(nodes.entry):
        for literal in entry.findall(nodes.literal):
            first, *others = _SEPARATED.split(literal.astext())
            wraps = ((nodes.raw("", "<wbr>", format="html"), nodes.Text(part)) for part in others)
            literal.children = []
            literal += [nodes.Text(first), *chain.from_iterable(wraps)]


def _entries(name: str, document: nodes.document) -> Iterator[Row]:
    for section in document.findall(nodes.section):
        heading = section.next_node(nodes.title).astext()
        if name == "command-line" and heading.startswith("kimi-linear "):
            yield Row(name, _COMMAND, heading, section["ids"][0], [section.next_node(nodes.paragraph).astext()])
        for table in _own_tables(section):
            yield from _rows(name, _prefix(name, heading), table)


def _own_tables(section: nodes.section) -> Iterator[nodes.table]:
    for child in section.children:
        if not isinstance(child, nodes.section):
            yield from child.findall(nodes.table)


def _prefix(name: str, heading: str) -> str:
    """Return what tells rows of different tables apart: their resource or their command."""
    return {"reference": f"{heading}.", "command-line": f"{heading} "}.get(name, "")


def _rows(name: str, prefix: str, table: nodes.table) -> Iterator[Row]:
    """Give each row that begins with names an anchor, and yield the row by its last name, which is the long one."""
    for row in table.findall(nodes.row):
        names = list(row[0].findall(nodes.literal))
        if isinstance(row.parent, nodes.tbody) and names:
            title = prefix + names[-1].astext()
            anchor = re.sub(r"[^\w.-]+", "-", title)
            row["ids"] = [anchor]
            yield Row(name, _ROWS[name], title, anchor, [text for cell in row[1:] if (text := cell.astext())])
