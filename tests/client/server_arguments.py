"""Reads the arguments of SGLang's server from its source, without an import, because an import needs torch.

python tests/client/server_arguments.py PACKAGE > tests/stand_in/arguments.jsonl
"""

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_JSON_TYPES = {"json.loads", "json_list_type"}
# Choices that are the keys of a table in another module.
_TABLES = {
    "list(ReasoningParser.DetectorMap.keys())": ("srt/parser/reasoning_parser.py", "DetectorMap"),
    "tool_call_parser_choices": ("srt/function_call/function_call_parser.py", "ToolCallParserEnum"),
}


def read_arguments(package: Path) -> list[dict[str, Any]]:
    """Return the arguments for `argparse`, given the folder of the package sglang."""
    tree = ast.parse((package / "srt/server_args.py").read_text())
    choices = _constants(ast.parse((package / "srt/utils/common.py").read_text())) | _constants(tree)
    for expression, (file, name) in _TABLES.items():
        choices[expression] = _constants(ast.parse((package / file).read_text()))[name]
    return [_argument(call, choices) for call in _calls(tree)]


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    function = next(
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "add_cli_args"
    )
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            yield node


def _argument(call: ast.Call, known: dict[str, ast.expr]) -> dict[str, Any]:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    argument: dict[str, Any] = {"names": [ast.literal_eval(name) for name in call.args]}
    if "action" in given and ast.unparse(given["action"]) == "'store_true'":
        return argument | {"action": "store_true"}
    kind = ast.unparse(given["type"]) if "type" in given else "str"
    argument["type"] = "json" if kind in _JSON_TYPES else kind.removeprefix("nullable_")
    for name in ("nargs", "required", "dest", "const"):
        if name in given:
            argument[name] = ast.literal_eval(given[name])
    if "choices" in given:
        argument["choices"] = _choices(given["choices"], known)
    return argument


def _choices(node: ast.expr, known: dict[str, ast.expr]) -> list[Any]:
    """Return the values of an expression of literals and known names."""
    match node:
        case ast.List(elts=parts) | ast.Set(elts=parts):
            return [value for part in parts for value in _choices(part, known)]
        case ast.Dict(keys=keys):
            return [value for key in keys if key for value in _choices(key, known)]
        case ast.BinOp(left=left, right=right):
            return _choices(left, known) + _choices(right, known)
        case ast.Starred(value=value):
            return _choices(value, known)
        case ast.Constant(value=value):
            return [value]
        case _:
            return _choices(known[ast.unparse(node)], known)


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    assignments = [node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.AnnAssign) and node.value]
    return {
        ast.unparse(target): node.value
        for node in assignments
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if node.value
    }


if __name__ == "__main__":
    for line in read_arguments(Path(sys.argv[1])):
        sys.stdout.write(json.dumps(line) + "\n")
