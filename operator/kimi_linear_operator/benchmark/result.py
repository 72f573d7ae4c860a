"""Parsing the runner's result in a termination message.

The text is untrusted: any pod of a user can write such a message.
"""

from typing import Any

from kimi_linear_operator import jsontext
from kimi_linear_operator.benchmark import load, metric
from kimi_linear_operator.benchmark.spec import Suite, SuiteKind
from kimi_linear_operator.kubernetes.kinds import Manifest

_LONGEST_MESSAGE = 1000
_GREATEST = 1e15
_FIELDS = {"outcome": str, "message": str, "requested": int, "completed": int, "metrics": dict}


class ResultError(Exception):
    """A termination message that is not a valid result."""


def read(text: str, suite: Suite) -> Manifest:
    """Return outcome, message, requested, completed and metrics.

    Raises:
        ResultError: The text is not a valid result of this suite.
    """
    result = _parsed(text, load.kind(suite))
    if result["requested"] != load.requests(suite):
        raise ResultError(
            f"the suite asks for {load.requests(suite)} requests, but the pod's result says that "
            f"{result['requested']} were asked for"
        )
    if result["completed"] > result["requested"]:
        raise ResultError("the pod's result counts more completed requests than the suite asks for")
    if result["outcome"] == "Succeeded":
        _require_metrics(result, load.kind(suite))
    return result


def _require_metrics(result: Manifest, kind: SuiteKind) -> None:
    metrics = result["metrics"]
    if missing := [name for name in metric.INDISPENSABLE[kind] if name not in metrics]:
        raise ResultError(f"the pod's result lacks {', '.join(missing)}")
    if metrics.get("completed", result["completed"]) != result["completed"]:
        raise ResultError("the pod's result contains two different numbers of completed requests")


def _parsed(text: str, kind: SuiteKind) -> Manifest:
    try:
        result = jsontext.decode(text)
    except ValueError as error:
        raise ResultError(f"the result of the pod cannot be read: {error}") from error
    if not isinstance(result, dict):
        raise ResultError("the pod's result is not a JSON object")
    for name, field_type in _FIELDS.items():
        if type(result.get(name)) is not field_type:
            raise ResultError(f"the pod's result lacks {name} of type {field_type.__name__}")
    return {
        "outcome": _outcome(result["outcome"]),
        "message": " ".join(result["message"].split())[:_LONGEST_MESSAGE],
        "requested": _count(result["requested"], "requested"),
        "completed": _count(result["completed"], "completed"),
        "metrics": {name: _number(name, value, kind) for name, value in result["metrics"].items()},
    }


def _outcome(value: str) -> str:
    if value not in ("Succeeded", "Failed"):
        raise ResultError("the pod's result is neither Succeeded nor Failed")
    return value


def _count(value: int, name: str) -> int:
    if not 0 <= value <= _GREATEST:
        raise ResultError(f"the pod's result contains an impossible count: {name}")
    return value


def _number(name: str, value: Any, kind: SuiteKind) -> float:
    """Return the value of a metric.

    Raises:
        ResultError: The client has no such metric, or it cannot have this value.
    """
    if metric.find(kind, name) is None:
        raise ResultError("the pod's result contains a metric that the client of this suite does not report")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ResultError(f"the pod's result contains a metric that is not a number: {name}")
    # This refuses integers that are too large for a float, and Infinity and NaN: Python parses them although JSON does
    # not have them.
    if not 0 <= value <= _GREATEST:
        raise ResultError(f"the pod's result contains an impossible value of the metric {name}")
    return value
