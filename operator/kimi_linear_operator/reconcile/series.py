"""Lines of metrics about resources.

They are written here, as prometheus_client takes ten times as long for hundreds of thousands of them.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping

from kimi_linear_operator.reconcile.cached_object import CachedObject

# https://prometheus.io/docs/instrumenting/exposition_formats/
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})


def head(name: str, text: str) -> str:
    """Return the lines before those of one metric."""
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n"


def labels(values: Mapping[str, str]) -> str:
    """Return labels as they stand between the braces of a line."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in values.items())


def by_condition(name: str, text: str, objects: Iterable[CachedObject]) -> Iterator[str]:
    """Yield the lines that tell how many resources are in which condition."""
    yield head(name, text)
    tally: Tally[tuple[str, str, str]] = Tally()
    for found in objects:
        tally.update(found.conditions)
    for (condition, status, reason), count in sorted(tally.items()):
        told = {"condition": condition, "reason": reason, "status": status}
        yield f"{name}{{{labels(told)}}} {float(count)}\n"
