"""For all tests: the option that updates golden files, settings of hypothesis, and the report about the real parts."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time, so that a test fails only because of a change.
settings.register_profile("repeatable", max_examples=60, deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")

# Control planes and tools are written in Go. With the default of 100, the tests of servers need an eighth more
# processor time than with 400. With 400, a control plane needs some hundred megabytes more.
os.environ.setdefault("GOGC", "300")

# The programs that the tests of each folder run in addition to our own code.
AGAINST = {
    "unit": "nothing: pure functions, and fakes that inject faults",
    "golden": "nothing: whole objects and statuses, as files",
    "arguments": "SGLang's own command-line parsers, of 0.5.7 and of a current release",
    "client": "the clients of SGLang and of the hub, against stand-ins for their servers",
    "router": "SGLang's router, of 0.3.0 and of 0.3.2, with stand-ins for SGLang's server behind it",
    "engine": "SGLang 0.5.7 and 0.5.23 on a CPU, with a tiny Kimi-Linear, and beside them the stand-in; no GPU",
    "browser": "Chromium",
    "integration": "etcd, API server, controllers and scheduler of Kubernetes; its nodes are simulated",
    "exposure": "Contour and Envoy as ingress controller and gateway, on such a control plane",
    "queueing": "Kueue with its webhooks, on such a control plane",
    "gitops": "Argo CD and Flux (its controllers of sources and Kustomizations), on such a control plane",
    "e2e": "kubelet, containerd, runc, kube-proxy and CoreDNS: pods that run, installed by Helm; the engine is "
    "SGLang 0.5.7 on a CPU or the stand-in; GPUs are /dev/null",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files instead of comparing")
    parser.addoption("--asked", type=Path, help="folder for what the operators of the integration tests asked for")


def pytest_configure() -> None:
    """After SIGTERM, which CI sends, end as after Ctrl-C, so that processes of tests are ended."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests ran against, so that readers do not mistake skipped and simulated parts for real ones."""
    passed, skipped = (_by_folder(terminalreporter, outcome) for outcome in ("passed", "skipped"))
    terminalreporter.section("what ran for real")
    for folder, what in AGAINST.items():
        if passed[folder] or skipped[folder]:
            left_out = f", {skipped[folder]} skipped" if skipped[folder] else ""
            terminalreporter.write_line(f"{folder:12} {passed[folder]:4} passed{left_out}, against {what}")


def _by_folder(reporter: pytest.TerminalReporter, outcome: str) -> Counter[str]:
    return Counter(Path(report.nodeid).parts[1] for report in reporter.stats.get(outcome, ()))
