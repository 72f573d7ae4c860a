"""The configurator in a real browser: it says what the command line says, asks nobody, and everybody can use it."""

import io
import itertools
import json
import random
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

from browser.visit import Visit
from kimi_linear_operator import cli
from kimi_linear_operator.cli import documents
from kimi_linear_operator.configurator.contents import contents
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server import sglang
from kimi_linear_operator.server.spec import KimiLinearServer

HARDWARE = ("mi300x", "mi325x", "mi355x")
SWITCH = ("disabled", "enabled")
SELECTIONS = [*itertools.product(HARDWARE, SWITCH, SWITCH)]
WALKS, STEPS = 300, 6
TABS = ("server", "helm", "command", "docker", "benchmark")
VERDICT_LINE = "standard input: {}\n"

# Does to the controls what a person does, and reads the page after each step.
WALK = """
(walk) => walk.map(([key, text]) => {
  const root = document.querySelector(`[data-choice="${key}"]`);
  const inputs = [...root.querySelectorAll('input, select, textarea')];
  for (const input of inputs) {
    if (input.type === 'radio') input.checked = input.value === text;
    else if (input.type === 'checkbox')
      input.checked = inputs.length > 1 ? text.split('\\n').includes(input.value) : text === 'true';
    else input.value = text;
  }
  inputs[0].dispatchEvent(new Event('input', { bubbles: true }));
  const texts = {};
  for (const tab of document.querySelectorAll('[role=tab]')) {
    tab.click();
    texts[tab.id.slice('tab-'.length)] = document.getElementById('text').textContent;
  }
  const told = (resource) => ({
    verdict: document.getElementById(`${resource}-verdict`).textContent,
    problems: [...document.querySelectorAll(`#${resource}-problems li`)].map((line) => line.textContent),
  });
  return { texts, server: told('server'), benchmark: told('benchmark') };
})
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("page") / "page.html"
    assert cli.main(["page", "--write", str(written)]) == 0
    return written


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as opened:
        yield opened


@pytest.fixture
def visit(context: BrowserContext, file: Path) -> Iterator[Visit]:
    opened = Visit(context.new_page(), file)
    yield opened
    assert (opened.messages, opened.requests) == ([], [])


def text_of(page: Page, tab: str) -> str:
    page.locator(f"#tab-{tab}").click()
    return page.locator("#text").text_content() or ""


def said_by(*arguments: str, given: str = "") -> tuple[int, str, str]:
    """What the command line answers."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setattr("sys.stdin", io.StringIO(given))
        code = cli.main(list(arguments))
    return code, output.getvalue(), errors.getvalue()


@pytest.mark.parametrize(("hardware", "reasoning", "tool_call"), SELECTIONS)
def test_every_selection_of_the_recipe_gets_the_answer_of_the_command_line(
    hardware: str, reasoning: str, tool_call: str, visit: Visit
) -> None:
    page = visit.page
    for choice, value in (("hardware", hardware), ("reasoningParser", reasoning), ("toolCallParser", tool_call)):
        page.locator(f"#{choice}-{value}").check()
    selection = ["--hardware", hardware, "--reasoning-parser", reasoning, "--tool-call-parser", tool_call]
    code, command, refused = said_by("command", *selection)
    assert text_of(page, "command") == command + refused
    assert text_of(page, "docker") == "".join(said_by("command", "--docker", *selection)[1:])
    message = page.locator('[data-choice="reasoningParser"] .error')
    assert message.all_text_contents() == [f"Error: {refused[len('# Error: ') : -1].replace(chr(10) + '# ', chr(10))}"] * code


def choices() -> list[tuple[str, Manifest]]:
    """The keys of the controls and the schemas of their fields."""
    data = contents()
    found = [("name", {"type": "string", "name": True}), ("benchmark.name", {"type": "string", "name": True})]
    for resource, prefix in (("server", ""), ("benchmark", "benchmark.")):
        for field in (field for group in data[resource]["groups"] for field in group["fields"]):
            node = data[resource]["schema"]["properties"]["spec"]
            for name in field["path"].split("."):
                node = node["properties"][name]
            found.append((prefix + field["path"], node))
    return found


CHOICES = choices()
NAMES = ["kimi", "", "K", "my-server", "1", "x" * 45, "x" * 60, "on", "a.b"]
TEXTS = [
    *("", "/models/kimi", "main", "v0.5.7", "v0.5.8", "v9.9.9", "v1", "triton", "with space", "ünïcödé 😀", "'\"\\", "y"),
    *("null", "1e3", "~", "- a", "a: b", "#", "lmsysorg/sglang:v0.5.7-rocm700-mi35x", "lmsysorg/sglang:v0.5.7-rocm700-mi30x"),
    *("http://x", "hf-token", "token", "a" * 300, "b" * 2000, "0x10", "-", "1:30", "kimi-old", "\x7f", "{{ x }}"),
]
NUMBERS = ["", "0", "1", "2", "4", "1.5", "0.9", "0.00001", "0.0000001", "-1", "-0", "1000", "1001", "65536", "1e3", "x", "007", "131072.0", "999999999999999", "0.5 "]
ITEMS = [
    *("--log-level=info", "--log-level info", "--log-level", "info", "--tp=8", "--api-key=abc", "--api-key=$(KEY)", "-h"),
    *("--dp-size", "--enable-dp-attention", "--node-rank=1", "--ssl-certfile=/c", "--chunked-prefill-size", "4096", "'q'"),
    *("sentencepiece", "tiktoken", "tiktoken>=0.7,<1", "bad package", "output_throughput", "accuracy", "request_rate", "é", "x" * 1500),
]
PAIRS = ["a=b", "example.com/x=true", "no-value", "k = v = w", "__proto__=1", "constructor=x", "ключ=значение", "on=off"]


