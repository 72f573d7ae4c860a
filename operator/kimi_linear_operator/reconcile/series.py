"""Lines of the metrics about resources.

This does not use prometheus_client, which takes ten times as long for hundreds of thousands of lines.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping

from kimi_linear_operator.reconcile.cached_object import CachedObject

# https://prometheus.io/docs/instrumenting/exposition_formats/
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})

# Characters. Names of objects have 253 at most; texts in a status may have any number, and a label is in many lines.
_LONGEST_LABEL = 256


def head(name: str, text: str) -> str:
    """Return the HELP and TYPE lines of a metric."""
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n"


def labels(values: Mapping[str, str]) -> str:
    """Return labels in the format between the braces of a line. Long values are cut."""
    return ",".join(f'{name}="{value[:_LONGEST_LABEL].translate(_ESCAPES)}"' for name, value in values.items())


def by_condition(name: str, text: str, objects: Iterable[CachedObject]) -> Iterator[str]:
    """Yield the lines of a metric that counts resources by condition."""
    yield head(name, text)
    tally: Tally[tuple[str, str, str]] = Tally()
    for cached in objects:
        tally.update(cached.conditions)
    for (condition, status, reason), count in sorted(tally.items()):
        values = {"condition": condition, "reason": reason, "status": status}
        yield f"{name}{{{labels(values)}}} {float(count)}\n"
