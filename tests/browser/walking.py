"""Random walks over the controls of the configurator's page."""

import random
import re
from collections.abc import Sequence
from typing import Any

from playwright.sync_api import Page

from kimi_linear_operator.configurator.contents import contents
from kimi_linear_operator.kubernetes.kinds import Manifest

Walk = list[tuple[str, str]]
"""Controls by their keys, and what is put into them, one after the other."""

STEPS = 6

# Changes the controls like a user, and reads the page after each step.
_TAKE = """
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


def take(page: Page, walk: Walk) -> list[dict[str, Any]]:
    """Take a walk from the beginning, and return the page's messages after each step."""
    page.locator("#reset").click()
    return list(page.evaluate(_TAKE, walk))


def choices() -> list[tuple[str, Manifest]]:
    """The keys of the controls and the schemas of their fields."""
    data = contents()
    name: Manifest = {"type": "string", "name": True}
    found = [("name", name), ("benchmark.name", name), ("helm.benchmark", {"type": "boolean"})]
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
    *(
        "",
        "/models/kimi",
        "main",
        "v0.5.7",
        "v0.5.8",
        "v9.9.9",
        "v1",
        "triton",
        "with space",
        "ünïcödé 😀",
        "'\"\\",
        "y",
    ),
    *(
        "null",
        "1e3",
        "~",
        "- a",
        "a: b",
        "#",
        "lmsysorg/sglang:v0.5.7-rocm700-mi35x",
        "lmsysorg/sglang:v0.5.7-rocm700-mi30x",
    ),
    *(
        "http://x",
        "hf-token",
        "token",
        "a" * 300,
        "b" * 2000,
        "0x10",
        "-",
        "1:30",
        "kimi-old",
        "kimi-recipe",
        "\x7f",
        "{{ x }}",
    ),
]
NUMBERS = [
    "",
    "0",
    "1",
    "2",
    "4",
    "1.5",
    "0.9",
    "0.00001",
    "0.0000001",
    "-1",
    "-0",
    "1000",
    "1001",
    "65536",
    "1e3",
    "x",
    "007",
    "131072.0",
    "999999999999999",
    "0.5 ",
]
ITEMS = [
    *(
        "--log-level=info",
        "--log-level info",
        "--log-level",
        "info",
        "--tp=8",
        "--api-key=abc",
        "--api-key=$(KEY)",
        "-h",
    ),
    *(
        "--dp-size",
        "--enable-dp-attention",
        "--base-gpu-id=4",
        "--grpc-mode",
        "--node-rank=1",
        "--ssl-certfile=/c",
        "--chunked-prefill-size",
        "4096",
        "'q'",
    ),
    *(
        "sentencepiece",
        "tiktoken",
        "tiktoken>=0.7,<1",
        "bad package",
        "output_throughput",
        "accuracy",
        "request_rate",
        "é",
        "x" * 1500,
    ),
]
PAIRS = [
    "a=b",
    "example.com/x=true",
    "no-value",
    "k = v = w",
    "__proto__=1",
    "constructor=x",
    "ключ=значение",
    "on=off",
]


def is_fitting(schema: Manifest, text: str) -> bool:
    """Whether a field is likely to accept a text."""
    bounds = {item["bound"]: item["limit"] for item in schema.get("checks", ())}
    if schema["type"] in ("integer", "number"):
        is_number = re.fullmatch(r"[0-9]+" if schema["type"] == "integer" else r"[0-9.]+", text)
        return bool(is_number) and bounds.get("minimum", 0) <= float(text) <= bounds.get("maximum", 1e9)
    return bool(re.search(bounds.get("pattern", ""), text)) and 0 < len(text) <= bounds.get("maxLength", 1e9)


def likely(schema: Manifest, texts: Sequence[str], source: random.Random) -> Sequence[str]:
    """Draw mostly texts that fit the field's pattern, so that the walk also reaches the later checks."""
    fitting = [text for text in texts if is_fitting(schema, text)]
    return fitting if fitting and source.random() < 0.85 else texts


def text_for(choice: Manifest, source: random.Random) -> str:
    """Values that a user may put into a control."""
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
            return "\n".join(
                source.sample(PAIRS, source.randrange(4)) if source.random() < 0.9 else map(str, range(40))
            )
        case "array" if "properties" in choice["items"]:
            return "\n".join(source.sample([item["name"] for item in choice["default"]], source.randrange(5)))
        case "array":
            count = source.choice([0, 1, 1, 1, 2, 2, 3, 70])
            return "\n".join(source.choices(likely(choice["items"], ITEMS, source), k=count))
        case _:
            return source.choice(likely(choice, TEXTS, source))


def random_walks(count: int) -> list[Walk]:
    """This number of walks. They are the same every time."""
    source = random.Random("configurator")  # noqa: S311 - nothing has to be hard to guess
    steps = [[source.choice(CHOICES) for _ in range(STEPS)] for _ in range(count)]
    return [[(key, text_for(choice, source)) for key, choice in walk] for walk in steps]
