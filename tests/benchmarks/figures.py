"""The measured figures, and figures that are computed from them.

This module contains only values, and measures nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

OURS, LIMIT, PLAIN = "operator", "API server limit", "plain kopf"


@dataclass(frozen=True)
class Convergence:
    """From the first server's creation to the last child and the last status.

    Attributes:
        seconds: How long it took; None if it was given up.
        done: How many servers got all their children and a status.
        own_cpu: Processor seconds of the contender.
        server_cpu: Processor seconds of API server and etcd.
        strangers_cpu: Processor seconds that other programs on this machine used, or that its host kept, per second.
    """

    seconds: float | None
    done: int
    own_cpu: float
    server_cpu: float
    strangers_cpu: float

    @property
    def cpu(self) -> float | None:
        """Return the processor seconds of contender and API server for each server that is done."""
        return (self.own_cpu + self.server_cpu) / self.done if self.done else None


@dataclass(frozen=True)
class Finished:
    """The cost of kept finished benchmarks for a replica.

    Attributes:
        servers: How many servers there are.
        benchmarks: How many finished benchmarks there are; each server has the same number.
        store_mib: Memory that the benchmarks and their ConfigMaps take.
        rss_mib: All memory after scrapes.
        lines: Number of lines of one scrape.
        scrape_mib: Size of one scrape.
        packed_mib: Size of one compressed scrape, which is what Prometheus asks for.
        scrape_seconds: The shortest time from the request to the last byte.
        packed_seconds: The same time for a compressed scrape.
        cpu_seconds: Processor time of one scrape.
        lag_seconds: The longest delay of the event loop during the scrapes.
    """

    servers: int
    benchmarks: int
    store_mib: float
    rss_mib: float
    lines: int
    scrape_mib: float
    packed_mib: float
    scrape_seconds: float
    packed_seconds: float
    cpu_seconds: float
    lag_seconds: float


Round = Mapping[str, Convergence]
"""One run of each contender, one right after the other."""


@dataclass(frozen=True)
class Cost:
    """The operator's use of resources from an empty cluster until all servers are Ready.

    Attributes:
        requests: Number of requests by verb and resource.
        writes: Number of these requests that were writes.
        status_writes_most: The largest number of status writes for a single server.
        cpu_seconds: Processor seconds.
        rss_mib: Resident memory at the end.
        peak_mib: The largest resident memory at any time.
        lag_seconds: How late its event loop was at worst.
    """

    requests: dict[str, int]
    writes: int
    status_writes_most: int
    cpu_seconds: float
    rss_mib: float
    peak_mib: float
    lag_seconds: float


@dataclass(frozen=True)
class Steady:
    """A period in which nothing happens to Ready servers."""

    seconds: float
    reads: dict[str, int]
    writes: int
    cpu_percent: float


@dataclass(frozen=True)
class Outfit:
    """The cost of servers with different specs.

    Attributes:
        name: The options that the servers use.
        servers: How many there are.
        children: How many children each has.
        cost: The cost until all servers are Ready.
        steady: The cost while nothing happens.
    """

    name: str
    servers: int
    children: int
    cost: Cost
    steady: Steady


@dataclass(frozen=True)
class ColdStart:
    """A start over Ready servers.

    Attributes:
        seconds: From the start of the process until /readyz says that it knows the cluster.
        writes: Number of writes until the operator is idle.
        cpu_seconds: Processor seconds until the operator is idle.
        rss_mib: Resident memory when the operator is idle.
        peak_mib: The largest resident memory until then.
        lag_seconds: How late its event loop was at worst.
    """

    seconds: float
    writes: int
    cpu_seconds: float
    rss_mib: float
    peak_mib: float
    lag_seconds: float


@dataclass(frozen=True)
class StormSample:
    """One user's change of one server while others are created or changed.

    Attributes:
        seconds: Seconds until the Deployment showed the change.
        storm: What happened to the other servers.
        waiting: How many of the other servers were not done when the user made the change.
    """

    seconds: float
    storm: str
    waiting: int


@dataclass(frozen=True)
class Life:
    """The operator's work and use of resources with this many servers."""

    cost: Cost
    steady: Steady
    cold_start: ColdStart
    repairs: list[float] = field(default_factory=list)
    storms: list[StormSample] = field(default_factory=list)


@dataclass(frozen=True)
class Size:
    """All measurements with this number of servers.

    Attributes:
        servers: How many.
        rounds: Convergence without Kubernetes' own controllers.
        life: The operator's use of resources during the life of the servers.
        beside: Convergence beside Kubernetes' own controllers.
    """

    servers: int
    rounds: Sequence[Round]
    life: Life | None = None
    beside: Sequence[Round] = ()

    def seconds(self, contender: str) -> float | None:
        """Return the median time to converge. None if there was no round, or if a round was given up."""
        times = [contest[contender].seconds for contest in self.rounds if contender in contest]
        finished = [time for time in times if time is not None]
        return median(finished) if finished and len(finished) == len(times) else None

    def ratio(self, contender: str, figure: str = "seconds") -> float | None:
        """Return the operator's time divided by another contender's, as the median over the rounds.

        Args:
            contender: The other contender.
            figure: Which time to compare; "cpu" is the processor time of contender and API server for each server.
        """
        return _ratio(self.rounds, contender, figure)

    def ratio_beside(self, contender: str) -> float | None:
        """Return the median ratio of the times, measured while Kubernetes' own controllers run too."""
        return _ratio(self.beside, contender, "seconds")


def _ratio(rounds: Sequence[Round], contender: str, figure: str) -> float | None:
    pairs = [
        (getattr(contest[OURS], figure), getattr(contest[contender], figure))
        for contest in rounds
        if contender in contest
    ]
    ratios = [ours / others for ours, others in pairs if ours is not None and others is not None]
    return median(ratios) if ratios else None


@dataclass(frozen=True)
class Results:
    """All measurements.

    Attributes:
        machine: Facts about the machine.
        sizes: The measurements for each number of servers.
        finished: The cost of finished benchmarks.
        outfits: The cost of servers for each set of options.
    """

    machine: Mapping[str, Any] = field(default_factory=dict)
    sizes: Sequence[Size] = ()
    finished: Sequence[Finished] = ()
    outfits: Sequence[Outfit] = ()


@dataclass(frozen=True)
class Target:
    """A target, and whether the measurement meets it."""

    text: str
    limit: float
    measured: float

    @property
    def is_met(self) -> bool:
        return self.measured <= self.limit


def growth(sizes: Sequence[Size], figure: str) -> float | None:
    """Return the cost per server (cpu_seconds or writes) with the most servers, divided by the cost with the fewest."""
    lived = [size for size in sizes if size.life]
    if len(lived) < 2:
        return None
    few, *_, many = sorted(lived, key=lambda size: size.servers)
    return _per_server(many, figure) / _per_server(few, figure)


def _per_server(size: Size, figure: str) -> float:
    assert size.life is not None
    return float(getattr(size.life.cost, figure)) / size.servers
