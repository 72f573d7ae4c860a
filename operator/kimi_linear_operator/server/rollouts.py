"""Automatic rollout of new pod templates to all servers, one after the other, if the administrator has enabled it.

The state of the rollout is in the cluster: a revision has a mark until its server is Ready with it. So after a restart,
this replica or another replica continues the rollout. Suppose that a server is not Ready with the marked template of
another version. Then this server gets this version's template first, because this template may repair it.
"""

import asyncio
import logging
import math
import time
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from kimi_linear_operator import counters
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import DEPLOYMENT, Manifest
from kimi_linear_operator.kubernetes.times import seconds_between
from kimi_linear_operator.reconcile.cache import Cache
from kimi_linear_operator.reconcile.cached_object import Conditions, Key
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.server.events import WITHOUT_REPLICAS
from kimi_linear_operator.server.index import DeploymentFacts, ServerFacts, ServerIndex
from kimi_linear_operator.server.labels import ROUTER_SUFFIX
from kimi_linear_operator.server.previous_status import NOT_APPLIED
from kimi_linear_operator.server.spec import SERVER

logger = logging.getLogger(__name__)

# How often to read the cached conditions. For 5,000 servers, this takes some milliseconds.
_POLL_SECONDS = 10.0
# A chosen server normally takes the template within seconds. This is impossible if its spec is refused, if a quota or a
# taken name prevents the new revision, or if its namespace has become unreadable.
_TAKE_TIMEOUT_SECONDS = 300.0
# After a choice has timed out, the server's pass may still write the template, because a request can take half a
# minute.
_AFTER_TIMEOUT_SECONDS = 60.0
# For how long a server that serves with the new template is allowed to count as unready. Its own pass writes Ready
# within seconds.
_UNREADY_SECONDS = 60.0
# A start is late after the deadline of the Deployment, but at most after this time, because somebody else may change
# the deadline. Four hours are three times the deadline of a server with the default spec.
_LATEST_START_SECONDS = 4 * 3600.0
# With these reasons of Ready, a server needs help although Stalled is False. A Deployment that is paused or cannot be
# written never exceeds its deadline.
_HALTING = (*NOT_APPLIED, "RolloutPaused")
# Stands for a reason if a server is Ready, but its pods, or those of its router, do not stay Ready.
_NOT_STABLE = "its pods do not stay Ready"
# With these reasons of TemplateCurrent, there is no automatic rollout to the server.
_NOT_TAKEN = ("InputsUnknown", "RolledBack", "TemplateRejected")
# A message names at most this many unreadable scopes. Ten scopes are unreadable if the operator has no Role.
_MOST_NAMED = 3


@dataclass(frozen=True)
class Candidate:
    """The state of a server for the rollout.

    Attributes:
        key: The server.
        is_offered: Whether there is a newer pod template for an automatic rollout.
        is_ready: Whether it is Ready, or its spec asks for no replicas. If KEDA has scaled the server to zero before
            the server was Ready with a template of the rollout, the server is not ready.
        is_under_way: Whether it took a template in the rollout, and has not been Ready with it yet.
        stalled: Why it perhaps needs help to become Ready, empty if it does not.
        serves: Whether it is Ready. A server without replicas does not show whether the template is good.
    """

    key: Key
    is_offered: bool
    is_ready: bool
    is_under_way: bool = False
    stalled: str = ""
    serves: bool = False


def candidate(key: Key, conditions: Conditions, *, is_under_way: bool) -> Candidate:
    """Return the state of a server for the rollout, given its conditions."""
    by_type = _by_type(conditions)
    template_status, template_reason = by_type["TemplateCurrent"]
    ready_status, ready_reason = by_type["Ready"]
    stalled_status, stalled_reason = by_type["Stalled"]
    halting = template_reason if template_reason == "TemplateRejected" else ""
    halting = ready_reason if ready_reason in _HALTING else halting
    is_under_way = is_under_way or template_reason in ("RollingOutByItself", "TemplateRejected")
    is_empty = ready_reason in WITHOUT_REPLICAS and not (is_under_way and ready_reason == "ScaledToZero")
    return Candidate(
        key=key,
        is_offered=template_status == "False" and template_reason not in _NOT_TAKEN,
        is_ready=ready_status == "True" or is_empty,
        is_under_way=is_under_way,
        stalled=stalled_reason if stalled_status == "True" else halting,
        serves=ready_status == "True",
    )


