"""What is allowed: every check that a spec must pass, and how its outcome is told."""

from kimi_linear_operator.rules.check import Checked, check, check_stored
from kimi_linear_operator.rules.problem import Problem
from kimi_linear_operator.rules.rule import Rule

__all__ = ["Checked", "Problem", "Rule", "check", "check_stored"]
