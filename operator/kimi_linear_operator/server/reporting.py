"""Reports the result of a pass over a server: writes its status and an Event, and counts how long a start took."""

from kimi_linear_operator import counters
from kimi_linear_operator.kubernetes.conditions import Reason
from kimi_linear_operator.kubernetes.deletion import seconds_until_named
from kimi_linear_operator.kubernetes.kinds import AUTOSCALER, BENCHMARK, REVISION, SCALED_OBJECT, Manifest
from kimi_linear_operator.kubernetes.times import soonest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.server import revision
from kimi_linear_operator.server.events import contested_event, transition_event, verified_event
from kimi_linear_operator.server.manifests import CHILDREN, OPTIONAL_CHILDREN
from kimi_linear_operator.server.observation import ServerObservation
from kimi_linear_operator.server.outcome import Outcome
from kimi_linear_operator.server.owned import (
    kedas_autoscaler,
    own_child,
    own_deployment,
    own_pods,
    own_router,
    own_routes,
)
from kimi_linear_operator.server.previous_status import was_recorded
from kimi_linear_operator.server.sleeping import keda_of
from kimi_linear_operator.server.spec import SERVER, KimiLinearServer
from kimi_linear_operator.server.start_logs import StartLogs
from kimi_linear_operator.server.startup import newest_pod, seconds_to_serve, seconds_until_late
from kimi_linear_operator.server.status import server_status

_KINDS = (*CHILDREN, *OPTIONAL_CHILDREN, BENCHMARK)


class ServerReporting:
    """Writes the statuses of servers."""

    def __init__(self, context: Context, start_logs: StartLogs) -> None:
        """Take the context that all reconcilers share, and the logs of pods that start."""
        self._cache = context.cache
        self._children = context.children
        self._reporting = context.reporting
        self._now = context.now
        self._start_logs = start_logs

    async def report(self, key: Key, manifest: Manifest, outcome: Outcome, not_applied: Reason | None) -> float | None:
        """Write the status if it changed; return the seconds until the next pass, None if none is due.

        Args:
            key: The server.
            manifest: The server as it is stored.
            outcome: The result of the pass.
            not_applied: Why the spec was not applied, None if it was.

        Raises:
            ApiError: The status could not be written, and a later attempt may succeed.
        """
        uid = manifest["metadata"]["uid"]
        pods = own_pods(self._cache, key)
        observation = ServerObservation(
            manifest,
            outcome.server,
            not_applied,
            deployment=own_deployment(self._cache, key, uid),
            is_recorded=self._is_recorded(key, uid, outcome),
            pods=pods,
            choice=outcome.decision.choice if outcome.decision else None,
            autoscaler=self._autoscaler(key, uid, outcome),
            scaled_object=own_child(self._cache, SCALED_OBJECT, key, uid) if _is_scaled_by_keda(outcome) else None,
            may_grow=not outcome.until_more,
            contested=outcome.contested,
            router=own_router(self._cache, key, uid) if _has_router(outcome.server) else None,
            logged=self._start_logs.follow(key, newest_pod(pods)),
            withheld=outcome.withheld,
            awaited=outcome.awaited,
            routes=own_routes(self._cache, key, outcome.server),
            held=self._children.held(key, uid, _KINDS),
        )
        status = server_status(observation, self._now())
        builders = (verified_event, transition_event, contested_event)
        event = next((event for build in builders if (event := build(manifest, status, self._now()))), None)
        # Later, the time of this status shows which fields the spec already had: see `unrequested.py`.
        is_recorded = outcome.is_seen or was_recorded(status, observation.generation)
        again = await self._reporting.write(SERVER, manifest, status, event, if_unchanged=is_recorded)
        self._count_start(key, manifest, status)
        late = seconds_until_late(status.get("startup"), observation.startup_seconds, self._now())
        return soonest([again, late, seconds_until_named(observation.held, self._now())])

    def _autoscaler(self, key: Key, uid: str, outcome: Outcome) -> Manifest | None:
        """Return the live HorizontalPodAutoscaler of a server, or KEDA's if KEDA scales the server."""
        if _is_scaled_by_keda(outcome):
            return kedas_autoscaler(self._cache, key)
        return own_child(self._cache, AUTOSCALER, key, uid) if _is_autoscaled(outcome) else None

    def _is_recorded(self, key: Key, uid: str, outcome: Outcome) -> bool:
        """Return whether the cache has the record of the chosen pod template."""
        if outcome.decision is None:
            return False
        name = revision.record_name(key.name, outcome.decision.choice.current.number)
        record = self._cache.find(Key(key.namespace, name, REVISION))
        return record is not None and uid in record.owners

    def _count_start(self, key: Key, manifest: Manifest, status: Manifest) -> None:
        """Count a start that has just become complete, after its status was written."""
        seconds = seconds_to_serve(manifest.get("status", {}).get("startup"), status.get("startup"))
        written = self._cache.get(key.of(SERVER)) or {}
        if seconds is not None and written.get("status") == status:
            counters.SECONDS_TO_SERVE.observe(seconds)


def _has_router(server: KimiLinearServer | None) -> bool:
    return server is not None and server.spec.router is not None


def _is_autoscaled(outcome: Outcome) -> bool:
    return bool(outcome.server and outcome.server.spec.autoscaling)


def _is_scaled_by_keda(outcome: Outcome) -> bool:
    return outcome.server is not None and keda_of(outcome.server.spec) is not None
