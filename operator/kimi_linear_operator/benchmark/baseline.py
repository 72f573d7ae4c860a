"""What a suite is compared with: numbers of the same load, or the reason why there are none."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kimi_linear_operator.benchmark import client, recipe
from kimi_linear_operator.benchmark.spec import Suite
from kimi_linear_operator.kubernetes.kinds import Manifest

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Baseline:
    """The numbers that a suite is compared with.

    Attributes:
        metrics: By name; empty if there are none.
        missing: Why there are none although the spec asks for a comparison.
    """

    metrics: Metrics = field(default_factory=dict)
    missing: str = ""


def of_recipe(suite: Suite) -> Baseline:
    """Return the published numbers of a suite; the recipe has none for suites of one's own."""
    return Baseline(recipe.PUBLISHED.get(suite.name, {}))


def of_benchmark(name: str, suites: Sequence[Suite], results: Sequence[Manifest], suite: Suite) -> Baseline:
    """Return the numbers that another benchmark has for a suite.

    Args:
        name: The other benchmark's name.
        suites: Its suites; none if there is no such benchmark.
        results: Its results; none if it is not complete.
        suite: The suite that is compared.
    """
    theirs = next((one for one in suites if one.name == suite.name and client.is_known(one)), None)
    result = next((one for one in results if one["name"] == suite.name), None)
    if not suites or not results:
        return Baseline(missing=f"there is no complete benchmark {name} to compare with")
    if theirs is None or result is None:
        return Baseline(missing=f"benchmark {name} has no suite {suite.name}")
    if not client.is_same_load(suite, theirs):
        differences = ", ".join(_differences(suite, theirs))
        return Baseline(missing=f"{suite.name} of benchmark {name} ran another load ({differences})")
    if not is_valid(result):
        return Baseline(missing=f"{suite.name} of benchmark {name} is invalid: its numbers count for nothing")
    return Baseline({key: value for key, value in result["metrics"].items() if math.isfinite(value)})


def is_valid(result: Manifest) -> bool:
    """Return whether the numbers of a suite count."""
    validity = (finding for finding in result.get("findings", ()) if finding.get("rule") == "Validity")
    return result.get("outcome") == "Succeeded" and all(finding.get("passed") for finding in validity)


def _differences(suite: Suite, other: Suite) -> Iterator[str]:
    ours, theirs = (client.load(one).model_dump(by_alias=True) for one in (suite, other))
    if ours.keys() != theirs.keys():
        yield f"{client.kind(other)} there, {client.kind(suite)} here"
        return
    for name, value in ours.items():
        if value != theirs[name]:
            yield f"{name} is {_shown(theirs[name])} there, {_shown(value)} here"


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)
