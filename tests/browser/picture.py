"""The documentation's pictures of the HTML report and of the configurator; `make pictures` takes them anew."""

from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from playwright.sync_api import sync_playwright

from browser.chromium import launch
from kimi_linear_operator import configurator
from kimi_linear_operator.benchmark import report

DOCS = Path(__file__).parents[2] / "docs"
NIGHTLY = DOCS / "examples/nightly.yaml"
WIDTH, HEIGHT = 1200, 1080


def main() -> None:
    """Write docs/NAME-light.png and docs/NAME-dark.png: the top of each page."""
    pages = {
        "report": (report.REPORTS["html"](report.read(yaml.safe_load(NIGHTLY.read_text()))), ""),
        "configurator": (configurator.page(), "#reasoningParser=enabled&hardware=mi355x"),
    }
    with TemporaryDirectory() as folder, sync_playwright() as playwright, launch(playwright) as browser:
        for name, (text, fragment) in pages.items():
            file = Path(folder, f"{name}.html")
            file.write_text(text, encoding="utf-8")
            for scheme in ("light", "dark"):
                with browser.new_context(color_scheme=scheme, viewport={"width": WIDTH, "height": HEIGHT}) as context:
                    page = context.new_page()
                    page.goto(file.as_uri() + fragment)
                    page.screenshot(path=DOCS / f"{name}-{scheme}.png")


if __name__ == "__main__":
    main()
