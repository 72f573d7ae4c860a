"""All reasons of our conditions, each with its meaning and its remedy.

A new reason takes two lines: one in `name.py`, one in the table of its subject. mypy rejects a reason that is not
listed. A test finds a reason that is not explained or not used. `docs/reasons.md` is generated from these tables.
"""

from collections.abc import Mapping

from kimi_linear_operator.reasons.benchmarks import BENCHMARKS
from kimi_linear_operator.reasons.explanation import NOTHING, WAIT, Explanation, UsedBy
from kimi_linear_operator.reasons.name import ReasonName
from kimi_linear_operator.reasons.pods import PODS
from kimi_linear_operator.reasons.servers import SERVERS
from kimi_linear_operator.reasons.specs import SPECS
from kimi_linear_operator.reasons.weights import WEIGHTS

__all__ = ["NOTHING", "REASONS", "WAIT", "Explanation", "ReasonName", "UsedBy"]

REASONS: Mapping[ReasonName, Explanation] = {
    **SPECS,
    **PODS,
    **SERVERS,
    **BENCHMARKS,
    **WEIGHTS,
    # Reasons of the conditions `Reconciling` and `Stalled` while these are False.
    "Settled": Explanation("both", "Nothing is in progress (`Reconciling` is False).", NOTHING),
    "NotStalled": Explanation("both", "No problem needs help (`Stalled` is False).", NOTHING),
}
