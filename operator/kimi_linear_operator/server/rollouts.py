"""Rolling new pod templates out to all servers, one after the other, where the administrator wants that.

What is under way is in the cluster: a record of a pod template is marked until its server is Ready with it. So another
replica, or this one after a restart, goes on where the last one stopped. If the mark is of another version's template
and its server is not Ready, this version's may put it right: that server comes first.
"""

import asyncio
import logging
import time
from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

from kimi_linear_operator import metrics
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, REVISION, Manifest
from kimi_linear_operator.kubernetes.metadata import annotations, is_owned_by
from kimi_linear_operator.reconcile.cached_object import Conditions, Key
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.server.events import WITHOUT_REPLICAS
from kimi_linear_operator.server.labels import AUTOMATIC_ANNOTATION
from kimi_linear_operator.server.spec import SERVER

logger = logging.getLogger(__name__)

# How often to look at the conditions that the store has: some milliseconds for 5,000 servers.
LOOK_SECONDS = 10.0
# A pass takes a template within seconds, unless the spec is refused just then, a quota or a name that is taken keeps
# its record from being written, or the namespace cannot be read any more.
TAKEN_SECONDS = 300.0
_DECODED_AT_ONCE = 100
# A paused Deployment has no deadline: nothing would ever tell that it keeps all others waiting.
_PAUSED = "RolloutPaused"


@dataclass(frozen=True)
class Candidate:
    """A server, as far as its turn goes.

    Attributes:
        key: Which server.
        is_offered: Whether a newer pod template waits.
        is_ready: Whether it serves as it should, or is to have no replica.
        is_under_way: Whether it got a template from the operator and was not Ready with it yet.
        stalled: Why it will not become Ready by itself, empty if it may.
    """

    key: Key
    is_offered: bool
    is_ready: bool
    is_under_way: bool = False
    stalled: str = ""


def candidate(key: Key, conditions: Conditions, *, is_under_way: bool) -> Candidate:
    """Return a server as a candidate."""
    known = {kind: (state, reason) for kind, state, reason in conditions}
    template, ready = known.get("TemplateCurrent", ("", "")), known.get("Ready", ("", ""))
    stalled = known.get("Stalled", ("", ""))
    return Candidate(
        key=key,
        is_offered=template[0] == "False",
        is_ready=ready[0] == "True" or ready[1] in WITHOUT_REPLICAS,
        is_under_way=is_under_way,
        stalled=stalled[1] if stalled[0] == "True" else ready[1] if ready[1] == _PAUSED else "",
    )


def turn_of(candidates: Iterable[Candidate]) -> list[Key]:
    """Return the servers that may get the newest template now, the next one first.

    None while one is under way with it. Those that another version's template left unready come before all others, and
    of these only those that are ready come.
    """
    known = list(candidates)
    if under_way := [item for item in known if item.is_under_way]:
        is_left = all(item.is_offered and not item.is_ready for item in under_way)
        return sorted(item.key for item in under_way) if is_left else []
    return sorted(item.key for item in known if item.is_offered and item.is_ready)


