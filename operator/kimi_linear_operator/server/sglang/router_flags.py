"""The command line of SGLang's router: what releases 0.3.0 to 0.3.2 take."""

from collections.abc import Mapping

from kimi_linear_operator.server.sglang.command_line import PORT
from kimi_linear_operator.server.spec.traffic import RoutingPolicy

PROGRAM = ("python3", "-m", "sglang_router.launch_router")

METRICS_PORT = 29000
"""The router's default."""

ENVIRONMENT: Mapping[str, str] = {
    # Releases since 0.3.1 ask the hub for the tokenizer, which only gRPC needs. Without a hub that fails at once.
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "HOME": "/tmp",  # noqa: S108 - a folder of the container
}

# Seconds. A replica that was killed fails two health checks within about two seconds. Until then, it has the least load
# and gets every request first, so requests are repeated for longer: ten retries take 5.6 s at least.
_HEALTH = {
    "health-check-interval-secs": 1,
    "health-failure-threshold": 2,
    "health-success-threshold": 1,
    # A long prompt can keep SGLang's web server busy that long.
    "health-check-timeout-secs": 10,
    # Shows only whether the process lives, and costs the engine nothing. Whether the engine lives is for the replica's
    # own readiness probe: an unready pod is not in DNS.
    "health-check-endpoint": "/v1/models",
    "retry-max-retries": 10,
}
# A day: as without a router, only the client limits how long an answer may take.
_REQUEST_SECONDS = 86_400

# power_of_two refuses to start without two replicas. cache_aware with these thresholds chooses the replica with the
# fewest requests, and the one that knows the prompt if there are several.
_POLICIES: Mapping[RoutingPolicy, tuple[str, ...]] = {
    "LeastLoad": ("--policy=cache_aware", "--balance-abs-threshold=0", "--balance-rel-threshold=1.0"),
    "CacheAware": ("--policy=cache_aware",),
    "RoundRobin": ("--policy=round_robin",),
}


def command(policy: RoutingPolicy, drain_seconds: int) -> list[str]:
    """Return the router's command, without its addresses and its key: the launcher adds these.

    Args:
        policy: How it chooses a replica.
        drain_seconds: How long open requests may take once it has to end.
    """
    return [
        *PROGRAM,
        f"--port={PORT}",
        f"--prometheus-port={METRICS_PORT}",
        *_POLICIES[policy],
        *(f"--{name}={value}" for name, value in _HEALTH.items()),
        # It counts answers such as 400, too: ten wrong requests of one client would close a replica to everyone.
        "--disable-circuit-breaker",
        f"--request-timeout-secs={_REQUEST_SECONDS}",
        f"--shutdown-grace-period-secs={drain_seconds}",
        # At the level info, it logs two lines for each request and each probe.
        "--log-level=warn",
    ]
