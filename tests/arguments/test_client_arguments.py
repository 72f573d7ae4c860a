"""The client's own parser accepts every command line with which the runner starts it."""

from pathlib import Path
from typing import Any

import pytest

from arguments.sglang_releases import RELEASES, parse, spellings
from kimi_linear_operator.benchmark import commands, load, runner
from kimi_linear_operator.benchmark.spec import RECIPE_SUITES, BenchmarkSpec, Speed
from kimi_linear_operator.resource_types import check
from make import make_benchmark

SPEED = ("sglang.bench_serving",)
CUSTOM: list[dict[str, Any]] = [
    {
        "name": "all-speed-options",
        "speed": {
            "numPrompts": 20,
            "datasetName": "sharegpt",
            "sharegptOutputLen": 64,
            "sharegptContextLen": 4096,
            "maxConcurrency": 4,
            "requestRate": 2.5,
            "flushCache": True,
            "applyChatTemplate": True,
            "disableIgnoreEos": True,
            "disableStream": True,
            "tokenizePrompt": False,
            "warmupRequests": 0,
            "seed": 7,
        },
    },
    {"name": "token-prompts", "speed": {"numPrompts": 5, "datasetName": "random-ids", "tokenizePrompt": True}},
    {
        "name": "all-accuracy-options",
        "accuracy": {"numQuestions": 50, "numShots": 3, "maxNewTokens": 256, "parallel": 8, "temperature": 0.5},
    },
]
DATASETS = [
    {},
    {"shareGPT": {"configMap": "data", "path": "sharegpt.json"}, "gsm8k": {"configMap": "data", "path": "test.jsonl"}},
]


def command(spec: BenchmarkSpec, number: int) -> tuple[str, ...]:
    """Return the command that the runner starts for a suite.

    For the accuracy suite, the runner lets Python run the same module with a target (see runner.py); the arguments are
    the same.
    """
    suite = spec.suites[number]
    is_speed, folder = isinstance(load.of(suite), Speed), Path("/results")
    words = tuple(commands.build_command(spec, suite, "moonshotai/Kimi-Linear-48B-A3B-Instruct"))
    kind = "speed" if is_speed else "accuracy"
    started = runner.Suite(suite.name, kind, load.requests(suite), "http://kimi.default.svc:30000", folder, words)
    return tuple(started.client) if is_speed else words


def benchmarks() -> list[BenchmarkSpec]:
    suites = [*({"name": name} for name in RECIPE_SUITES), *CUSTOM]
    common = {"serverRef": {"name": "kimi"}, "suites": suites}
    return [BenchmarkSpec.model_validate({**common, "datasets": datasets}) for datasets in DATASETS]


@pytest.mark.parametrize("release", RELEASES)
def test_clients_accept_every_command_line(release: str) -> None:
    specs = benchmarks()
    commands = [command(spec, number) for spec in specs for number in range(len(spec.suites))]
    answers = parse(release, commands)
    assert [answer.error for answer in answers if answer.error] == []
    loads = [load.of(suite) for spec in specs for suite in spec.suites]
    for own_load, answer in zip(loads, answers, strict=True):
        wanted = own_load.model_dump(by_alias=False, exclude={"extra_args"}, exclude_none=True)
        assert {name: answer.arguments[name] for name in wanted} == wanted


@pytest.mark.parametrize("release", RELEASES)
def test_every_flag_that_the_operator_reserves_exists_in_the_client(release: str) -> None:
    known = spellings(release, *SPEED)
    absent = [flag for flag in commands.OWNED_FLAGS if f"--{flag}" not in known]
    # Release 0.5.7 cannot send headers, but newer releases can.
    assert absent == (["header"] if release == "0.5.7" else [])


@pytest.mark.parametrize("release", RELEASES)
def test_rules_refuse_every_spelling_of_a_flag_that_has_a_field_and_no_other_flag(release: str) -> None:
    known = spellings(release, *SPEED)
    owned = {known[f"--{flag}"] for flag in commands.OWNED_FLAGS if f"--{flag}" in known}
    refused = {word for word in known if _is_refused(word)}
    assert [word for word, name in known.items() if name in owned and word not in refused] == []
    assert [word for word, name in known.items() if name not in {*owned, "help"} and word in refused] == []


def _is_refused(word: str) -> bool:
    """Return whether an argument is refused because it has a field."""
    suite = {"name": "own", "speed": {"numPrompts": 1, "extraArgs": [word]}}
    problems = check(make_benchmark(suites=[suite])).problems
    return any("contains a flag in extraArgs" in problem.message for problem in problems)
