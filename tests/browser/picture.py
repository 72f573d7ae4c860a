"""The pictures of the HTML report in the documentation; `make pictures` takes them anew."""

from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from playwright.sync_api import sync_playwright

from browser.chromium import launch
from kimi_linear_operator.benchmark import report

DOCS = Path(__file__).parents[2] / "docs"
NIGHTLY = DOCS / "examples/nightly.yaml"
WIDTH, HEIGHT = 1200, 1080


def main() -> None:
    """Write docs/report-light.png and docs/report-dark.png: the top of the example's page."""
    page_text = report.REPORTS["html"](report.read(yaml.safe_load(NIGHTLY.read_text())))
    with TemporaryDirectory() as folder, sync_playwright() as playwright, launch(playwright) as browser:
        file = Path(folder, "report.html")
        file.write_text(page_text)
        for scheme in ("light", "dark"):
            with browser.new_context(color_scheme=scheme, viewport={"width": WIDTH, "height": HEIGHT}) as context:
                page = context.new_page()
                page.goto(file.as_uri())
                page.screenshot(path=DOCS / f"report-{scheme}.png")


if __name__ == "__main__":
    main()
