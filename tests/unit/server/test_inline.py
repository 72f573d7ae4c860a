"""The texts of programs in pod templates: they do the same as the modules from which they are made."""

import ast
from importlib.resources import files

import pytest

from kimi_linear_operator.server.sglang import inline

PROGRAMS = ("launcher", "pod_check")


def without_documentation(text: str) -> str:
    """Return what a program does: its syntax tree without the documentation of the module and of functions."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        has_more = isinstance(node, ast.Module | ast.FunctionDef) and len(node.body) > 1
        if has_more and isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
    return ast.dump(tree)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_in_a_pod_template_does_the_same_as_its_module(name: str) -> None:
    module = files("kimi_linear_operator.server.sglang").joinpath(f"{name}.py").read_text()
    assert without_documentation(inline.program(name)) == without_documentation(module)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_in_a_pod_template_has_no_comments_or_blank_lines(name: str) -> None:
    text = inline.program(name)
    assert not [line for line in text.splitlines() if not line.strip() or line.strip().startswith("#")]
    assert len(text) < 5000


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_in_a_pod_template_means_the_same_to_kubernetes_and_the_shell(name: str) -> None:
    """Kubernetes replaces references to variables in commands, and quoting single quotes makes a text hard to read."""
    assert not {"$", "'"} & set(inline.program(name))