def is_fitting(schema: Manifest, text: str) -> bool:
    """Whether a text is likely to be taken for a field."""
    bounds = {item["bound"]: item["limit"] for item in schema.get("checks", ())}
    if schema["type"] in ("integer", "number"):
        is_number = re.fullmatch(r"[0-9]+" if schema["type"] == "integer" else r"[0-9.]+", text)
        return bool(is_number) and bounds.get("minimum", 0) <= float(text) <= bounds.get("maximum", 1e9)
    return bool(re.search(bounds.get("pattern", ""), text)) and 0 < len(text) <= bounds.get("maxLength", 1e9)


def likely(schema: Manifest, texts: Sequence[str], source: random.Random) -> Sequence[str]:
    """Of some texts, mostly only those that fit, so that what is beyond the shape is met, too."""
    fitting = [text for text in texts if is_fitting(schema, text)]
    return fitting if fitting and source.random() < 0.85 else texts


def text_for(choice: Manifest, source: random.Random) -> str:
    """What somebody may put into a control."""
    if "name" in choice:
        return source.choice(NAMES)
    if "enum" in choice:
        return str(source.choice(choice["enum"]))
    match choice["type"]:
        case "boolean":
            return source.choice(["true", "false"])
        case "integer" | "number":
            return source.choice(likely(choice, NUMBERS, source))
        case "object":
            return "\n".join(source.sample(PAIRS, source.randrange(4)) if source.random() < 0.9 else map(str, range(40)))
        case "array" if "properties" in choice["items"]:
            return "\n".join(source.sample([item["name"] for item in choice["default"]], source.randrange(5)))
        case "array":
            count = source.choice([0, 1, 1, 1, 2, 2, 3, 70])
            return "\n".join(source.choices(likely(choice["items"], ITEMS, source), k=count))
        case _:
            return source.choice(likely(choice, TEXTS, source))


def walks() -> list[list[tuple[str, str]]]:
    source = random.Random("configurator")  # noqa: S311 - the same walks every time
    steps = [[source.choice(CHOICES) for _ in range(STEPS)] for _ in range(WALKS)]
    return [[(key, text_for(choice, source)) for key, choice in walk] for walk in steps]


@cache
def expected(text: str) -> dict[str, Any]:
    """What the page should say of a resource: what `kimi-linear validate` does."""
    _, output, errors = said_by("validate", "-f", "-", given=text)
    [manifest] = documents.read(text)
    title = f"{manifest['kind']} {manifest['metadata']['name'] or '(no name)'}"
    return {
        "verdict": output.removeprefix("standard input: ").rstrip("\n"),
        "problems": [line.removeprefix(f"standard input: {title}: ") for line in errors.splitlines()],
    }


def test_whatever_is_chosen_the_page_says_what_validate_says(visit: Visit) -> None:
    seen = Counter[str]()
    for walk in walks():
        visit.page.locator("#reset").click()
        for step, state in enumerate(visit.page.evaluate(WALK, walk)):
            where = json.dumps(walk[: step + 1])
            for resource in ("server", "benchmark"):
                told = state[resource]
                assert told == expected(state["texts"][resource]), where
                seen[told["verdict"].rpartition(" ")[2]] += 1
                seen.update({line.partition(":")[0] for line in told["problems"]})
            assert_texts_fit(state["texts"], where)
    assert min(seen[kind] for kind in ("valid", "invalid", "error", "warning")) > WALKS, seen


def assert_texts_fit(texts: dict[str, str], where: str) -> None:
    """The texts of the other tabs are what the operator makes of the same server."""
    [server] = documents.read(texts["server"])
    [values] = documents.read(texts["helm"])
    assert values == {"servers": {server["metadata"]["name"]: {"spec": server["spec"]}}}, where
    assert yaml.safe_load(texts["helm"]) == values, "readers of YAML differ"
    checked = check(server)
    if not checked.is_valid:
        assert texts["command"] == texts["docker"], where
        assert texts["command"].startswith("# Error: "), where
        return
    assert isinstance(checked.resource, KimiLinearServer)
    spec = checked.resource.spec
    command = sglang.recipe_command(spec)
    assert texts["command"] == f"{command}\n", where
    assert texts["docker"] == "\n\n".join([*sglang.docker_commands(spec), command]) + "\n", where
    assert shlex.split(texts["command"].replace("\\\n", ""))[1:4] == ["python3", "-m", "sglang.launch_server"]
