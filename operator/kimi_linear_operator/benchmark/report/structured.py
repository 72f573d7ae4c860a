"""The report as JSON for programs: everything that the other formats show."""

import json

from kimi_linear_operator.benchmark.report.run import Row, Run, SuiteRun
from kimi_linear_operator.benchmark.spec import BenchmarkStatus
from kimi_linear_operator.kubernetes.kinds import Manifest


def report(run: Run) -> str:
    """Return the report, or the comparison if the reference is another run, as strict JSON."""
    metadata, status = run.benchmark.metadata, run.status
    content = {
        "name": run.name,
        "namespace": metadata.namespace,
        "finished": status.verdict is not None,
        "verdict": status.verdict,
        "reasons": run.reasons,
        "startTime": status.start_time,
        "completionTime": status.completion_time,
        "environment": _environment(status),
        "reference": run.reference
        and {
            "name": run.reference.name,
            "note": run.reference.note,
            "environment": _environment(run.reference.status),
        },
        "suites": [_suite(suite) for suite in run.suites],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _environment(status: BenchmarkStatus) -> Manifest:
    return status.environment.model_dump(by_alias=True, exclude_none=True) if status.environment else {}


def _suite(suite: SuiteRun) -> Manifest:
    result = suite.result
    return {
        "name": suite.name,
        "kind": suite.kind,
        "maxConcurrency": suite.max_concurrency,
        "requested": suite.requests,
        "completed": result.completed if result else None,
        "outcome": result.outcome if result else None,
        "message": result.message if result else "",
        "metrics": [_metric(row) for row in suite.rows],
        "findings": [finding.model_dump(by_alias=True, exclude_none=True) for finding in suite.findings],
    }


def _metric(row: Row) -> Manifest:
    return {
        "name": row.metric.name,
        "label": row.metric.label,
        "unit": row.metric.unit,
        "better": row.metric.better,
        "value": row.value,
        "reference": row.reference,
        "ratio": row.ratio,
        "change": row.change,
    }
