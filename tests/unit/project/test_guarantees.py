"""Every promise has a test. docs/guarantees.md, the pages with promises, and the tests agree."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from kimi_linear_operator import reference

ROOT = Path(__file__).parents[3]
GUARANTEES = ROOT / "docs/guarantees.md"
# The pages on which the project makes promises to users.
PROMISING = (
    "README.md",
    "charts/kimi-linear-operator/README.md",
    "charts/kimi-linear-servers/README.md",
    "docs/gitops.md",
    "docs/upgrading.md",
    *sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/guide/*.md")),
)
ROW = re.compile(r'^\| <a id="(?P<id>[a-z-]+)"></a>(?P<promise>[^|]+)\|(?P<tests>[^|]+)\|$')
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
STRONG = re.compile(r"\b(never|always)\b", re.IGNORECASE)


def rows() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Return promise and tests of each guarantee by its id."""
    found = [match for line in GUARANTEES.read_text().splitlines() if (match := ROW.match(line))]
    return {match["id"]: (match["promise"].strip(), TEST.findall(match["tests"])) for match in found}


@cache
def defined_tests(file: str) -> frozenset[str]:
    """Return the names of a file's tests, without those that pytest always skips."""
    tree = ast.parse((ROOT / file).read_text()) if (ROOT / file).exists() else ast.Module([], [])
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(
        node.name for node in functions if not any("mark.skip" in ast.unparse(one) for one in node.decorator_list)
    )


def paragraphs(page: str) -> list[str]:
    """Return the paragraphs, list items and table rows of a page, each with all its lines."""
    return re.split(r"\n\s*\n|\n(?=- |\| |\d+\. )", (ROOT / page).read_text())


def linked(text: str) -> set[str]:
    return set(re.findall(r"guarantees\.md#([a-z-]+)", text))


def test_every_row_of_the_table_is_read() -> None:
    lines = [line for line in GUARANTEES.read_text().splitlines() if line.startswith("| <a")]
    assert len(lines) == len(rows()) > 30


def test_every_guarantee_names_tests_that_exist() -> None:
    assert [name for name, (_, tests) in rows().items() if not tests] == []
    named = {(file, test) for _, tests in rows().values() for file, test in tests}
    assert sorted(f"{file}::{test}" for file, test in named if test not in defined_tests(file)) == []


@pytest.mark.parametrize("page", PROMISING)
def test_every_link_to_a_guarantee_leads_to_an_existing_one(page: str) -> None:
    assert linked((ROOT / page).read_text()) - rows().keys() == set()


def test_every_item_that_the_guide_promises_is_guaranteed() -> None:
    section = (ROOT / "docs/guide/README.md").read_text().split("## What you get")[1].split("\n## ")[0]
    items = re.split(r"\n(?=- )", section.strip())
    assert [item for item in items if item.startswith("- ") and not linked(item)] == []


@pytest.mark.parametrize("page", PROMISING)
def test_every_paragraph_with_never_or_always_links_to_a_guarantee(page: str) -> None:
    """A list item is one paragraph, so one link in it is enough."""
    strong = [text for text in paragraphs(page) if STRONG.search(text) and not text.startswith(("#", "```"))]
    assert [text for text in strong if not linked(text)] == []


def test_every_field_described_with_never_or_always_is_guaranteed() -> None:
    described = [line.split("|") for line in reference.pages()["reference.md"].splitlines() if STRONG.search(line)]
    fields = [cells[1].strip(" `") for cells in described]
    assert [field for field in fields if f"`{field}`" not in GUARANTEES.read_text()] == []
