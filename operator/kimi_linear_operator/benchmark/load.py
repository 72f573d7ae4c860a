"""The load of a suite: the requests of its client. The recipe's suites are known by name."""

from kimi_linear_operator.benchmark.spec import RECIPE_SUITES, Accuracy, Speed, Suite, SuiteKind, ToolCalls

Load = Speed | Accuracy | ToolCalls


def of(suite: Suite) -> Load:
    """Return the load of a suite: its own load, or the load of the recipe's suite with this name."""
    return suite.speed or suite.accuracy or suite.tool_calls or RECIPE_SUITES[suite.name]


def is_known(suite: Suite) -> bool:
    """Return whether this version knows the load of a suite. Another version may have other kinds of load."""
    return bool(suite.speed or suite.accuracy or suite.tool_calls or suite.name in RECIPE_SUITES)


def is_same(suite: Suite, other: Suite) -> bool:
    """Return whether two suites have the same load, so that their numbers can be compared."""
    return of(suite) == of(other)


def kind(suite: Suite) -> SuiteKind:
    """Return what a suite measures."""
    match of(suite):
        case Speed():
            return "speed"
        case Accuracy():
            return "accuracy"
        case ToolCalls():
            return "tool-calls"


def requests(suite: Suite) -> int:
    """Return how many requests a suite makes."""
    match of(suite):
        case Speed() as load:
            return load.num_prompts
        case Accuracy() as load:
            return load.num_questions
        case ToolCalls() as load:
            return load.num_requests