class Rollouts:
    """Chooses one server after the other."""

    def __init__(self, context: Context, chosen: set[Key], clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nobody chosen.

        Args:
            context: What all reconcilers work with.
            chosen: Takes the server whose turn it is; its next pass takes the newest template and removes it.
            clock: Monotonic seconds.
        """
        self.cache = context.cache
        self.chosen = chosen
        self._enqueue = context.scheduling.enqueue
        self._pause = context.options.rollout_pause
        self._is_in_use = context.is_in_use
        self._clock = clock
        self._quiet_since: float | None = None
        self._chosen_since = 0.0
        # How often servers were chosen that still wait: those that could not take a template let others go first.
        self._attempts: Tally[Key] = Tally()
        # What the log says already of servers that keep all others waiting: their keys, and why.
        self._told: set[tuple[Key, str]] = set()

    async def run(self, is_settled: Callable[[], bool]) -> None:
        """Choose servers for as long as this replica leads, while everything was read: who has a turn must be known.

        Args:
            is_settled: Whether everything was read that can be.
        """
        if self._pause is None:
            return
        try:
            while True:
                await asyncio.sleep(min(LOOK_SECONDS, self._pause))
                if not is_settled():
                    self._quiet_since = None
                    continue
                try:
                    await self.step()
                except Exception:
                    # Whatever it is, no server is chosen because of it, and the next look may go well.
                    logger.exception("Choosing the next server for the newest pod template failed, looking again")
        finally:
            self._tell([])  # Another replica counts.

    async def step(self) -> None:
        """Choose the next server if it is time."""
        pause = self._pause or 0.0
        servers = dict(self.cache.conditions(SERVER))
        self._drop_chosen(servers)
        if not any(candidate(*item, is_under_way=False).is_offered for item in servers.items()) and not self.chosen:
            self._tell([])  # Nothing waits, so it does not matter whether the last one is Ready yet.
            self._attempts.clear()
            return
        under_way = {key async for key in self._marked(servers)} | self.chosen
        candidates = [candidate(*item, is_under_way=item[0] in under_way) for item in servers.items()]
        self._tell(candidates)
        waiting = [] if self.chosen else turn_of(candidates)
        if under_way and not waiting:
            self._quiet_since = None
            return
        now = self._clock()
        self._quiet_since = now if self._quiet_since is None else self._quiet_since
        if now - self._quiet_since >= pause and (key := await self._first_free(waiting)):
            logger.info("Rolling the newest pod template out to KimiLinearServer %s/%s", key.namespace, key.name)
            self._quiet_since, self._chosen_since = None, now
            self._attempts[key] += 1
            self.chosen.add(key)
            self._enqueue([key])

    def _drop_chosen(self, servers: Iterable[Key]) -> None:
        """Forget who was chosen and is gone, or has not taken the template for long: others wait for it."""
        self.chosen.intersection_update(servers)
        if self.chosen and self._clock() - self._chosen_since >= TAKEN_SECONDS:
            self.chosen.clear()

    async def _first_free(self, waiting: Iterable[Key]) -> Key | None:
        """Return the first server that nothing keeps as it is: others do not wait for one that comes later."""
        for number, key in enumerate(sorted(waiting, key=self._attempts.__getitem__)):
            if number % _DECODED_AT_ONCE == 0:
                await asyncio.sleep(0)
            if not (self._is_paused(key) or self._is_in_use(key)):
                return key
        return None

    def _is_paused(self, key: Key) -> bool:
        """Return whether somebody has paused the Deployment, so that a rollout would never end."""
        return bool((self.cache.get(key.of(DEPLOYMENT)) or {}).get("spec", {}).get("paused"))

    async def _marked(self, servers: Iterable[Key]) -> AsyncIterator[Key]:
        """Yield the servers that the operator gave a template by itself and that were not Ready with it yet."""
        for number, key in enumerate(servers):
            if number % _DECODED_AT_ONCE == 0:
                await asyncio.sleep(0)
            marked = [item for item in self.cache.children(REVISION, key) if AUTOMATIC_ANNOTATION in annotations(item)]
            if marked and self._owns_any(key, marked):
                yield key

    def _owns_any(self, key: Key, records: Iterable[Manifest]) -> bool:
        """Return whether any of these records is a server's own: anybody can set a label."""
        uid = (self.cache.get(key.of(SERVER)) or {"metadata": {"uid": ""}})["metadata"]["uid"]
        return any(is_owned_by(record, uid) for record in records)

    def _tell(self, candidates: list[Candidate]) -> None:
        """Count, and log once what keeps all others waiting."""
        under_way = [item for item in candidates if item.is_under_way]
        halted = [item for item in under_way if item.stalled]
        metrics.ROLLOUTS.labels("waiting").set(sum(item.is_offered for item in candidates))
        metrics.ROLLOUTS.labels("under_way").set(len(under_way))
        metrics.ROLLOUTS.labels("halted").set(len(halted))
        told = {(item.key, item.stalled) for item in halted}
        for key, reason in sorted(told - self._told):
            logger.warning(
                "KimiLinearServer %s/%s is not Ready with the newest pod template (%s): no other server gets it before",
                *(key.namespace, key.name, reason),
            )
        self._told = told
