"""Verifies the pod templates of servers: starts benchmarks, keeps their results, and opens the gates of pods."""

import logging
from collections.abc import Iterable
from dataclasses import replace

from kimi_linear_operator.cluster.errors import CONFLICT, ApiError
from kimi_linear_operator.kubernetes import metadata
from kimi_linear_operator.kubernetes.conditions import find_condition
from kimi_linear_operator.kubernetes.kinds import BENCHMARK, POD, REVISION, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.server import gate, revision, verification
from kimi_linear_operator.server.index import ServerIndex
from kimi_linear_operator.server.observation import is_served_with
from kimi_linear_operator.server.outcome import growing_seconds
from kimi_linear_operator.server.owned import own_deployment, own_pods
from kimi_linear_operator.server.revision import Revision
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.template_choice import TemplateChoice
from kimi_linear_operator.server.verification import Observed, Verified

logger = logging.getLogger(__name__)


class Verifying:
    """Verifies the current pod template once, for each server that asks for verification."""

    def __init__(self, context: Context) -> None:
        """Take the context that all reconcilers share."""
        self._cluster = context.cluster
        self._cache = context.cache
        self._children = context.children
        self._now = context.now
        self._enqueue = context.scheduling.enqueue

    def judge(
        self, key: Key, server: KimiLinearServer, choice: TemplateChoice, live: Manifest | None
    ) -> TemplateChoice:
        """Return the choice with the newest state of the verification of its current template."""
        if not verification.is_on(server.spec):
            return choice
        observed = Observed(
            server,
            self._cache.children(BENCHMARK, key, server.metadata.uid),
            own_pods(self._cache, key),
            is_served_with(live, choice.current),
            self._now(),
        )
        known = verification.verified(observed, choice.current)
        return replace(choice, current=replace(choice.current, result=known.result), verification=known)

    async def proceed(self, key: Key, server: KimiLinearServer, known: Verified | None) -> Verified | None:
        """Start the wanted benchmark, and delete the benchmarks that are no longer wanted.

        Args:
            key: The key of the server.
            server: The server.
            known: The state of the verification, None if the server is not verified.

        Returns:
            The state of the verification, with the obstacle if the benchmark could not be created.

        Raises:
            ApiError: A write failed that may succeed later.
        """
        await self._keep_only(key, server, known.kept if known else ())
        if known is None or known.wanted is None:
            return known
        try:
            await self._start(server, known.wanted)
        except ApiError as error:
            if error.is_passing:
                raise
            again = growing_seconds(find_condition(server.status, "Verified"), self._now())
            return replace(known, obstacle=error.message, again=again)
        return known

    async def stop(self, key: Key, server: KimiLinearServer) -> None:
        """Delete the benchmarks of a verification that the spec no longer asks for.

        Raises:
            ApiError: A benchmark could not be deleted.
        """
        if not verification.is_on(server.spec):
            await self._keep_only(key, server, ())

    async def _keep_only(self, key: Key, server: KimiLinearServer, kept: Iterable[Manifest]) -> None:
        """Delete the benchmarks with which the server was verified, except for these."""
        found = self._cache.children(BENCHMARK, key, server.metadata.uid)
        others = [item for item in found if not verification.is_verification(item)]
        await self._children.prune(server, key, (BENCHMARK,), [*others, *kept])

    async def _start(self, server: KimiLinearServer, benchmark: Manifest) -> None:
        """Create a benchmark. If it exists and only the cache does not show it yet, change nothing."""
        try:
            created = await self._cluster.create(BENCHMARK, benchmark)
        except ApiError as error:
            if error.status != CONFLICT:
                raise
            about = benchmark["metadata"]
            live = await self._cluster.get(BENCHMARK, about["namespace"], about["name"])
            if live is None or not metadata.is_owned_by(live, server.metadata.uid):
                raise
            created = live
        # The cache has the benchmark now, so the watch event will bring no change. So the benchmark is enqueued here.
        self._enqueue(self._cache.put(BENCHMARK, created))
        logger.info("Created KimiLinearBenchmark %s", benchmark["metadata"]["name"])

    async def open_gates(self, key: Key, uid: str, current: Revision | None = None) -> None:
        """Open the gates of pods with a verified template.

        Args:
            key: The server.
            uid: Its UID.
            current: Its current revision, whose result is being written now; None if the pass has not decided on one.

        Raises:
            ApiError: A gate could not be opened. The other gates are still opened.
        """
        if not self._cache.index(ServerIndex).has_gates(key):
            return  # Most servers have no gates. Then the pass reads no pod for this.
        deployed = revision.number_on(own_deployment(self._cache, key, uid))
        revisions = revision.read_all(revision.newest(self._cache.children(REVISION, key, uid), deployed))
        errors = []
        for pod in gate.pods_to_open([*revisions, *([current] if current else [])], own_pods(self._cache, key)):
            try:
                self._cache.put(POD, await self._cluster.set_condition(POD, pod, gate.opened(self._now())))
                logger.info("Opened the readiness gate of pod %s/%s", key.namespace, pod["metadata"]["name"])
            except ApiError as error:
                errors.append(error)
        if errors:
            raise errors[0]
