"""Verifies the pod templates of servers: starts benchmarks, keeps their results, and opens the gates of pods."""

import logging
from dataclasses import replace

from kimi_linear_operator.cluster.errors import ApiError
from kimi_linear_operator.kubernetes.kinds import BENCHMARK, POD, REVISION, Manifest
from kimi_linear_operator.reconcile.cached_object import Key
from kimi_linear_operator.reconcile.resource_type import Context
from kimi_linear_operator.server import gate, revision, verification
from kimi_linear_operator.server.revision import Revision
from kimi_linear_operator.server.spec import KimiLinearServer
from kimi_linear_operator.server.template_choice import TemplateChoice
from kimi_linear_operator.server.templates import is_served_with

_CONFLICT = 409

logger = logging.getLogger(__name__)


class Verifying:
    """Verifies the current pod template of each server that asks for it, once."""

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
        """Return the choice with what is known about the answers of its current template, also of one just verified."""
        if not verification.is_on(server.spec):
            return choice
        known = verification.verified(
            server,
            choice.current,
            self._cache.children(BENCHMARK, key, server.metadata.uid),
            self._cache.children(POD, key),
            is_complete=is_served_with(live, choice.current),
        )
        return replace(choice, current=replace(choice.current, result=known.result), verification=known)

    async def proceed(self, key: Key, server: KimiLinearServer, choice: TemplateChoice) -> None:
        """Start the benchmark that is wanted, delete those that are not, and open the gates of verified pods.

        Args:
            key: The server.
            server: The same.
            choice: Its pod template, with what is known about the answers.

        Raises:
            ApiError: A write failed.
        """
        known = choice.verification
        kept = known.kept if known else []
        await self._children.prune(server, key, (BENCHMARK,), kept)
        if known and known.wanted:
            await self._start(known.wanted)
        if gate.has_gate(server.spec):
            await self._open_gates(key, server, choice.current)

    async def _start(self, benchmark: Manifest) -> None:
        """Create a benchmark. One with its name has been started already, and the cache does not show it yet."""
        try:
            # The watch event brings nothing new then, so the benchmark is enqueued here.
            self._enqueue(self._cache.put(BENCHMARK, await self._cluster.create(BENCHMARK, benchmark)))
        except ApiError as error:
            if error.status != _CONFLICT:
                raise
        logger.info("Created KimiLinearBenchmark %s", benchmark["metadata"]["name"])

    async def _open_gates(self, key: Key, server: KimiLinearServer, current: Revision) -> None:
        """Open the gates of pods with a verified template: the current one, whose result is just being written, too."""
        records = self._cache.children(REVISION, key, server.metadata.uid)
        revisions = [readable for record in records if (readable := revision.read(record))]
        for pod in gate.pods_to_open([*revisions, current], self._cache.children(POD, key)):
            self._cache.put(POD, await self._cluster.set_condition(POD, pod, gate.opened(self._now())))
            logger.info("Opened the readiness gate of pod %s/%s", key.namespace, pod["metadata"]["name"])
