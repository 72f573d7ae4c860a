"""The command line of SGLang's router, for the releases 0.3.0 to 0.3.2."""

from collections.abc import Mapping

from kimi_linear_operator.server.sglang.command_line import PORT
from kimi_linear_operator.server.spec.traffic import RoutingPolicy

PROGRAM = ("python3", "-m", "sglang_router.launch_router")

METRICS_PORT = 29000
"""The router's default."""

METRICS_PORT_NAME = "metrics"

ENVIRONMENT: Mapping[str, str] = {
    # Releases since 0.3.1 ask the hub for the tokenizer, although only gRPC needs it. With this setting, the request
    # fails immediately, which does no harm.
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "HOME": "/tmp",  # noqa: S108 - a folder of the container
}

# In seconds. A killed replica fails two health checks within about two seconds. Until then, this replica has the
# smallest load, so the router sends every request to it first. Retries must last longer: ten retries take at least
# 5.6 s.
_HEALTH = {
    "health-check-interval-secs": 1,
    "health-failure-threshold": 2,
    "health-success-threshold": 1,
    # A long prompt can keep SGLang's web server busy for this time.
    "health-check-timeout-secs": 10,
    # This endpoint shows only whether the process lives, and costs the engine nothing. The replica's own readiness
    # probe checks the engine, and a pod that is not ready is not in DNS.
    "health-check-endpoint": "/v1/models",
    "retry-max-retries": 10,
}
# One day. So only the client limits how long an answer may take, as it does without a router.
_REQUEST_SECONDS = 86_400

# power_of_two refuses to start without two replicas. With these thresholds, cache_aware chooses the replica with the
# fewest requests. If several replicas have the fewest, it chooses one that knows the prompt.
_POLICIES: Mapping[RoutingPolicy, tuple[str, ...]] = {
    "LeastLoad": ("--policy=cache_aware", "--balance-abs-threshold=0", "--balance-rel-threshold=1.0"),
    "CacheAware": ("--policy=cache_aware",),
    "RoundRobin": ("--policy=round_robin",),
}


def command(policy: RoutingPolicy, drain_seconds: int) -> list[str]:
    """Return the router's command, without its addresses and its key. The launcher adds these.

    Args:
        policy: How the router chooses a replica.
        drain_seconds: How many seconds open requests may take after SIGTERM.
    """
    return [
        *PROGRAM,
        f"--port={PORT}",
        f"--prometheus-port={METRICS_PORT}",
        *_POLICIES[policy],
        *(f"--{name}={value}" for name, value in _HEALTH.items()),
        # The circuit breaker counts answers such as 400, too. So ten wrong requests of one client would make the router
        # avoid a replica for everyone.
        "--disable-circuit-breaker",
        f"--request-timeout-secs={_REQUEST_SECONDS}",
        f"--shutdown-grace-period-secs={drain_seconds}",
        # At the level info, the router logs two lines for each request and each probe.
        "--log-level=warn",
    ]
