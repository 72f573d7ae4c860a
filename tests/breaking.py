"""Resources that each break one rule. The tests of all rules use them."""

from dataclasses import dataclass

from kimi_linear_operator.benchmark import rules as benchmark
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.problem import Problem
from kimi_linear_operator.kubernetes.rule import Rule
from kimi_linear_operator.resource_types import check
from kimi_linear_operator.server import rules as server
from kimi_linear_operator.weights import rules as weights
from make import make_benchmark, make_server, make_weights
from unit.benchmark import test_rules as benchmark_rules
from unit.server import test_rules as server_rules
from unit.weights import test_rules as weights_rules

RULES: dict[str, tuple[Rule, ...]] = {
    "KimiLinearServer": server.ERRORS,
    "KimiLinearBenchmark": benchmark.ERRORS,
    "KimiLinearWeights": weights.ERRORS,
}


@dataclass(frozen=True)
class Example:
    """A resource that breaks one rule.

    Attributes:
        kind: Its kind.
        name: Its name if the name breaks the rule, else "".
        spec: Its spec.
        problem: The message about it.
    """

    kind: str
    name: str
    spec: Manifest
    problem: Problem

    def __str__(self) -> str:
        """Return the name of the test's parameter."""
        return f"{self.kind}-{self.problem.path}-{self.problem.message[:30]}"


def examples() -> list[Example]:
    """Return an example for every rule that is an error."""
    made = [
        *(make_server(**case[0]) for case in server_rules.BROKEN),
        *(make_server(**spec) for spec, _ in server_rules.BROKEN_KEYS),
        *(make_benchmark(**spec) for spec, *_ in benchmark_rules.BROKEN),
        *(make_weights(**spec) for spec, *_ in weights_rules.BROKEN),
        make_server("k" * (server.LONGEST_NAME + 1)),
        make_benchmark("b" * (benchmark.LONGEST_NAME + 1)),
        make_weights("w" * (weights.LONGEST_NAME + 1)),
    ]
    found = [_example(manifest) for manifest in made if not check(manifest).is_valid]
    covered = {(example.kind, example.problem.path, example.problem.message) for example in found}
    missing = {(kind, rule.path, rule.message) for kind, table in RULES.items() for rule in table} - covered
    assert not missing, f"no example breaks {missing}"
    return found


def _example(manifest: Manifest) -> Example:
    [problem] = check(manifest).errors
    name = manifest["metadata"]["name"] if problem.path == "metadata.name" else ""
    return Example(manifest["kind"], name, manifest["spec"], problem)
