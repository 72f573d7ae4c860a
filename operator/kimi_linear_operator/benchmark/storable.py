"""Removes the parts of a status that a CRD may refuse, such as results of another version or forged results."""

from typing import Any

from kimi_linear_operator import foreigntext, jsontext
from kimi_linear_operator.benchmark.spec import Environment, SuiteResult
from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.kubernetes.stored import is_readable, without_unknown_fields

UNKNOWN_KIND = "unknown"
"""The kind of a result that is kept as text."""

# How much of a result is kept as text. The results of all suites must fit into one object.
_LONGEST_TEXT = 8192


def storable(status: Manifest, now: str) -> Manifest:
    """Return a benchmark's status with changes so that this version's CRD accepts every part.

    A result that this version cannot read becomes text. So its suite does not run again, and the benchmark is never
    Passed.

    Args:
        status: The status.
        now: The time as RFC 3339, for results whose times are unknown.
    """
    records: Manifest = {}
    if "results" in status:
        records["results"] = [readable_result(result, now) for result in status["results"]]
    if "environment" in status:
        records["environment"] = _environment(status["environment"])
    return {**status, **records}


def readable_result(result: Manifest, now: str) -> Manifest:
    """Return a result with a name. If this version cannot read it, it becomes text.

    Args:
        result: The result.
        now: The time as RFC 3339, if the times of the result are unknown.
    """
    if is_readable(SuiteResult, result):
        return without_unknown_fields(result, SuiteResult)
    text = foreigntext.one_line(jsontext.encode(result).decode())[:_LONGEST_TEXT]
    return {
        "name": result["name"],
        "kind": UNKNOWN_KIND,
        "outcome": "Unknown",
        "message": f"another version of the operator stored this result: {text}",
        "startTime": now,
        "completionTime": now,
    }


def _environment(facts: Manifest) -> dict[str, Any]:
    """Return the facts that can be read. The facts do not depend on each other."""
    return {
        name: value
        for name, value in without_unknown_fields(facts, Environment).items()
        if is_readable(Environment, {name: value})
    }
