"""Builds the documentation site: `make docs`.

The site is a folder of files that need no server, and that load nothing from elsewhere.
"""

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from commands import LocalClusterError, exit_code, run, say
from kimi_linear_operator import configurator
from site_pages import CONFIGURATOR, HEADER, ROOT, pages
from virtual_environment import VirtualEnvironment

SETTINGS = ROOT / "docs/site"
BUILT = ROOT / "build/site"
_SECONDS = 600


def environment() -> VirtualEnvironment:
    """Return the environment with Sphinx. The caller makes it if it does not exist: 70 MB."""
    return VirtualEnvironment("docs", "the generator of the documentation site", ROOT / "requirements/docs.txt")


def build(target: Path = BUILT) -> None:
    """Write the site to a folder. If the folder exists, replace it.

    Raises:
        LocalClusterError: Sphinx has a warning, or a link leads nowhere.
    """
    environment().ensure_made()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".site-") as work:
        built = Path(work, "site")
        _write_pages(Path(work, "pages"), built)
        _write_configurator(built)
        if found := list(problems(built)):
            raise LocalClusterError("\n".join(["The site has wrong links:", *found]))
        shutil.rmtree(target, ignore_errors=True)
        built.rename(target)
    say(f"The documentation is in {target / 'index.html'}")


def _write_pages(source: Path, built: Path) -> None:
    for page in pages():
        file = source / f"{page.name}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page.text)
    strict = ["--builder", "html", "--fail-on-warning", "--keep-going", "--quiet"]
    folders = ["--conf-dir", SETTINGS, "--doctree-dir", source.with_name("read"), source, built]
    # The settings import modules from their own folder and from the folder of this module.
    path = os.pathsep.join([str(SETTINGS), str(Path(__file__).parent)])
    settings = {**os.environ, "PYTHONPATH": path}
    run([environment().python, "-m", "sphinx", *strict, *map(str, folders)], env=settings, timeout=_SECONDS)
    # It would differ between checkouts, because it depends on their paths. Sphinx needs it only to build again.
    (built / ".buildinfo").unlink()


def _write_configurator(built: Path) -> None:
    here = {CONFIGURATOR: ' aria-current="page"'}
    links = [f'<a href="{name}.html"{here.get(name, "")}>{title}</a>' for title, name in HEADER]
    text = configurator.page(navigation=f'<nav class="site" aria-label="Site">{"".join(links)}</nav>')
    (built / f"{CONFIGURATOR}.html").write_text(text, encoding="utf-8")


class _Markup(HTMLParser):
    """The links of a page, and the places in the page to which links can lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("href", "action") and tag in ("a", "form"):
                self.links.append(value or "")
            elif name in ("href", "src", "srcset"):
                self.loaded.append(value or "")


def problems(site: Path) -> Iterator[str]:
    """Yield the problems of a site's links. Each link must lead to an existing file and an existing place in it.

    Args:
        site: The folder.
    """
    markups = {file: _Markup(file.read_text(encoding="utf-8")) for file in sorted(site.rglob("*.html"))}
    for file, markup in markups.items():
        where = file.relative_to(site)
        yield from (f"{where}: two elements are {name}" for name in sorted(_repeated(markup.ids)))
        yield from (f"{where} loads {address}" for address in markup.loaded if _is_elsewhere(address))
        for link in (*markup.links, *markup.loaded):
            if not urlsplit(link).scheme and not _leads_somewhere(file, link, markups):
                yield f"{where} leads to {link}, which does not exist"


def _repeated(names: list[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


def _is_elsewhere(address: str) -> bool:
    return urlsplit(address).scheme not in ("", "data") or bool(urlsplit(address).netloc)


def _leads_somewhere(file: Path, link: str, markups: dict[Path, _Markup]) -> bool:
    parts = urlsplit(link)
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    anchor = unquote(parts.fragment)
    return target.is_file() and (not anchor or anchor in markups[target].ids)


if __name__ == "__main__":
    sys.exit(exit_code(build))
