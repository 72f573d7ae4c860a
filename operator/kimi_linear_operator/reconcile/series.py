"""Lines of the metrics about resources.

This module does not use prometheus_client, because it takes ten times as long for hundreds of thousands of lines.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kimi_linear_operator.reconcile.cached_object import CachedObject

# https://prometheus.io/docs/instrumenting/exposition_formats/
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})

# In characters. Names of objects have at most 253, but texts in a status can have any number, and a label is in many
# lines.
_LONGEST_LABEL = 256


@dataclass(frozen=True)
class ResourceMetric:
    """A gauge about resources.

    Attributes:
        name: Its name.
        meaning: What its values are.
        labels: The names of its labels.
    """

    name: str
    meaning: str
    labels: tuple[str, ...]

    def head(self) -> str:
        """Return the HELP and TYPE lines."""
        return f"# HELP {self.name} {self.meaning}\n# TYPE {self.name} gauge\n"


CONDITION_LABELS = ("condition", "reason", "status")
"""The labels of a metric that counts resources by condition."""


def labels(values: Mapping[str, str]) -> str:
    """Return labels in the format between the braces of a line. Long values are cut."""
    return ",".join(f'{name}="{value[:_LONGEST_LABEL].translate(_ESCAPES)}"' for name, value in values.items())


def by_condition(metric: ResourceMetric, objects: Iterable[CachedObject]) -> Iterator[str]:
    """Yield the lines of a metric that counts resources by condition."""
    yield metric.head()
    tally: Tally[tuple[str, str, str]] = Tally()
    for cached in objects:
        tally.update(cached.conditions)
    for (condition, status, reason), count in sorted(tally.items()):
        values = dict(zip(metric.labels, (condition, reason, status), strict=True))
        yield f"{metric.name}{{{labels(values)}}} {float(count)}\n"
