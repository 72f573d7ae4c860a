"""The probes of SGLang's server."""

import re
import shlex

from kimi_linear_operator.kubernetes.kinds import Manifest
from kimi_linear_operator.server.sglang.command_line import PORT_NAME, grouped
from kimi_linear_operator.server.spec import ServerSpec

# SGLang's /health and /health_generate make the engine generate one token. If the engine is busy, a message that it
# sends between two batches is enough. The endpoints take a second or more, and return 503 after 20 s without an answer
# (http_server.py, HEALTH_CHECK_TIMEOUT). The timeouts of the probes are longer.
_HEALTH_SECONDS = 20
_PROBE_TIMEOUT_SECONDS = _HEALTH_SECONDS + 5
# SGLang exits when one batch takes longer than this. --watchdog-timeout changes this limit.
_WATCHDOG_SECONDS = 300
_WATCHDOG_FLAG = re.compile(r"--watchdog[a-z-]*[= ]([0-9]{1,6})(?:\.[0-9]*)?")


def build_probes(spec: ServerSpec) -> Manifest:
    """Return the startup, readiness and liveness probes.

    Startup: SGLang opens its port only when the weights are loaded, and returns 503 until its warm-up is done. So the
    startup probe alone limits the time to load.

    Readiness and liveness: release 0.5.7 does not notice when its scheduler or detokenizer is killed. The main process
    continues, and every request hangs. Only a token that has passed through both processes shows that both processes
    live. /health_generate generates a token with any settings. Two failures in a row remove a replica from its
    Services, so a dead engine is removed within a minute.

    The liveness probe waits as long as SGLang's own watchdog. So a slow batch, such as a long prompt or the compilation
    of a kernel, does not cause a restart before SGLang itself exits.
    """
    health = {"httpGet": {"path": "/health", "port": PORT_NAME}}
    engine = {"httpGet": {"path": "/health_generate", "port": PORT_NAME}, "timeoutSeconds": _PROBE_TIMEOUT_SECONDS}
    period, slow_period = 10, 30
    return {
        "startupProbe": health
        | {
            "periodSeconds": period,
            "timeoutSeconds": 5,
            "failureThreshold": -(-spec.startup.timeout_seconds // period),
        },
        "readinessProbe": engine | {"periodSeconds": period, "failureThreshold": 2},
        "livenessProbe": engine
        | {"periodSeconds": slow_period, "failureThreshold": -(-_watchdog_seconds(spec) // slow_period) + 1},
    }


def _watchdog_seconds(spec: ServerSpec) -> int:
    """Return how many seconds one batch may take. This is SGLang's default, or more if the arguments ask for more."""
    flags = (shlex.join(flag) for flag in grouped(spec.engine.extra_args))
    seconds = [int(match[1]) for flag in flags if (match := _WATCHDOG_FLAG.fullmatch(flag))]
    return max([_WATCHDOG_SECONDS, *seconds[-1:]])
