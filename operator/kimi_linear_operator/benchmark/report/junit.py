"""The report as JUnit XML. Each suite is a test suite, with a test case for its run and one for each finding.

The document is valid for both common schemas. The schema of Ant's JUnit task requires an order of elements, host names
and packages. The other schema is that of Jenkins' xunit plugin.
"""

from datetime import UTC, datetime
from xml.etree import ElementTree

from kimi_linear_operator.benchmark.report.run import Run, SuiteRun
from kimi_linear_operator.benchmark.spec import Finding
from kimi_linear_operator.kubernetes.times import moment

# The schemas require a time even for a suite that has not run.
_NO_TIME = datetime.fromtimestamp(0, UTC)


def report(run: Run) -> str:
    """Return the report as one XML document."""
    root = ElementTree.Element("testsuites")
    for number, suite in enumerate(run.suites):
        root.append(_suite(run, suite, number))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _suite(run: Run, suite: SuiteRun, number: int) -> ElementTree.Element:
    cases = [_run_case(run, suite), *(_finding_case(run, suite, finding) for finding in suite.findings)]
    counts = {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "errors": sum(case.find("error") is not None for case in cases),
        "skipped": sum(case.find("skipped") is not None for case in cases),
    }
    attributes = {
        "name": suite.name,
        "package": _package(run),
        "id": str(number),
        "timestamp": f"{_start(suite):%Y-%m-%dT%H:%M:%S}",
        "hostname": _host(run),
        "time": f"{_seconds(suite):.0f}",
        **{name: str(count) for name, count in counts.items()},
    }
    element = ElementTree.Element("testsuite", attributes)
    properties = ElementTree.SubElement(element, "properties")
    for item in run.environment:
        ElementTree.SubElement(properties, "property", name=item.name, value=item.value)
    for row in suite.rows:
        ElementTree.SubElement(properties, "property", name=row.metric.name, value=repr(row.value))
    element.extend(cases)
    ElementTree.SubElement(element, "system-out").text = "\n".join([f"{run.name}: {run.verdict}", *run.reasons])
    ElementTree.SubElement(element, "system-err")
    return element


def _run_case(run: Run, suite: SuiteRun) -> ElementTree.Element:
    """Return the test case that says whether the client ran to its end."""
    case = _case(run, suite, "run", _seconds(suite))
    if not suite.result:
        ElementTree.SubElement(case, "skipped", message="The suite has not run.")
    elif suite.result.outcome != "Succeeded":
        ElementTree.SubElement(case, "error", message=suite.result.message, type="Failed")
    return case


def _finding_case(run: Run, suite: SuiteRun, finding: Finding) -> ElementTree.Element:
    limit = "" if finding.limit is None else f" (limit {finding.limit:g})"
    case = _case(run, suite, f"{finding.rule} {finding.metric or ''}".rstrip() + limit, 0)
    if not finding.passed:
        # A number beyond its limit is a failure. Invalid numbers, or numbers without a limit or baseline, are an error.
        kind = "error" if finding.rule == "Validity" or finding.limit is None else "failure"
        ElementTree.SubElement(case, kind, message=finding.message, type=finding.rule)
    return case


def _case(run: Run, suite: SuiteRun, name: str, seconds: float) -> ElementTree.Element:
    class_name = f"{_package(run)}.{suite.name}"
    return ElementTree.Element("testcase", name=name, classname=class_name, time=f"{seconds:.0f}")


def _package(run: Run) -> str:
    return f"{run.benchmark.metadata.namespace}.{run.name}"


def _host(run: Run) -> str:
    environment = run.status.environment
    return (environment and environment.server) or "unknown"


def _start(suite: SuiteRun) -> datetime:
    return _time(suite.result.start_time) if suite.result else _NO_TIME


def _seconds(suite: SuiteRun) -> float:
    """Return how long a suite took."""
    end = _time(suite.result.completion_time) if suite.result else _NO_TIME
    return max((end - _start(suite)).total_seconds(), 0)


def _time(text: str) -> datetime:
    try:
        return (moment(text) or _NO_TIME).astimezone(UTC)
    except OverflowError:
        return _NO_TIME
