"""The documentation says what is true; its commands are run in tests/integration/test_docs.py."""

import re
from pathlib import Path

import pytest
import yaml

from kimi_linear_operator import reference
from kimi_linear_operator.benchmark import baseline, report, verdict
from kimi_linear_operator.resource_types import check

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXAMPLES = sorted(ROOT.glob("docs/examples/*.yaml"))
SAMPLES = sorted(ROOT.glob("deploy/samples/*.yaml"))


@pytest.mark.parametrize(("name", "text"), reference.pages().items())
def test_generated_pages_are_fresh(name: str, text: str) -> None:
    assert (ROOT / "docs" / name).read_text() == text, "run `make generate`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_resources_shown_are_valid(page: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    ours = [item for block in blocks if (item := yaml.safe_load(block))["apiVersion"].startswith("kimi-linear.io/")]
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
        verdict.judge(run.benchmark.spec, suite.suite, result, baseline.of_recipe(suite.suite), changes=[])
        for suite, result in zip(run.suites, results, strict=True)
    ]
    assert results == judged
    assert run.verdict == verdict.conclude(judged).verdict


def test_pictures_that_are_shown_are_there_and_of_a_modest_size() -> None:
    shown = re.findall(r'(?:src|srcset)="(.*?)"', (ROOT / "docs/user-guide.md").read_text())
    assert shown == ["report-dark.png", "report-light.png"]
    assert all(10_000 < (ROOT / "docs" / name).stat().st_size < 300_000 for name in shown)


def test_the_architecture_names_every_module() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    package = ROOT / "operator/kimi_linear_operator"
    modules = [
        path.name + ("/" if path.is_dir() else "") for path in package.iterdir() if not path.name.startswith("__")
    ]
    assert [module for module in modules if module not in text and module.removesuffix(".py") not in text] == []