def is_marked(cache: Cache, key: Key) -> bool:
    """Return whether a server took a template in the rollout, and has not been Ready with it yet.

    Such a server owns a marked revision. But anybody can create a revision with the server's label and the mark, and
    the operator cannot read every revision. So a mark is ignored if the server is Ready with its newest template. It is
    also ignored if a Ready server has left the template because the answers were wrong.

    But a mark on the record of a template with wrong answers can count: with `verification.mode: Warn`, a server keeps
    such a template. If the rollout then gives only its router a new template, the new record also has wrong answers.
    """
    server = cache.find(key.of(SERVER))
    if server is None or not isinstance(server.facts, ServerFacts):
        return False
    by_type = _by_type(server.conditions)
    is_ready, (_, reason) = by_type["Ready"][0] == "True", by_type["TemplateCurrent"]
    if is_ready and reason in ("Newest", "TemplateRejected"):
        return False
    counts_failed = not is_ready or reason == "RollingOutByItself"
    return cache.index(ServerIndex).has_mark(key.of(SERVER), server.facts.uid, counts_failed=counts_failed)


def _by_type(conditions: Conditions) -> defaultdict[str, tuple[str, str]]:
    """Return status and reason of each condition by type; they are empty if the condition is missing."""
    return defaultdict(lambda: ("", ""), {kind: (status, reason) for kind, status, reason in conditions})


def eligible(candidates: Sequence[Candidate]) -> list[Key]:
    """Return the servers that may get the newest template now, the next one first.

    If no server is under way, these are all ready servers with an offer. While servers are under way, no other server
    gets the template. There is one exception: if all servers under way are unready with another version's template,
    these servers come first.
    """
    if under_way := [item for item in candidates if item.is_under_way]:
        can_be_repaired = all(item.is_offered and not item.is_ready for item in under_way)
        return sorted(item.key for item in under_way) if can_be_repaired else []
    return sorted(item.key for item in candidates if item.is_offered and item.is_ready)


