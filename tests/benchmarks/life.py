"""The operator's work and cost in four phases: until servers are Ready, at rest, after a restart, disturbed."""

import time
from collections import Counter
from dataclasses import dataclass

from benchmarks import disturb
from benchmarks.converge import FIRST, converge, make_first
from benchmarks.figures import OURS, ColdStart, Cost, Life, Steady
from benchmarks.manifests import NAMESPACE, server_names
from benchmarks.measure import count_by_kind
from benchmarks.stage import Running, Stage, fresh_stage, run
from benchmarks.waiting import BenchmarkError, wait_until
from integration.audit import Request
from integration.namespace import condition_of
from kimi_linear_operator.server.spec import SERVER

_STATUS = f"{SERVER.plural}/status"
_QUIET_SECONDS = 3.0
_IDLE_PERCENT = 2.0
_LONGEST_STORM = 1000


@dataclass(frozen=True)
class Plan:
    """How long and how often to measure.

    Attributes:
        patience: After how many seconds something is given up.
        steady_seconds: How long to watch the operator do nothing: every list comes twice in ten minutes.
        repairs: How often to break something.
        storms: How many storms there are.
        start_seconds: Seconds that a start may take: after the operator is ready, it still makes passes over all
            servers.
    """

    patience: float = 600.0
    steady_seconds: float = 600.0
    repairs: int = 20
    storms: int = 5
    start_seconds: float = 5.0


def measure_life(servers: int, plan: Plan) -> Life:
    """Let the operator bring up servers on a separate control plane, and measure all phases."""
    with fresh_stage() as stage:
        return live(stage, server_names(servers), plan)


def live(stage: Stage, names: list[str], plan: Plan) -> Life:
    """Let the operator bring up servers, and measure all phases."""
    with stage.running(OURS) as running:
        cost = bring_up(stage, running, names, plan)
        steady = rest(stage, running, plan.steady_seconds)
    stage.ledger.begin()
    began = time.monotonic()
    running = stage.start(OURS)
    try:
        cold_start = _start_anew(stage, running, began, plan)
        repairs = disturb.measure_repairs(stage, names, plan.repairs)
        storms = disturb.measure_storms(stage, running, names[:_LONGEST_STORM], plan.storms, plan.patience)
    finally:
        running.stop()
    return Life(cost, steady, cold_start, repairs, storms)


def bring_up(stage: Stage, running: Running, names: list[str], plan: Plan) -> Cost:
    """Create servers, play Kubernetes' controllers, and wait until all servers are Ready."""
    make_first(stage, running)
    _make_ready(stage, [FIRST], plan.patience)
    # The Event is written after the status, and must not count as an Event of another server.
    _wait_until_quiet(stage, running, plan.patience)
    before = running.cpu_seconds()
    if converge(stage, running, names, plan.patience).seconds is None:
        raise BenchmarkError(f"{len(names)} servers did not converge in {plan.patience:.0f} s")
    _make_ready(stage, names, plan.patience)
    _wait_until_quiet(stage, running, plan.patience)
    requests = stage.ledger.of(running.contender.user)
    writes = [request for request in requests if request.is_write]
    status_writes = Counter(request.name for request in writes if request.resource == _STATUS)
    memory = running.memory()
    return Cost(
        requests=count_by_kind(requests),
        writes=len(writes),
        status_writes_most=max(status_writes.values()),
        cpu_seconds=running.cpu_seconds() - before,
        rss_mib=memory.now,
        peak_mib=memory.peak,
        lag_seconds=running.loop_lag_seconds(),
    )


def _make_ready(stage: Stage, names: list[str], patience: float) -> None:
    run(stage.load().play_controllers(names))
    wait_until(lambda: _are_ready(stage), f"{len(names)} servers are Ready", patience, pause=0.5)


def _are_ready(stage: Stage) -> bool:
    return all(condition_of(item, "Ready").get("status") == "True" for item in stage.client.list(SERVER, NAMESPACE))


def _wait_until_quiet(stage: Stage, running: Running, patience: float) -> None:
    """Wait until the operator has sent no request for a while."""

    def is_quiet() -> bool:
        running.check()
        stage.ledger.collect()
        last = max(request.ended for request in stage.ledger.of(running.contender.user))
        return time.time() - last > _QUIET_SECONDS

    wait_until(is_quiet, "the operator sends no requests", patience, pause=0.5)


def rest(stage: Stage, running: Running, seconds: float) -> Steady:
    """Measure the operator while nothing happens for some seconds."""
    stage.ledger.begin()
    before, began = running.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    share = (running.cpu_seconds() - before) / (time.monotonic() - began)
    stage.ledger.collect()
    requests = stage.ledger.of(running.contender.user)
    reads = count_by_kind(request for request in requests if not request.is_write)
    return Steady(seconds, reads, _count_writes(requests), share * 100)


def _start_anew(stage: Stage, running: Running, began: float, plan: Plan) -> ColdStart:
    """Wait until the operator is ready, and then until it is idle."""

    def is_ready() -> bool:
        running.check()
        return running.is_ready()

    wait_until(is_ready, "the operator is ready", plan.patience, pause=0.02)
    seconds = time.monotonic() - began
    stage.wait_until_watching(running)
    time.sleep(plan.start_seconds)
    wait_until(lambda: _is_idle(running), "the operator is idle after its start", plan.patience)
    stage.ledger.collect()
    memory = running.memory()
    writes = _count_writes(stage.ledger.of(running.contender.user))
    return ColdStart(
        seconds, writes, running.cpu_seconds(), memory.now, memory.peak, lag_seconds=running.loop_lag_seconds()
    )


def _is_idle(running: Running) -> bool:
    before = running.cpu_seconds()
    time.sleep(2)
    return (running.cpu_seconds() - before) / 2 * 100 < _IDLE_PERCENT


def _count_writes(requests: list[Request]) -> int:
    return sum(request.is_write for request in requests)
