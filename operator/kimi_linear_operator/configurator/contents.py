"""The data of the configurator's page: fields, rules, and the texts from which the page makes commands."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic.alias_generators import to_camel

import kimi_linear_operator
from kimi_linear_operator.benchmark import rules as benchmark_rules
from kimi_linear_operator.benchmark.spec import RECIPE_SUITES, KimiLinearBenchmark, Speed
from kimi_linear_operator.configurator import form
from kimi_linear_operator.configurator.schema import WORDS, page_schema
from kimi_linear_operator.kubernetes.check import LONGEST_VALUE
from kimi_linear_operator.kubernetes.kinds import GROUP, VERSION, Manifest
from kimi_linear_operator.kubernetes.models import Resource
from kimi_linear_operator.kubernetes.rule import Rule
from kimi_linear_operator.server import rules as server_rules
from kimi_linear_operator.server.sglang import command_line
from kimi_linear_operator.server.sglang.by_hand import COMMAND_START, LINE_BREAK, docker_commands
from kimi_linear_operator.server.sglang.images import ARCHITECTURES, PUBLISHED_IMAGES, image_of
from kimi_linear_operator.server.spec import KimiLinearServer, ServerSpec

# Placeholders in texts. No image, package or release has these names.
_IMAGE = "THE-IMAGE"
_VERSION = "v0.0.0"


def contents() -> Manifest:
    """Return all data of the page, as JSON."""
    return {
        "version": kimi_linear_operator.__version__,
        "apiVersion": f"{GROUP}/{VERSION}",
        "words": WORDS,
        "longestValue": LONGEST_VALUE,
        "server": _resource(KimiLinearServer, server_rules.RULES, form.SERVER),
        "benchmark": _resource(KimiLinearBenchmark, benchmark_rules.RULES, form.BENCHMARK),
        "suites": [{"name": name, "about": _about(suite)} for name, suite in RECIPE_SUITES.items()],
        "command": _command(),
        "docker": _docker(),
        "image": _image(),
    }


def _resource(model: type[Resource], rules: Sequence[Rule], layout: form.Layout) -> Manifest:
    schema = page_schema(model, layout.left_out)
    return {
        "kind": model.KIND.kind,
        "schema": schema,
        "rules": [{**asdict(rule), "path": rule.path} for rule in rules],
        "groups": form.groups(schema["properties"]["spec"], layout),
    }


def _about(suite: Any) -> str:
    if isinstance(suite, Speed):
        return f"{suite.num_prompts} requests, {suite.max_concurrency} at a time"
    return f"{suite.num_questions} questions"


def _command() -> Manifest:
    flags = [*command_line.RECIPE_FLAGS, *command_line.CHOSEN_FLAGS]
    return {
        "start": COMMAND_START,
        "lineBreak": LINE_BREAK,
        "flags": [
            {"name": flag.name, "fields": [_alias(field) for field in flag.fields], "words": dict(flag.words)}
            for flag in flags
        ],
        "more": "engine.extraArgs",
    }


def _docker() -> Manifest:
    """Return the commands that come before the server's command, with a placeholder for the image.

    The last command lacks its packages.
    """
    spec = ServerSpec.model_validate({"engine": {"image": _IMAGE, "extraPipPackages": []}})
    return {"commands": docker_commands(spec), "image": _IMAGE, "packages": "engine.extraPipPackages"}


def _image() -> Manifest:
    """Return how the page selects an image: the image of each known release, and a guess for all other releases."""
    guesses = {
        hardware: image_of(ServerSpec.model_validate({"hardware": hardware, "engine": {"version": _VERSION}}))
        for hardware in ARCHITECTURES
    }
    return {
        "field": "engine.image",
        "published": {
            version: {hardware: image.format(architecture) for hardware, architecture in ARCHITECTURES.items()}
            for version, image in PUBLISHED_IMAGES.items()
        },
        "guess": guesses,
        "version": _VERSION,
    }


def _alias(field: str) -> str:
    return ".".join(map(to_camel, field.split(".")))
