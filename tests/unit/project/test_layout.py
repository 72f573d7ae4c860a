"""Promises of the repository's layout that no other test checks."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import kimi_linear_operator
from conftest import AGAINST

ROOT = Path(__file__).parents[3]


def test_the_folder_operator_hides_no_module_of_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    code = "import operator, sys; print(operator.__name__ in sys.stdlib_module_names and hasattr(operator, 'add'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_the_version_is_written_in_one_place() -> None:
    version = f'"{kimi_linear_operator.__version__}"'
    files = [*ROOT.glob("operator/**/*.py"), ROOT / "pyproject.toml"]
    assert [path.parent.name for path in files if version in path.read_text()] == ["kimi_linear_operator"]


def test_every_folder_of_tests_is_run_and_summed_up() -> None:
    folders = {path.relative_to(ROOT / "tests").parts[0] for path in ROOT.glob("tests/*/**/test_*.py")}
    assert folders == AGAINST.keys()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert settings["testpaths"] == [f"tests/{folder}" for folder in AGAINST]


# Modules that make passes, or give data to passes.
_MAY_WAIT = {
    "benchmark.admission",
    "benchmark.clean_up",
    "benchmark.ended_suites",
    "benchmark.live_pods",
    "benchmark.next_suite",
    "benchmark.preview",
    "benchmark.reconcile",
    "benchmark.resource_type",
    "benchmark.runner",
    "benchmark.server_state",
    "benchmark.stored_results",
    "benchmark.tool_calls",
    "reconcile.children",
    "reconcile.live",
    "reconcile.log_reads",
    "reconcile.questions",
    "reconcile.recheck",
    "reconcile.reporting",
    "reconcile.resource_type",
    "reconcile.writes",
    "server.deploying",
    "server.preview",
    "server.reconcile",
    "server.reporting",
    "server.resource_type",
    "server.rollouts",
    "server.router_records",
    "server.start_logs",
    "server.templates",
    "server.verifying",
    "server.waking",
    "weights.fetch",
    "weights.fetch_logs",
    "weights.preview",
    "weights.reconcile",
    "weights.resource_type",
}


def test_every_deciding_module_is_in_the_contract_of_pure_modules() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [pure] = [item["source_modules"] for item in contracts if item["name"].startswith("What decides is pure")]
    package = ROOT / "operator/kimi_linear_operator"
    modules = [
        path.relative_to(package).with_suffix("").as_posix().replace("/", ".")
        for folder in ("benchmark", "kubernetes", "reconcile", "server", "weights")
        for path in (package / folder).rglob("*.py")
        if path.name != "__init__.py"
    ]
    named = tuple(f"{name.removeprefix('kimi_linear_operator.')}." for name in pure)
    assert {module for module in modules if not f"{module}.".startswith(named)} == _MAY_WAIT


# This module describes the containers of all resources to users.
_NAMES_CONTAINERS = "pod_template.py"


def test_shared_folders_mention_neither_an_engine_nor_its_settings() -> None:
    package = ROOT / "operator/kimi_linear_operator"
    paths = [
        path
        for folder in ("cluster", "kubernetes", "reconcile", "runtime")
        for path in (package / folder).rglob("*.py")
    ]
    texts = {path.name: list(_texts(ast.parse(path.read_text()))) for path in paths if path.name != _NAMES_CONTAINERS}
    assert len(texts) > 50
    engine = re.compile(r"sglang|pytorch|torch|\bengine\.|memoryFraction", re.IGNORECASE)
    assert {name: text for name, all_texts in texts.items() for text in all_texts if engine.search(text)} == {}


def _texts(module: ast.Module) -> Iterator[str]:
    """Yield the texts of a module's code, without its docstrings."""
    statements = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements:
            yield node.value


_ATTRIBUTE = re.compile(r"^        (\w+): ", re.MULTILINE)


def test_docstrings_name_existing_fields_of_their_class() -> None:
    wrong = {}
    for path in (ROOT / "operator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and "Attributes:" in (text := ast.get_docstring(node, clean=False) or ""):
                named = set(_ATTRIBUTE.findall(text.partition("Attributes:")[2]))
                if missing := named - set(_fields(node)):
                    wrong[f"{path.name}: {node.name}"] = missing
    assert wrong == {}


def _fields(node: ast.ClassDef) -> Iterator[str]:
    """Yield the names that a class or one of its methods sets."""
    for item in ast.walk(node):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.target.id
        elif isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store):
            yield item.attr


_CLOCKS = {"perf_counter", "perf_counter_ns", "process_time", "process_time_ns", "thread_time", "thread_time_ns"}


def test_no_unit_test_compares_processor_time_with_seconds() -> None:
    """A slow machine takes more seconds. `processor_time` compares with a reference that then takes longer, too."""
    paths = [path for folder in ("unit", "golden") for path in (ROOT / "tests" / folder).rglob("*.py")]
    assert [path.name for path in paths if _CLOCKS.intersection(_used(ast.parse(path.read_text())))] == []


def _used(module: ast.Module) -> Iterator[str]:
    """Yield the names that a module reads or imports."""
    for node in ast.walk(module):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name
