"""The configurator in a real browser: it agrees with the command line, makes no requests, and is accessible."""

import io
import itertools
import json
import shlex
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any, Literal
from unicodedata import category
from urllib.parse import urlencode

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

from browser.visit import Visit
from browser.walking import random_walks, take
from kimi_linear_operator import cli
from kimi_linear_operator.cli import documents
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server.sglang.by_hand import docker_commands, recipe_command
from kimi_linear_operator.server.spec import KimiLinearServer

HARDWARE = ("mi300x", "mi325x", "mi355x")
SWITCH = ("disabled", "enabled")
SELECTIONS = [*itertools.product(HARDWARE, SWITCH, SWITCH)]
WALKS = 300
TABS = ("server", "helm", "command", "docker", "benchmark")


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
    """The answer of the command line."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setattr("sys.stdin", io.StringIO(given))
        code = cli.main(list(arguments))
    return code, output.getvalue(), errors.getvalue()


@pytest.mark.parametrize(("hardware", "reasoning", "tool_call"), SELECTIONS)
def test_every_selection_of_the_recipe_gives_the_answer_of_the_command_line(
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
    assert (
        message.all_text_contents()
        == [f"Error: {refused[len('# Error: ') : -1].replace(chr(10) + '# ', chr(10))}"] * code
    )


@cache
def expected(text: str) -> dict[str, Any]:
    """The messages that the page should show for a resource: the messages of `kimi-linear validate`."""
    _, output, errors = said_by("validate", "-f", "-", given=text)
    [manifest] = documents.read(text)
    title = f"{manifest['kind']} {manifest['metadata']['name'] or '(no name)'}"
    return {
        "verdict": output.removeprefix("standard input: ").rstrip("\n"),
        "problems": [line.removeprefix(f"standard input: {title}: ") for line in errors.splitlines()],
    }


def test_the_page_shows_the_messages_of_validate_for_random_selections(visit: Visit) -> None:
    seen = Counter[str]()
    for walk in random_walks(WALKS):
        for step, state in enumerate(take(visit.page, walk)):
            where = json.dumps(walk[: step + 1])
            for resource in ("server", "benchmark"):
                told = state[resource]
                assert told == expected(state["texts"][resource]), where
                seen[told["verdict"].rpartition(" ")[2]] += 1
                seen.update({line.partition(":")[0] for line in told["problems"]})
            assert_texts_fit(state["texts"], where)
    assert min(seen[kind] for kind in ("valid", "invalid", "error", "warning")) > WALKS / 2, seen


def yamls(texts: dict[str, str]) -> list[str]:
    return [texts["server"], texts["helm"], texts["benchmark"]]


def assert_texts_fit(texts: dict[str, str], where: str) -> None:
    """The other tabs show the objects that the operator builds for the same server."""
    [server] = documents.read(texts["server"])
    [values] = documents.read(texts["helm"])
    [benchmark] = documents.read(texts["benchmark"])
    assert values.pop("benchmarks", None) in (None, {benchmark["metadata"]["name"]: {"spec": benchmark["spec"]}}), where
    assert values == {"servers": {server["metadata"]["name"]: {"spec": server["spec"]}}}, where
    assert all(yaml.safe_load(text) == documents.read(text)[0] for text in yamls(texts)), "readers of YAML differ"
    checked = check(server)
    if not checked.is_valid:
        assert texts["command"] == texts["docker"], where
        assert texts["command"].startswith("# Error: "), where
        return
    assert isinstance(checked.resource, KimiLinearServer)
    spec = checked.resource.spec
    command = recipe_command(spec)
    assert texts["command"] == f"{command}\n", where
    assert texts["docker"] == "\n\n".join([*docker_commands(spec), command]) + "\n", where
    assert shlex.split(texts["command"].replace("\\\n", ""))[1:4] == ["python3", "-m", "sglang.launch_server"]


def test_copied_text_equals_shown_text(context: BrowserContext, visit: Visit) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit.page
    page.locator("#hardware-mi355x").check()
    for tab in TABS:
        shown = text_of(page, tab)
        page.locator("#copy").click()
        page.get_by_text("Copied.").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == shown
    page.locator("#copy-link").click()
    page.get_by_text("Copied the link.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    assert page.url.endswith("#hardware=mi355x")


def test_without_clipboard_access_the_page_copies_through_a_selection(context: BrowserContext, visit: Visit) -> None:
    page = visit.page
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed')) }")
    page.locator("#copy").click()
    page.get_by_text("Copied.").wait_for()
    context.grant_permissions(["clipboard-read"])
    assert page.evaluate("navigator.clipboard.readText()") == text_of(page, "server")


def test_a_page_from_plain_http_copies_without_a_clipboard(context: BrowserContext, file: Path) -> None:
    context.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    visit = Visit(context.new_page(), file)
    visit.page.locator("#copy").press("Enter")
    visit.page.get_by_text("Copied.").wait_for()
    assert visit.page.evaluate("document.activeElement.id") == "copy", "the focus stays on the button"
    assert (visit.messages, visit.requests) == ([], [])


def test_downloaded_files_equal_shown_text(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    page.locator("#name").fill("nightly")
    names = []
    for tab in TABS:
        shown = text_of(page, tab)
        with page.expect_download() as info:
            page.locator("#download").click()
        info.value.save_as(tmp_path / tab)
        assert (tmp_path / tab).read_text() == shown
        names.append(info.value.suggested_filename)
    assert names == ["nightly.yaml", "values.yaml", "kimi-linear.sh", "docker.sh", "benchmark.yaml"]


def test_the_helm_values_include_the_benchmark_if_selected(visit: Visit) -> None:
    page = visit.page
    [server], [benchmark] = (documents.read(text_of(page, tab)) for tab in ("server", "benchmark"))
    page.get_by_label("Also in the Helm values").check()
    assert documents.read(text_of(page, "helm")) == [
        {"servers": {"kimi": {"spec": server["spec"]}}, "benchmarks": {"kimi-recipe": {"spec": benchmark["spec"]}}}
    ]


def test_a_link_carries_the_selection(visit: Visit, context: BrowserContext, file: Path) -> None:
    page = visit.page
    page.locator("#name").fill("a & b=c #1")
    page.locator("#server-more").evaluate("element => element.parentElement.open = true")
    page.locator("#benchmark-more").evaluate("element => element.parentElement.open = true")
    page.locator("[id='engine.extraArgs']").fill("--log-level=info\n--note='ü 😀'")
    page.locator("[id='service.headless']").check()
    page.locator("[id='benchmark.suites-gsm8k']").uncheck()
    page.locator("[id='benchmark.baseline.maxRegressionPercent']").fill("12.5")
    texts = {tab: text_of(page, tab) for tab in TABS}
    other = Visit(context.new_page(), file, "#" + page.url.partition("#")[2])
    assert {tab: text_of(other.page, tab) for tab in TABS} == texts
    assert other.page.locator("[id='engine.extraArgs']").input_value() == "--log-level=info\n--note='ü 😀'"
    page.locator("#reset").click()
    assert "#" not in page.url
    assert "hardware: mi300x" in text_of(page, "server")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"hardware": "mi400x", "engine.newField": "1"}, "hardware=mi400x, engine.newField=1"),
        ({"hardware": "mi355x."}, "hardware=mi355x."),
        ({"benchmark.suites": "gsm8k\nnewer"}, "benchmark.suites=newer"),
    ],
)
def test_the_page_names_the_settings_of_a_link_that_it_does_not_know(
    settings: dict[str, str], named: str, context: BrowserContext, file: Path
) -> None:
    page = Visit(context.new_page(), file, "#" + urlencode(settings)).page
    unknown = page.get_by_role("alert")
    assert unknown.inner_text() == f"The link also contains settings that this page does not know: {named}"
    page.locator("#reset").click()
    assert unknown.is_hidden()


HOSTILE = {
    "hardware": "<img src=x onerror=alert(1)>",
    "tensorParallelism": "3",
    "suspend": "perhaps",
    "engine.image": "<script>document.title='taken'</script>",
    "engine.extraArgs": "</script><b>x</b>\n" + "y\n" * 100_000,
    "benchmark.suites": "gsm8k\nown",
    "service.annotations": "__proto__=polluted",
    "no.such.field": "x",
    "podTemplate": "{}",
}


def test_a_forged_link_does_no_harm(context: BrowserContext, file: Path) -> None:
    visit = Visit(context.new_page(), file, "#" + urlencode(HOSTILE))
    page = visit.page
    [server] = documents.read(text_of(page, "server"))
    assert server["spec"].keys() == {"hardware", "engine", "service"}
    assert server["spec"]["hardware"] == "mi300x"
    [benchmark] = documents.read(text_of(page, "benchmark"))
    assert benchmark["spec"]["suites"] == [{"name": "gsm8k"}]
    assert page.title() == "Kimi-Linear configurator"
    assert page.locator("main :is(img, b, script)").count() == 0
    assert page.evaluate("({}).polluted ?? null") is None
    assert page.get_by_role("alert").inner_text().endswith("no.such.field=x, podTemplate={}")
    assert (visit.messages, visit.requests) == ([], [])


OBEYED = "--log-level=\x15; touch x #\x1b[201~\x0f\x9b\u202e\u2066\u200b"


def test_fields_chosen_by_a_link_are_visible_and_outputs_have_no_control_characters(
    context: BrowserContext, file: Path
) -> None:
    visit = Visit(
        context.new_page(), file, "#" + urlencode({"engine.extraArgs": OBEYED, "benchmark.timeoutSeconds": 9})
    )
    page = visit.page
    for field in ("engine.extraArgs", "benchmark.timeoutSeconds"):
        assert page.locator(f'[data-choice="{field}"]').is_visible()
    for tab in TABS:
        assert not {character for character in text_of(page, tab) if category(character).startswith("C")} - {"\n"}, tab
    assert (visit.messages, visit.requests) == ([], [])


def test_very_long_keys_are_read_back_from_the_output(context: BrowserContext, file: Path) -> None:
    given = {"name": "n" * 1100, "service.annotations": f"{'k' * 1100}=long\nshort=1"}
    page = Visit(context.new_page(), file, "#" + urlencode(given)).page
    [server] = documents.read(text_of(page, "server"))
    assert server["spec"]["service"]["annotations"] == {"k" * 1100: "long", "short": "1"}
    [values] = documents.read(text_of(page, "helm"))
    assert values["servers"] == {"n" * 1100: {"spec": server["spec"]}}


def test_the_page_can_be_used_with_the_keyboard_alone(visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "output"
    page.locator("#hardware-mi300x").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#hardware-mi355x").is_checked()
    page.keyboard.press("Tab")  # model
    page.keyboard.press("Tab")  # reasoning parser
    page.keyboard.press("ArrowDown")
    assert page.locator("#reasoningParser-enabled").is_checked()
    page.locator("#server-more").locator("..").locator("summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("8")
    assert page.evaluate("document.activeElement.id") == "tensorParallelism"
    page.locator("#tab-server").focus()
    for key, tab in (
        ("ArrowRight", "helm"),
        ("End", "benchmark"),
        ("ArrowRight", "server"),
        ("ArrowLeft", "benchmark"),
    ):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.id") == f"tab-{tab}"
        assert page.locator('[role=tab][aria-selected="true"]').get_attribute("id") == f"tab-{tab}"
    page.keyboard.press("Home")
    [server] = documents.read(page.locator("#text").text_content() or "")
    assert server["spec"] == {"hardware": "mi355x", "tensorParallelism": 8, "reasoningParser": "enabled"}
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "text"


def test_a_problem_links_to_its_field_even_if_the_field_is_folded_away(visit: Visit) -> None:
    page = visit.page
    more = page.locator("#server-more")
    more.evaluate("element => element.parentElement.open = true")
    page.locator("[id='engine.contextLength']").fill("much")
    more.evaluate("element => element.parentElement.open = false")
    page.locator("#server-problems button").press("Enter")
    assert page.evaluate("document.activeElement.id") == "engine.contextLength"
    assert page.locator("[id='engine.contextLength']").get_attribute("aria-invalid") == "true"
    shown = page.locator("[id='engine.contextLength-messages']")
    assert shown.text_content() == "Error: must be a whole number, without quotes"


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_and_fits_its_window(
    scheme: Literal["light", "dark"], width: int, browser: Browser, file: Path
) -> None:
    with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}) as opened:
        selection = {
            "reasoningParser": "enabled",
            "service.type": "NodePort",
            "engine.image": "x" * 300,
            "name": "n" * 60,
        }
        for fragment in ("", "#" + urlencode(selection)):
            page = opened.new_page()
            visit = Visit(page, file, fragment)
            page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow == 0, "the page is wider than its window"
            findings = Axe().run(page).response["violations"]
            assert [(item["id"], [node["html"] for node in item["nodes"]]) for item in findings] == []
            assert (visit.messages, visit.requests) == ([], [])


def brightness(page: Page) -> float:
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in ground.removeprefix("rgb(").removesuffix(")").split(",")) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_systems_colours_unless_the_reader_chooses(
    scheme: Literal["light", "dark"], browser: Browser, file: Path
) -> None:
    with browser.new_context(color_scheme=scheme) as opened:
        page = Visit(opened.new_page(), file).page
        assert (brightness(page) > 200) == (scheme == "light")
        for chosen in ("light", "dark"):
            page.get_by_label(chosen.capitalize(), exact=True).check()
            assert (brightness(page) > 200) == (chosen == "light")
        page.reload()
        assert page.get_by_label("Dark", exact=True).is_checked()
        assert brightness(page) < 60


def test_the_page_is_small(file: Path) -> None:
    assert file.stat().st_size < 240_000
