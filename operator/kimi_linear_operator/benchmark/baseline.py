"""The baseline of a suite: numbers for the same load, or the reason why there are no numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kimi_linear_operator.benchmark import load, recipe
from kimi_linear_operator.benchmark.spec import Suite, SuiteResult
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import is_readable

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Baseline:
    """The numbers with which a suite is compared.

    Attributes:
        metrics: The numbers by metric, empty if there are none.
        missing: Why there are no numbers although the spec names a benchmark, empty otherwise.
    """

    metrics: Metrics = field(default_factory=dict)
    missing: str = ""


def of_recipe(suite: Suite) -> Baseline:
    """Return the recipe's numbers for a suite, empty if it is not one of the recipe's suites."""
    return Baseline(recipe.PUBLISHED.get(suite.name, {}))


def of_benchmark(name: str, suites: Sequence[Suite], results: Sequence[Manifest], suite: Suite) -> Baseline:
    """Return the numbers of another benchmark for a suite.

    Args:
        name: The other benchmark's name.
        suites: Its suites, empty if it does not exist.
        results: Its results, empty if it is not complete.
        suite: The suite to compare.
    """
    theirs = next((other for other in suites if other.name == suite.name and load.is_known(other)), None)
    result = next((result for result in results if result["name"] == suite.name), None)
    if not suites or not results:
        return Baseline(missing=f"the comparison needs a complete benchmark {name}, but there is none")
    if theirs is None or result is None:
        return Baseline(missing=f"benchmark {name} has no suite {suite.name}")
    if not load.is_same(suite, theirs):
        differences = ", ".join(_differences(suite, theirs))
        return Baseline(missing=f"{suite.name} of benchmark {name} ran a different load ({differences})")
    if not is_valid(result):
        return Baseline(missing=f"{suite.name} of benchmark {name} is invalid: its numbers do not count")
    return Baseline(result.get("metrics", {}))


def is_valid(result: Manifest) -> bool:
    """Return whether the numbers of a suite count: its client succeeded, and no finding says that they are invalid."""
    if not is_readable(SuiteResult, result):
        return False
    validity = validity_of(result)
    is_counted = bool(validity) and all(finding.get("passed") for finding in validity)
    return result.get("outcome") == "Succeeded" and is_counted


def validity_of(result: Manifest) -> list[Manifest]:
    """Return the findings that say whether a result's numbers count.

    Each result of this version contains such a finding.
    """
    return [finding for finding in result.get("findings") or () if finding.get("rule") == "Validity"]


def _differences(suite: Suite, other: Suite) -> Iterator[str]:
    """Yield the parameters in which the loads of two suites differ."""
    ours, theirs = (load.of(item).model_dump(by_alias=True) for item in (suite, other))
    if ours.keys() != theirs.keys():
        yield f"{load.kind(other)} in the baseline, {load.kind(suite)} in this benchmark"
        return
    for name, value in ours.items():
        if value != theirs[name]:
            yield f"{name} is {_shown(theirs[name])} in the baseline, {_shown(value)} in this benchmark"


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)
