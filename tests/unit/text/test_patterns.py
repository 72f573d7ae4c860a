"""No regular expression of the operator takes long, whatever text it reads.

A pattern such as `begin (.*?) end` takes time that grows with the square of the text: from each `begin`, it searches
the rest of the text for `end`. Such a search is a single call of C, so nothing else in the process continues.
"""

import ast
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

import kimi_linear_operator
from kimi_linear_operator.cluster import errors
from kimi_linear_operator.foreigntext import LONGEST_TEXT, head
from kimi_linear_operator.kubernetes import log_quotes, pod_reasons, refusals
from kimi_linear_operator.server.sglang import probes
from processor_time import cost

PACKAGE = Path(kimi_linear_operator.__file__).parent
# These programs run in pods, where a long search delays nothing else.
PROGRAMS = (
    "benchmark/runner.py",
    "server/sglang/launcher.py",
    "server/sglang/pod_check.py",
    "server/sglang/router_launcher.py",
    "weights/fetch.py",
)

# In characters. The API server stores objects of 1.5 MiB, but this is enough to tell a pattern that needs too long.
LARGEST = 2**17
# The operator cuts the texts that these patterns search.
CUT = {
    **dict.fromkeys((errors._WRONG_SPEC, errors._DENIED, pod_reasons._MISSING_SECRET), len(head("x" * LARGEST))),
    **dict.fromkeys(refusals._REMEDIES, len(head("x" * LARGEST))),
    **dict.fromkeys(log_quotes._ERRORS.values(), LONGEST_TEXT),
}
# The operator compares these patterns only with whole texts. A search would take longer.
WHOLE = {probes._WATCHDOG_FLAG}
# The cost of a search in all texts. No pattern costs more than a fifth of it. The pattern for which this test was
# written cost 130 with one text.
MOST_COST = 60


def patterns_in(value: Any) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, Mapping):
        yield from patterns_in([*value.keys(), *value.values()])
    elif is_dataclass(value) and not isinstance(value, type):
        yield from patterns_in([getattr(value, field.name) for field in fields(value)])
    elif isinstance(value, tuple | list):
        for item in value:
            yield from patterns_in(item)


def all_patterns() -> Iterator[re.Pattern[Any]]:
    for module in pkgutil.walk_packages(kimi_linear_operator.__path__, f"{kimi_linear_operator.__name__}."):
        if not module.name.endswith("__main__"):
            names = vars(importlib.import_module(module.name))
            yield from patterns_in([value for name, value in names.items() if not name.startswith("__")])


PATTERNS = list(dict.fromkeys(all_patterns()))


def in_functions(path: Path) -> Iterator[str]:
    """Yield the calls of `re` in functions of a module."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            calls = (ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call))
            yield from (f"{path.name}: {call}" for call in calls if call.startswith("re.") and call != "re.escape")


def test_each_pattern_is_a_constant_of_its_module_so_that_the_next_test_finds_it() -> None:
    paths = [path for path in PACKAGE.rglob("*.py") if str(path.relative_to(PACKAGE)) not in PROGRAMS]
    assert [call for path in paths for call in in_functions(path)] == []
    assert len(PATTERNS) > 50


def text_of(parsed: Any) -> str:
    """Return a text that matches a parsed pattern, or almost."""
    return "".join(TEXTS.get(str(operation), lambda _: "")(argument) for operation, argument in parsed)


def character_of(items: Any) -> str:
    """Return the first character of a class."""
    operation, argument = items[0]
    if str(operation) in ("LITERAL", "RANGE"):
        return chr(argument if isinstance(argument, int) else argument[0])
    return {"CATEGORY_DIGIT": "0", "CATEGORY_SPACE": " "}.get(str(argument), "a")


TEXTS: Mapping[str, Callable[[Any], str]] = {
    "LITERAL": chr,
    "ANY": lambda _: "a",
    "NOT_LITERAL": lambda code: "b" if code == ord("a") else "a",
    "IN": character_of,
    "BRANCH": lambda argument: text_of(argument[1][0]),
    "SUBPATTERN": lambda argument: text_of(argument[-1]),
    **dict.fromkeys(
        ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"), lambda argument: text_of(argument[2]) * max(argument[0], 1)
    ),
}


def parts_of(pattern: re.Pattern[Any]) -> Iterator[list[str]]:
    """Yield a text for each part of each alternative of a pattern. Letters in a row are one part."""
    source = pattern.pattern.decode("latin-1") if isinstance(pattern.pattern, bytes) else pattern.pattern
    parsed = list(re._parser.parse(source, pattern.flags & ~re.UNICODE))  # type: ignore[attr-defined]
    is_choice = len(parsed) == 1 and str(parsed[0][0]) == "BRANCH"
    for alternative in parsed[0][1][1] if is_choice else [parsed]:
        groups = groupby(enumerate(alternative), key=lambda item: (str(item[1][0]) != "LITERAL") * (item[0] + 1))
        yield [text_of(node for _, node in group) for _, group in groups]


def hostile_texts(pattern: re.Pattern[Any], size: int) -> Iterator[str]:
    """Yield texts in which the beginning or a part of a pattern comes again and again, and never its end."""
    for parts in parts_of(pattern):
        for count in range(len(parts)):
            before = "".join(parts[:count])
            for again in {before, parts[count], f"{before} ", before + 30 * parts[count]} - {"", "\0"}:
                yield f"{before}{again * (size // len(again))}"[: size - 1] + "\0"


def search(pattern: re.Pattern[Any], texts: list[Any]) -> None:
    for text in texts:
        if pattern in WHOLE:
            pattern.fullmatch(text)
        else:
            pattern.sub(pattern.pattern[:0], text)


def is_slow(pattern: re.Pattern[Any], size: int, most_cost: float = MOST_COST) -> bool:
    texts = hostile_texts(pattern, size)
    is_binary = isinstance(pattern.pattern, bytes)
    given = [text.encode("latin-1", "replace") if is_binary else text for text in texts]
    return cost(lambda: search(pattern, given)) > most_cost


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: repr(pattern.pattern)[:60])
def test_a_pattern_takes_little_time_whatever_text_it_reads(pattern: re.Pattern[Any]) -> None:
    assert not is_slow(pattern, CUT.get(pattern, LARGEST))


def test_a_pattern_whose_time_grows_with_the_square_of_the_text_is_found() -> None:
    assert is_slow(re.compile("pip install (.*?) && exec "), LARGEST // 4, MOST_COST / 4**2)
