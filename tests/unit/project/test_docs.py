"""The documentation agrees with the project; tests/integration/project/test_docs.py runs its commands."""

import re
from pathlib import Path

import pytest
import yaml

from kimi_linear_operator import reference
from kimi_linear_operator.benchmark import baseline, report, verdict
from kimi_linear_operator.resource_types import check
from printed_status import printed

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("charts/*/*.md")])
EXAMPLES = sorted(ROOT.glob("docs/examples/*.yaml"))
SAMPLES = sorted(ROOT.glob("deploy/samples/*.yaml"))


@pytest.mark.parametrize(("name", "text"), reference.pages().items())
def test_generated_pages_are_fresh(name: str, text: str) -> None:
    assert (ROOT / "docs" / name).read_text() == text, "run `make generate`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_an_anchor_lead_to_an_existing_anchor(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text())
    targets = [(page.parent / file if file else page, place) for file, place in links]
    assert [(target.name, place) for target, place in targets if place not in places(target)] == []


def test_no_page_has_conflict_markers() -> None:
    marks = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)
    assert [str(page.relative_to(ROOT)) for page in PAGES if marks.search(page.read_text())] == []


def places(page: Path) -> set[str]:
    """Return the anchors of a page: GitHub's anchors for titles, and the page's own anchors."""
    text = page.read_text()
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    named = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return named | set(re.findall(r'<a id="([^"]+)">', text))


def test_the_guide_lists_all_its_pages() -> None:
    listed = re.findall(r"^\| \[\w+\]\(([\w-]+\.md)\)", (ROOT / "docs/guide/README.md").read_text(), re.MULTILINE)
    assert sorted([*listed, "README.md"]) == sorted(page.name for page in ROOT.glob("docs/guide/*.md"))


@pytest.mark.parametrize(
    ("page", "mark", "case", "begin", "end"),
    [
        ("README.md", "status", "status-crash-loop", "", "\n\nStart of"),
        ("docs/guide/troubleshoot.md", "status-compiling", "status-compiling", "KimiLinearServer", "\n\nURL:"),
    ],
    ids=["readme", "guide"],
)
def test_pages_show_the_output_of_status(
    page: str, mark: str, case: str, begin: str, end: str, request: pytest.FixtureRequest
) -> None:
    """Return whether a page shows the part of the output from one text to another."""
    monkeypatch, capsys = request.getfixturevalue("monkeypatch"), request.getfixturevalue("capsys")
    output = printed(case, monkeypatch, capsys).output
    part = output[output.index(f"\n{begin}") + 1 if begin else 0 : output.index(end)] + "\n"
    block = re.compile(rf"(?<=<!-- {mark} -->\n```text\n).*?(?=```)", re.DOTALL)
    path = ROOT / page
    if request.config.getoption("--update-golden"):
        path.write_text(block.sub(lambda _: part, path.read_text()))
    assert block.findall(path.read_text()) == [part]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_shown_resources_are_valid(page: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    shown = [item for block in blocks for item in yaml.safe_load_all(block)]
    ours = [item for item in shown if item["apiVersion"].startswith("kimi-linear.io/")]
    assert [problem for manifest in ours for problem in check(manifest).problems] == []


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_samples_have_no_problem(sample: Path) -> None:
    documents = yaml.safe_load_all(sample.read_text())
    ours = [document for document in documents if document["kind"].startswith("KimiLinear")]
    assert ours
    assert [problem for resource in ours for problem in check(resource).problems] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_examples_of_benchmarks_could_have_been_stored(example: Path) -> None:
    benchmark = yaml.safe_load(example.read_text())
    assert check(benchmark).problems == ()
    run = report.read(benchmark)
    results = benchmark["status"]["results"]
    judged = [
        verdict.judge(run.benchmark.spec, suite.suite, result, baseline=baseline.of_recipe(suite.suite), changes=[])
        for suite, result in zip(run.suites, results, strict=True)
    ]
    assert results == judged
    assert run.verdict == verdict.conclude(judged).verdict


def test_shown_pictures_exist_and_are_small_enough() -> None:
    named = [(page, name) for page in PAGES for name in re.findall(r'(?:src|srcset)="(.*?)"', page.read_text())]
    shown = [(page.parent / name).resolve() for page, name in named]
    assert {picture.name for picture in shown} == {picture.name for picture in ROOT.glob("docs/*.png")}
    assert all(10_000 < picture.stat().st_size < 300_000 for picture in shown)


def test_the_architecture_names_every_module() -> None:
    """The page names the verbs, the report formats and the parts of SGLang only by their folder."""
    text = (ROOT / "docs/architecture.md").read_text()
    package = ROOT / "operator/kimi_linear_operator"
    modules = [path for path in package.rglob("*.py") if not path.name.startswith("__")]
    named = [
        f"{path.parent.name}/" if path.parent.name in ("cli", "report", "sglang") else path.name for path in modules
    ]
    assert len(modules) > 100
    assert {name for name in named if f"{name}`" not in text} == set()
