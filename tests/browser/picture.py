"""The documentation's pictures of the HTML report, the configurator and the site. `make pictures` takes them again."""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import yaml
from playwright.sync_api import Browser, sync_playwright

import documentation_site
from browser.chromium import launch
from kimi_linear_operator import configurator
from kimi_linear_operator.benchmark import report

DOCS = Path(__file__).parents[2] / "docs"
NIGHTLY = DOCS / "examples/nightly.yaml"
WIDE, NARROW = (1200, 1080), (390, 844)

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


@dataclass(frozen=True)
class Picture:
    """The top of a page, in light and in dark.

    Attributes:
        name: Its file is docs/NAME-light.png or docs/NAME-dark.png.
        page: The file with the page, and the fragment of its address.
        size: Width and height of the window.
    """

    name: str
    page: str
    size: tuple[int, int]


PICTURES = (
    Picture("report", "report.html", WIDE),
    Picture("configurator", "configurator.html#reasoningParser=enabled&hardware=mi355x", WIDE),
    Picture("configurator-narrow", "site/configurator.html#reasoningParser=enabled&hardware=mi355x", NARROW),
    Picture("site", "site/command-line.html", WIDE),
)


def write_pages(folder: Path) -> None:
    """Write all pages of the pictures."""
    shown = report.REPORTS["html"](report.read(yaml.safe_load(NIGHTLY.read_text())))
    (folder / "report.html").write_text(shown, encoding="utf-8")
    (folder / "configurator.html").write_text(configurator.page(), encoding="utf-8")
    documentation_site.build(folder / "site")


def taken(browser: Browser, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name of the file of each picture, and the picture as it is now.

    Args:
        browser: The browser.
        folder: Where the pages were written.
    """
    for picture in PICTURES:
        width, height = picture.size
        for scheme in SCHEMES:
            with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height}) as context:
                page = context.new_page()
                page.goto(f"{folder.as_uri()}/{picture.page}")
                yield f"{picture.name}-{scheme}.png", page.screenshot()


# Two pictures of the same page may differ in the last bits of some colours.
_COUNT = """async ([one, other]) => {
  const pixels = async (picture) => {
    const image = await createImageBitmap(await (await fetch("data:image/png;base64," + picture)).blob());
    const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, image.width, image.height).data;
  };
  const [first, second] = [await pixels(one), await pixels(other)];
  if (first.length !== second.length) return first.length / 4;
  let count = 0;
  for (let at = 0; at < first.length; at += 4)
    if ([0, 1, 2].some((channel) => Math.abs(first[at + channel] - second[at + channel]) > 32)) count += 1;
  return count;
}"""


def differing_pixels(browser: Browser, one: bytes, other: bytes) -> int:
    """Count the pixels in which two pictures clearly differ."""
    with browser.new_context() as context:
        return int(context.new_page().evaluate(_COUNT, [b64encode(one).decode(), b64encode(other).decode()]))


def main() -> None:
    """Write all pictures."""
    with TemporaryDirectory() as folder, sync_playwright() as playwright, launch(playwright) as browser:
        write_pages(Path(folder))
        for name, picture in taken(browser, Path(folder)):
            (DOCS / name).write_bytes(picture)


if __name__ == "__main__":
    main()
