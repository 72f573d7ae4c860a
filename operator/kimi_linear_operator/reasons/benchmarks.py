"""Reasons of benchmarks and of their verdicts."""

from collections.abc import Mapping

from kimi_linear_operator.reasons.explanation import NOTHING, WAIT, Explanation
from kimi_linear_operator.reasons.name import ReasonName

BENCHMARKS: Mapping[ReasonName, Explanation] = {
    # Reasons before and during the suites.
    "ServerReady": Explanation("benchmark", "The server is Ready (`TargetReady`).", NOTHING),
    "EndpointGiven": Explanation(
        "benchmark", "The operator cannot know whether an endpoint is ready (`TargetReady`).", NOTHING
    ),
    "ServerMissing": Explanation(
        "benchmark", "There is no server with this name.", "Create it, or correct `serverRef.name`."
    ),
    "ServerUnready": Explanation(
        "benchmark", "The server is not Ready.", "Wait, or see `kimi-linear status SERVER` for the cause."
    ),
    "ApiKeyUnknown": Explanation(
        "benchmark",
        "The server's API key does not come from a Secret, so the client cannot get the key.",
        "Use `auth.apiKeySecretRef` of the server instead of `--api-key`.",
    ),
    "WaitingForTurn": Explanation(
        "benchmark",
        "Another benchmark of this server runs or goes first, or a stopped Job is still being removed. If fewer than "
        "eight benchmarks go first, the message names the first of them.",
        WAIT,
    ),
    "Running": Explanation("benchmark", "A suite runs.", WAIT),
    "SuitesEnded": Explanation("benchmark", "Every suite has ended (`Complete`).", NOTHING),
    # Their verdict.
    "ThresholdsMet": Explanation("benchmark", "Passed.", NOTHING),
    "ThresholdMissed": Explanation(
        "benchmark",
        "Failed: a number is worse than its threshold. The message names all such numbers.",
        "Find out why the server is slower or less accurate, or change the threshold.",
    ),
    "Regressed": Explanation(
        "benchmark",
        "Failed: a number is worse than the baseline by more than `baseline.maxRegressionPercent`. The message "
        "names all such numbers.",
        "Find out why the server is slower or less accurate, or raise `baseline.maxRegressionPercent`.",
    ),
    "RequestsFailed": Explanation(
        "benchmark", "Invalid: more requests failed than `maxErrorRate` allows.", "Read the server's log."
    ),
    "ServerChanged": Explanation(
        "benchmark",
        "Invalid: the server was changed, restarted or replaced during the run, or the record of its state cannot "
        "be read.",
        "Measure again.",
    ),
    "ClientFailed": Explanation(
        "benchmark",
        "Invalid: the client ended with an error. The message quotes the error.",
        "Correct what the message names. For an hour, you can read the whole log with `kubectl logs -l "
        "kimi-linear.io/benchmark=NAME,kimi-linear.io/suite=SUITE -c client`.",
    ),
    "NoResult": Explanation(
        "both",
        "For a benchmark, the verdict is Invalid: the client left no numbers, or numbers that do not match the suite. "
        "For weights: the Job has ended, and its pod is gone or left no termination message.",
        "For a benchmark, find the cause in the client's log, and measure again. For an hour, `kubectl logs -l "
        "kimi-linear.io/benchmark=NAME,kimi-linear.io/suite=SUITE -c client` shows this log. For weights, wait: the "
        "operator checks them again within a minute.",
    ),
    "TimedOut": Explanation(
        "benchmark",
        "Invalid: a suite took longer than `timeoutSeconds`.",
        "Raise `timeoutSeconds`, or find out what is slow.",
    ),
    "BaselineMissing": Explanation(
        "benchmark",
        "Invalid: a comparison with the baseline is not possible. The other benchmark is not complete, is not "
        "valid, lacks a number, or ran a different load. The message says which of these.",
        "First run that benchmark with the same load, or correct `baseline.benchmark`.",
    ),
    "ResultUnknown": Explanation(
        "benchmark",
        "Invalid or Failed: another version of the operator wrote a result or a finding that this version does not "
        "know. The status and the ConfigMap `NAME-results` keep the result unchanged. If the CRD refuses the result, "
        "they keep it as text.",
        "Look at the result in the status yourself, or measure again.",
    ),
}