class Rollouts:
    """Chooses one server after the other for the newest pod template."""

    def __init__(self, context: Context, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without a chosen server.

        Args:
            context: The context of all reconcilers. The chosen server is in `about_to_change`. The server's next pass
                takes the newest template, and removes the server from `about_to_change`.
            clock: Returns monotonic seconds.
        """
        self.cache = context.cache
        self.chosen = context.about_to_change
        self._enqueue = context.scheduling.enqueue
        self._pause = context.options.rollout_pause
        self._is_in_use = context.is_in_use
        self._now = context.now
        self._clock = clock
        self.unreadable: Callable[[], Sequence[str]] = tuple
        """Returns what cannot be read now. Nothing is known before `run`."""
        self._quiet_since: float | None = None
        self._chosen_since = 0.0
        self._not_before = 0.0
        # Since when each server has been under way without being Ready, as far as this replica knows.
        self._unready_since: dict[Key, float] = {}
        # Since when each server has waited for its turn. If a server was chosen but could not take the template, it
        # begins to wait again. So neither such servers nor new servers go before a server that waits.
        self._waiting_since: dict[Key, float] = {}
        # How many servers of each namespace were chosen, because namespaces take turns.
        self._turns: Tally[str] = Tally()
        # The message that was logged last about what halts the rollout.
        self._logged: set[str] = set()

    async def run(self, has_read_everything: Callable[[], bool], unreadable: Callable[[], Sequence[str]]) -> None:
        """Choose servers while this replica leads. Pause while the cache is not complete.

        Args:
            has_read_everything: Returns whether everything that can be read was read.
            unreadable: Returns what cannot be read, as text for people.
        """
        if self._pause is None:
            return
        self.unreadable = unreadable
        try:
            while True:
                await asyncio.sleep(min(_POLL_SECONDS, self._pause))
                if not has_read_everything():
                    self._quiet_since = None
                    continue
                try:
                    await self.step(unreadable())
                except Exception:
                    # No server was chosen, and the next step may succeed.
                    logger.exception("Could not choose the next server for the newest pod template, trying again")
        finally:
            self._report([], [])  # The next leader starts to count again.

    def confirm(self, key: Key) -> None:
        """Drop the chosen server if a benchmark now measures it, or if it is no longer Ready.

        Also drop it if something has become unreadable, because a benchmark or a failed server could be there. The
        chosen server may have waited long for its pass.
        """
        cached = self.cache.find(key) if key in self.chosen else None
        if cached is None:
            return
        is_ready = candidate(key, cached.conditions, is_under_way=False).is_ready
        if self.unreadable() or self._is_in_use(key) or not (is_ready or is_marked(self.cache, key)):
            self.chosen.discard(key)

    async def step(self, unreadable: Sequence[str]) -> None:
        """Choose the next server if it is time.

        Args:
            unreadable: The unreadable scopes. A server in such a scope may be under way or measured, so the step
                chooses no server.
        """
        pause = self._pause or 0.0
        servers = self.cache.conditions(SERVER)
        self._drop_chosen(servers)
        if not any(candidate(*item, is_under_way=False).is_offered for item in servers.items()) and not self.chosen:
            self._report([], [])  # No server waits, so the rollout cannot be halted.
            self._waiting_since.clear()
            self._turns.clear()
            return
        under_way = {key for key in servers if is_marked(self.cache, key)} | self.chosen
        found = [candidate(*item, is_under_way=item[0] in under_way) for item in servers.items()]
        candidates = [item async for item in self._with_deadlines(found)]
        self._report(candidates, unreadable)
        now = self._clock()
        for item in candidates:
            if item.is_offered:
                self._waiting_since.setdefault(item.key, now)
        waiting = [] if self.chosen or unreadable else eligible(candidates)
        if unreadable or (not waiting and any(item.is_under_way for item in candidates)):
            # A server that serves with the new template stays marked for the whole pause. So no other pause is needed
            # when its mark is gone. If the server does not serve, for example because it was suspended after a
            # failure, the pause begins when its mark is gone.
            is_passing = any(item.is_under_way and item.serves for item in candidates)
            self._quiet_since = -math.inf if is_passing and not unreadable else None
            return
        self._quiet_since = now if self._quiet_since is None else self._quiet_since
        is_time = now >= max(self._quiet_since + pause, self._not_before)
        if is_time and (key := await self._first_free(waiting)):
            logger.info("Rolling out the newest pod template to KimiLinearServer %s/%s", key.namespace, key.name)
            self._quiet_since, self._chosen_since = None, now
            self._waiting_since[key] = now
            self._turns[key.namespace] += 1
            self.chosen.add(key)
            self._enqueue([key])

    def _drop_chosen(self, servers: Collection[Key]) -> None:
        """Drop the chosen server if it was deleted or has not taken the template in time.

        The other servers wait for it.
        """
        self.chosen.intersection_update(servers)
        self.chosen.difference_update([key for key in self.chosen if self._is_being_deleted(key)])
        for key in self._waiting_since.keys() - servers:
            del self._waiting_since[key]
        if self.chosen and self._clock() - self._chosen_since >= _TAKE_TIMEOUT_SECONDS:
            self.chosen.clear()
            self._not_before = self._clock() + _AFTER_TIMEOUT_SECONDS

    async def _first_free(self, waiting: Iterable[Key]) -> Key | None:
        """Return the first server that can be changed now, None if there is none."""
        order = sorted(waiting, key=lambda key: (self._waiting_since[key], self._turns[key.namespace]))
        for key in order:
            await asyncio.sleep(0)  # the search for Jobs of its benchmarks may take milliseconds
            is_stuck = self._is_paused(key) or self._has_deleted_deployment(key) or self._is_being_deleted(key)
            if not is_stuck and not self._is_in_use(key):
                return key
        return None

    def _is_being_deleted(self, key: Key) -> bool:
        """Return whether a server is being deleted. If a finalizer keeps such a server, its rollout never ends."""
        server = self.cache.find(key)
        return server is not None and isinstance(server.facts, ServerFacts) and server.facts.is_being_deleted

    async def _with_deadlines(self, candidates: Sequence[Candidate]) -> AsyncIterator[Candidate]:
        """Yield the candidates that are not being deleted, as stalled if they have been under way for too long."""
        unready = {item.key for item in candidates if item.is_under_way and not item.is_ready}
        self._unready_since = {key: self._unready_since.get(key, self._clock()) for key in unready}
        for item in candidates:
            if not item.is_under_way:
                yield item
            elif not self._is_being_deleted(item.key):
                yield await self._with_deadline(item)

    async def _with_deadline(self, server: Candidate) -> Candidate:
        """Return the candidate, as stalled if it has been under way for too long although Stalled is False."""
        if server.stalled or server.key in self.chosen:
            return server  # A chosen server has a deadline of its own.
        if server.is_ready:
            # By now, its pods should have been Ready for the whole pause.
            seconds = 2 * (self._pause or 0.0) + _UNREADY_SECONDS
            is_late = await self._were_available_before(server.key, seconds)
            return replace(server, stalled=_NOT_STABLE) if is_late else server
        if self._is_paused(server.key):
            return replace(server, stalled="RolloutPaused")
        if await self._is_late(server.key):
            cached = self.cache.find(server.key)
            _, reason = _by_type(cached.conditions if cached else ())["Ready"]
            return replace(server, stalled=reason or "Unknown")
        return server

    async def _is_late(self, key: Key) -> bool:
        """Return whether a server that is not Ready has had enough time.

        If all its replicas serve, for example because its router does not, no replica has to start. Otherwise the
        server has the time of a start. The reason does not matter. For example, a server whose pods wait in a queue is
        not Stalled, but all other servers wait with it.
        """
        deployment = await self._read(key.of(DEPLOYMENT))
        if _progress(deployment).get("reason") == "ProgressDeadlineExceeded":
            return True
        if _has_all_replicas(deployment):
            return _was_available_before(deployment, _UNREADY_SECONDS, self._now())
        seconds: float = deployment.get("spec", {}).get("progressDeadlineSeconds", _LATEST_START_SECONDS)
        return self._clock() - self._unready_since[key] >= min(seconds, _LATEST_START_SECONDS)

    async def _were_available_before(self, key: Key, seconds: float) -> bool:
        """Return whether the rollouts of a server's replicas and of its router have been complete for some time."""
        return all([await self._was_available_before(item, seconds) for item in self._deployments(key)])

    async def _was_available_before(self, deployment: Key, seconds: float) -> bool:
        return _was_available_before(await self._read(deployment), seconds, self._now())

    async def _read(self, deployment: Key) -> Manifest:
        """Return a Deployment, empty if it does not exist."""
        await asyncio.sleep(0)  # the next line decodes an object, and thousands of servers may be under way
        return self.cache.get(deployment) or {}

    def _deployments(self, key: Key) -> list[Key]:
        """Return the keys of a server's Deployment and, if it has a router, of the router's Deployment."""
        of_router = key._replace(name=key.name + ROUTER_SUFFIX).of(DEPLOYMENT)
        router = self.cache.find(of_router)
        return [key.of(DEPLOYMENT), *([of_router] if router and router.owner == key else [])]

    def _is_paused(self, key: Key) -> bool:
        """Return whether somebody has paused a Deployment of the server, so that its rollout never ends."""
        found = map(self.cache.find, self._deployments(key))
        facts = [item.facts for item in found if item is not None]
        return any(isinstance(item, DeploymentFacts) and item.is_paused for item in facts)

    def _has_deleted_deployment(self, key: Key) -> bool:
        """Return whether somebody has deleted a Deployment of the server. If a finalizer holds it, it never changes."""
        found = map(self.cache.find, self._deployments(key))
        return any(item is not None and item.deletion is not None for item in found)

    def _report(self, candidates: Sequence[Candidate], unreadable: Sequence[str]) -> None:
        """Set the metrics, and log once what halts the rollout."""
        under_way = [item for item in candidates if item.is_under_way]
        halts = {_stalled_message(item) for item in under_way if item.stalled}
        if unreadable:
            halts.add(_unreadable_message(unreadable))
        counters.ROLLOUTS.labels("waiting").set(sum(item.is_offered for item in candidates))
        counters.ROLLOUTS.labels("under_way").set(len(under_way))
        counters.ROLLOUTS.labels("halted").set(len(halts))
        for message in sorted(halts - self._logged):
            logger.warning("%s", message)
        self._logged = halts


def _was_available_before(deployment: Manifest, seconds: float, now: str) -> bool:
    """Return whether a Deployment's rollout has been complete for more than some seconds.

    After that, no deadline applies.

    Args:
        deployment: The Deployment.
        seconds: The number of seconds.
        now: The time as RFC 3339.
    """
    observed = deployment.get("status", {}).get("observedGeneration", 0)
    is_observed = observed >= deployment.get("metadata", {}).get("generation", 0)
    progress = _progress(deployment)
    age = seconds_between(progress.get("lastUpdateTime"), now)
    is_complete = progress.get("reason") == "NewReplicaSetAvailable"
    return bool(is_observed and is_complete and age is not None and age > seconds)


def _has_all_replicas(deployment: Manifest) -> bool:
    available = deployment.get("status", {}).get("availableReplicas", 0)
    return bool(available >= deployment.get("spec", {}).get("replicas", 0))


def _progress(deployment: Manifest) -> Manifest:
    """Return a Deployment's condition Progressing, empty if it has none."""
    return find_condition(deployment.get("status", {}), "Progressing")


def _stalled_message(server: Candidate) -> str:
    name = f"{server.key.namespace}/{server.key.name}"
    return (
        f"KimiLinearServer {name} has not settled with the newest pod template ({server.stalled}), so the other "
        "servers wait"
    )


def _unreadable_message(unreadable: Sequence[str]) -> str:
    more = len(unreadable) - _MOST_NAMED
    named = ", ".join(unreadable[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return (
        f"No server gets the newest pod template while the operator cannot read {named}, because a server there may be "
        "taking this template now. Restore the operator's Role or the definition. If a namespace no longer exists, "
        "remove it from watchNamespaces (--namespace)"
    )
