"""The pages of the site: where each comes from, where it is in the site, and in which order.

A page has a name: its path in the site without `.html`. Sources are paths relative to the root of the repository.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

CONFIGURATOR = "configurator"
"""The name of the configurator's page, which is not made from Markdown."""
SEARCH = "search"
"""The name of the page with the results of a search, which Sphinx makes."""

HEADER = (
    ("Start", "index"),
    ("Guide", "guide/index"),
    ("Reference", "reference"),
    ("Configurator", CONFIGURATOR),
    ("Decisions", "decisions/index"),
)
"""The links in the header of each page: title and name."""

_OF_THE_ROOT = {"README.md": "index", "CHANGELOG.md": "changelog", "CONTRIBUTING.md": "contributing"}
_REFERENCE = ("reference", "command-line", "metrics", "reasons", "guarantees", "glossary")
_DEVELOPMENT = ("contributing", "architecture", "decisions/index", "releasing")
# Pages show the YAML files in these folders, because the documentation links to them.
_SHOWN = ("deploy/samples", "deploy/gitops", "deploy/kustomize", "deploy/monitoring", "docs/examples")


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        name: Its name.
        source: The file to which its links are relative.
        text: Its Markdown.
    """

    name: str
    source: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of the navigation.

    Attributes:
        title: Its title.
        names: The names of its pages, in order.
    """

    title: str
    names: Sequence[str]


def pages() -> list[Page]:
    """Return all pages that are made from Markdown."""
    return [*_documents(), _decisions(), *_files(), *_folders()]


def _documents() -> Iterator[Page]:
    found = [file for pattern in ("docs/*.md", "docs/guide/*.md", "docs/decisions/*.md") for file in ROOT.glob(pattern)]
    files = [*map(ROOT.joinpath, _OF_THE_ROOT), *sorted(found), *sorted(ROOT.glob("charts/*/README.md"))]
    for file in files:
        source = file.relative_to(ROOT).as_posix()
        yield Page(_name(source), source, file.read_text())


def _name(source: str) -> str:
    if source in _OF_THE_ROOT:
        return _OF_THE_ROOT[source]
    if source.startswith("charts/"):
        return posixpath.dirname(source)
    return re.sub(r"README$", "index", source.removeprefix("docs/").removesuffix(".md"))


def _decisions() -> Page:
    files = sorted(ROOT.glob("docs/decisions/*.md"))
    rows = [f"- [{_title(file)}]({file.name})\n" for file in files]
    return Page("decisions/index", "docs/decisions/README.md", "# Decisions\n\n" + "".join(rows))


def _title(file: Path) -> str:
    return file.read_text().partition("\n")[0].removeprefix("# ")


def _shown() -> list[str]:
    files = sorted(file for folder in _SHOWN for file in (ROOT / folder).rglob("*.yaml"))
    return [file.relative_to(ROOT).as_posix() for file in files]


def _files() -> Iterator[Page]:
    for source in _shown():
        yield Page(f"files/{source}", source, f"# {source}\n\n~~~yaml\n{(ROOT / source).read_text()}~~~\n")


def _folders() -> Iterator[Page]:
    """Yield a page for each folder, with the list of the folder's files."""
    shown = _shown()
    folders = {str(folder) for source in shown for folder in Path(source).parents if str(folder).startswith(_SHOWN)}
    for folder in sorted(folders):
        inside = [posixpath.relpath(source, folder) for source in shown if source.startswith(f"{folder}/")]
        rows = "".join(f"- [{path}]({path})\n" for path in inside)
        yield Page(f"files/{folder}", f"{folder}/README.md", f"# {folder}\n\n{rows}")


def sections(names: Sequence[str]) -> list[Section]:
    """Return the navigation. A page without another place is in the section Operation.

    Args:
        names: The names of all pages.
    """
    guide = ["guide/index", *_guide()]
    reference = [*_REFERENCE, *(name for name in names if name.startswith("charts/"))]
    elsewhere = {"index", *guide, *reference, *_DEVELOPMENT}
    operation = [name for name in names if name not in elsewhere and not name.startswith(("decisions/", "files/"))]
    return [
        Section("Start", ["index", CONFIGURATOR]),
        Section("Guide", guide),
        Section("Operation", operation),
        Section("Reference", reference),
        Section("Development", _DEVELOPMENT),
    ]


def _guide() -> list[str]:
    """Return the pages of the guide in the order of its table."""
    table = (ROOT / "docs/guide/README.md").read_text()
    return [f"guide/{page}" for page in re.findall(r"^\| \[\w+\]\(([\w-]+)\.md\)", table, re.MULTILINE)]


def target(source: str, link: str, names: Mapping[str, str]) -> str | None:
    """Return the name of the page that a link leads to, None for a file that the site does not show.

    Args:
        source: The file with the link.
        link: The path in the link, relative to the file.
        names: The names of all pages by their sources.

    Raises:
        LookupError: There is no such file.
    """
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    for candidate in (path, f"{path}/README.md"):
        if candidate in names:
            return names[candidate]
    if not (ROOT / path).exists():
        raise LookupError(f"{source} links to {link}, which does not exist")
    return None


def link(name: str, other: str) -> str:
    """Return the relative link from one page to another."""
    return posixpath.relpath(f"{other}.html", posixpath.dirname(name) or ".")
