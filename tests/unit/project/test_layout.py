"""Promises of the repository's layout that no other test would miss."""

import subprocess
import sys
import tomllib
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
